//! Curves as SVG. A chart is text: it is drawn anew at every step, and the browser is faster with one text than with
//! hundreds of elements that are kept track of.

use attune::curves::{Point, grid, thinned};
use leptos::prelude::*;
use std::fmt::Write;

/// Points drawn of a line at most: more than pixels help nobody.
const MOST_POINTS: usize = 700;
/// Marks drawn on a line at most.
const MOST_MARKS: usize = 30;
/// Screens narrower than this get charts with larger letters.
const NARROW: f64 = 640.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 24.0;

/// How large a chart is among its neighbours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Main,
    Small,
}

/// A line of a chart.
pub struct Line {
    /// Its look, as the style sheet knows it.
    pub class: String,
    pub points: Vec<Point>,
    /// What its points are marked with, so that lines differ by more than colour.
    pub mark: Option<usize>,
    /// What stands at its end.
    pub label: String,
}

impl Line {
    pub fn new(class: &str, points: Vec<Point>) -> Self {
        Self { class: class.into(), points, mark: None, label: String::new() }
    }
}

/// Whether the screen is a phone's; followed by whatever is drawn.
pub fn narrow() -> RwSignal<bool> {
    let is_narrow =
        || window().inner_width().ok().and_then(|width| width.as_f64()).is_some_and(|w| w < NARROW);
    let signal = RwSignal::new(is_narrow());
    let listener = window_event_listener(leptos::ev::resize, move |_| signal.set(is_narrow()));
    on_cleanup(move || listener.remove());
    signal
}

/// Where things are drawn.
pub struct Frame {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    last_step: f64,
    low: f64,
    high: f64,
}

impl Frame {
    fn new(size: Size, is_narrow: bool, last_step: usize) -> Self {
        let (width, height) = match (size, is_narrow) {
            (Size::Main, false) => (720.0, 260.0),
            (Size::Main, true) => (360.0, 240.0),
            (Size::Small, _) => (360.0, 150.0),
        };
        let last_step = last_step.max(1) as f64;
        Self { width, height, left: 50.0, right: 20.0, last_step, low: 0.0, high: 1.0 }
    }

    fn x(&self, step: f64) -> f64 {
        self.left + (self.width - self.left - self.right) * (step / self.last_step)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (self.height - TOP - BOTTOM) * (1.0 - (value - self.low) / (self.high - self.low))
    }

    fn path(&self, points: &[Point]) -> String {
        let mut path = String::new();
        for (index, &(step, value)) in points.iter().enumerate() {
            let verb = if index == 0 { 'M' } else { 'L' };
            _ = write!(path, "{verb}{:.1} {:.1}", self.x(step), self.y(value));
        }
        path
    }
}

/// Size of the drawing, for `viewBox`.
pub fn view_box(size: Size, is_narrow: bool) -> String {
    let frame = Frame::new(size, is_narrow, 1);
    format!("0 0 {} {}", frame.width, frame.height)
}

/// What is inside the `svg`: grid, lines, marks, and a line at `cursor`.
pub fn draw(size: Size, is_narrow: bool, last_step: usize, lines: &[Line], cursor: Option<usize>) -> String {
    let mut frame = Frame::new(size, is_narrow, last_step);
    let values = || lines.iter().flat_map(|line| &line.points).map(|point| point.1).filter(|v| v.is_finite());
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
    let step =
        grid((high - low).max(high.abs() * 1e-3).max(1e-12), if size == Size::Main { 5.0 } else { 3.0 });
    frame.low = (low / step).floor() * step;
    frame.high = ((high / step).ceil() * step).max(frame.low + step);
    let mut out = String::new();
    let n_lines = ((frame.high - frame.low) / step).round() as usize;
    for index in 0..=n_lines {
        let value = frame.low + step * index as f64;
        let y = frame.y(value);
        let (left, right) = (frame.left, frame.width - frame.right);
        _ = write!(
            out,
            r#"<path class="grid" d="M{left} {y:.1}H{right}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            left - 8.0,
            y + 4.0,
            tick(value, step)
        );
    }
    let every = grid(frame.last_step, if frame.width > 400.0 { 8.0 } else { 4.0 }).max(1.0);
    for index in 0..=(frame.last_step / every) as usize {
        let step = every * index as f64;
        let (x, y) = (frame.x(step), frame.height - 6.0);
        _ = write!(out, r#"<text class="tick" x="{x:.1}" y="{y}" text-anchor="middle">{step}</text>"#);
    }
    if let Some(at) = cursor {
        let (x, bottom) = (frame.x(at as f64), frame.height - BOTTOM);
        _ = write!(out, r#"<path class="cursor" d="M{x:.1} {TOP}V{bottom}"/>"#);
    }
    let mut labels = Vec::new();
    for line in lines {
        let points: Vec<Point> = line.points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
        let values: Vec<f64> = points.iter().map(|point| point.1).collect();
        let shown: Vec<Point> =
            thinned(&values, MOST_POINTS).into_iter().map(|index| points[index]).collect();
        _ = write!(out, r#"<path class="line {}" d="{}"/>"#, line.class, frame.path(&shown));
        if let Some(kind) = line.mark {
            let every = points.len().div_ceil(MOST_MARKS).max(1);
            // Counted from the end: the last one is looked at most.
            for &(step, value) in points.iter().rev().step_by(every) {
                _ = write!(
                    out,
                    r#"<path class="mark {}" d="{}"/>"#,
                    line.class,
                    mark(kind, frame.x(step), frame.y(value))
                );
            }
        }
        if let (false, Some(&(step, value))) = (line.label.is_empty(), points.last()) {
            labels.push((frame.x(step) + 5.0, frame.y(value) + 4.0, &line.label, &line.class));
        }
    }
    // Labels that would cover each other stand below each other.
    labels.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut lowest = f64::NEG_INFINITY;
    for (x, y, label, class) in labels {
        let y = if y < lowest + 13.0 && lowest.is_finite() { lowest + 13.0 } else { y };
        lowest = y;
        _ = write!(out, r#"<text class="end {class}" x="{x:.1}" y="{y:.1}">{label}</text>"#);
    }
    out
}

/// Circle, square, diamond, triangle, cross, bar around a point, as a path.
pub fn mark(kind: usize, x: f64, y: f64) -> String {
    match kind % 6 {
        0 => format!("M{:.1} {y:.1}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0", x - 3.5),
        1 => format!("M{:.1} {:.1}h6v6h-6z", x - 3.0, y - 3.0),
        2 => format!("M{x:.1} {:.1}l4.5 4.5l-4.5 4.5l-4.5 -4.5z", y - 4.5),
        3 => format!("M{x:.1} {:.1}l4.5 7.5h-9z", y - 4.5),
        4 => format!("M{:.1} {:.1}l7 7m0 -7l-7 7", x - 3.5, y - 3.5),
        _ => format!("M{x:.1} {:.1}v8m-4 -4h8", y - 4.0),
    }
}

/// A value on a grid of that distance, with as many decimals as the grid needs.
fn tick(value: f64, step: f64) -> String {
    let value = if value.abs() < step / 2.0 { 0.0 } else { value };
    if value != 0.0 && step < 5e-3 {
        // The power of the largest value on the grid keeps it short: 1.5e-4.
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let decimals = (-step.log10().floor()).clamp(0.0, 3.0) as usize;
    if value == 0.0 { "0".into() } else { format!("{value:.decimals$}") }
}

/// The step that the pointer is at.
pub fn step_at(
    event: &leptos::ev::PointerEvent,
    size: Size,
    is_narrow: bool,
    last_step: usize,
) -> Option<usize> {
    use wasm_bindgen::JsCast;
    let target = event.current_target()?.dyn_into::<web_sys::Element>().ok()?;
    let bounds = target.get_bounding_client_rect();
    let frame = Frame::new(size, is_narrow, last_step);
    let x = (f64::from(event.client_x()) - bounds.left()) / bounds.width().max(1.0) * frame.width;
    let share = (x - frame.left) / (frame.width - frame.left - frame.right);
    Some((share.clamp(0.0, 1.0) * frame.last_step).round() as usize)
}
