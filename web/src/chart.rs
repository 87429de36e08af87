//! The loss as a curve.

use crate::state::Page;
use leptos::prelude::*;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 46.0;
const BOTTOM: f64 = 26.0;
const TOP: f64 = 18.0;
const RIGHT: f64 = 10.0;

/// Points drawn at most: more than pixels help nobody.
const MOST_POINTS: usize = 800;

/// Share of the old value in the smoothed curve.
const SMOOTHING: f64 = 0.85;

/// How data becomes pixels.
struct Scale {
    last_step: f64,
    low: f64,
    high: f64,
}

impl Scale {
    fn x(&self, step: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (step / self.last_step.max(1.0))
    }

    fn y(&self, loss: f64) -> f64 {
        let span = (self.high - self.low).max(1e-9);
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (loss - self.low) / span)
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (index, &(step, loss)) in points.iter().enumerate() {
            let verb = if index == 0 { 'M' } else { 'L' };
            path.push_str(&format!("{verb}{:.1} {:.1}", self.x(step), self.y(loss)));
        }
        path
    }
}

/// Loss by step: every step, smoothed, and held out.
#[component]
pub fn LossChart(page: Page) -> impl IntoView {
    let drawing = move || {
        let (points, total) = page.steps.with(|steps| {
            let every = steps.len().div_ceil(MOST_POINTS).max(1);
            let points: Vec<_> =
                steps.iter().step_by(every).map(|step| (step.step as f64, step.loss)).collect();
            (points, steps.last().map_or(1, |step| step.total_steps))
        });
        let evals: Vec<_> =
            page.evals.with(|evals| evals.iter().map(|eval| (eval.step as f64, eval.eval_loss)).collect());
        draw(&points, &evals, total)
    };
    let label = move || {
        page.steps.with(|steps| match (steps.first(), steps.last()) {
            (Some(first), Some(last)) => {
                format!(
                    "Loss from {:.3} at step {} to {:.3} at step {}",
                    first.loss, first.step, last.loss, last.step
                )
            }
            _ => "Loss; no step yet".to_string(),
        })
    };
    view! {
        <figure class="chart">
            <svg viewBox=format!("0 0 {WIDTH} {HEIGHT}") role="img" aria-label=label>{drawing}</svg>
            <figcaption class="legend">
                <span class="key raw">"each step"</span>
                <span class="key smooth">"smoothed"</span>
                <Show when=move || page.evals.with(|evals| !evals.is_empty())>
                    <span class="key held">"held out"</span>
                </Show>
            </figcaption>
        </figure>
    }
}

fn draw(points: &[(f64, f64)], evals: &[(f64, f64)], total: usize) -> impl IntoView + use<> {
    let values = || points.iter().chain(evals).map(|&(_, loss)| loss);
    let (mut low, mut high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    if !low.is_finite() {
        (low, high) = (0.0, 1.0);
    }
    let step = tick(high - low);
    let scale = Scale {
        last_step: total as f64,
        low: (low / step).floor() * step,
        high: ((high / step).ceil() * step).max(low + step),
    };
    let n_lines = ((scale.high - scale.low) / step).round() as usize;
    let lines = (0..=n_lines).map(|index| {
        let value = scale.low + step * index as f64;
        let y = scale.y(value);
        let decimals = if step < 0.095 { 2 } else { 1 };
        view! {
            <line class="grid" x1=LEFT x2=WIDTH - RIGHT y1=y y2=y />
            <text class="tick" x=LEFT - 8.0 y=y + 4.0 text-anchor="end">{format!("{value:.decimals$}")}</text>
        }
    });
    let steps = [0, total / 2, total].map(|step| {
        let anchor = if step == total { "end" } else { "middle" };
        view! { <text class="tick" x=scale.x(step as f64) y=HEIGHT - 6.0 text-anchor=anchor>{step}</text> }
    });
    // An average that begins at 0 is as much too low as its weights fall short of 1 (1412.6980).
    let (mut average, mut weight) = (0.0, 0.0);
    let smooth: Vec<_> = points
        .iter()
        .map(|&(step, loss)| {
            average = SMOOTHING * average + (1.0 - SMOOTHING) * loss;
            weight = SMOOTHING * weight + (1.0 - SMOOTHING);
            (step, average / weight)
        })
        .collect();
    let dots = evals
        .iter()
        .map(|&(step, loss)| view! { <circle class="held" cx=scale.x(step) cy=scale.y(loss) r=3 /> });
    view! {
        {lines.collect_view()}
        {steps.into_iter().collect_view()}
        <path class="raw" d=scale.path(points) />
        <path class="smooth" d=scale.path(&smooth) />
        <path class="held" d=scale.path(evals) />
        {dots.collect_view()}
    }
}

/// Distance of grid lines: 1, 2 or 5 times a power of ten, about four to a chart.
fn tick(span: f64) -> f64 {
    let rough = (span / 4.0).max(1e-6);
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
    factor * power
}
