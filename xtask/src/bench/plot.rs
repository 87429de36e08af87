//! Ratios as horizontal bars in an SVG that is read on light and on dark ground.
//!
//! Ratios are drawn on a logarithmic axis with 1 in its place: twice as fast and half as fast are equally far from it.

use super::cases::Targets;
use super::figures::{Compared, Rival, Spread};

const WIDTH: f64 = 920.0;
/// Where the names of the sides begin, right of the cases'.
const NAMES: f64 = 166.0;
const ROW: f64 = 30.0;
const TOP: f64 = 84.0;
/// Where the bars of both panels begin and end; their figures stand behind them.
const PANELS: [(f64, f64); 2] = [(310.0, 490.0), (640.0, 800.0)];

/// Colours are plain values, not variables: viewers outside browsers know no others.
const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #16211f; }
.soft { fill: #56635f; font-size: 12px; }
.strong { font-weight: 600; }
.ground { fill: #ffffff; }
.grid { stroke: #d9dedc; }
.bar { fill: #0b6e66; }
.pale { fill: #8fc7c0; }
.range { stroke: #16211f; stroke-width: 1.5; }
.target { stroke: #a8261c; stroke-width: 1.5; stroke-dasharray: 4 3; }
.target-word { fill: #a8261c; font-size: 12px; }
@media (prefers-color-scheme: dark) {
text { fill: #e6ecea; }
.soft { fill: #9daba7; }
.ground { fill: #101615; }
.grid { stroke: #2e3937; }
.bar { fill: #4fc3b5; }
.pale { fill: #2c736b; }
.range { stroke: #e6ecea; }
.target { stroke: #ff9a8f; }
.target-word { fill: #ff9a8f; }
}";

/// A logarithmic axis between two powers of two.
struct Scale {
    low: f64,
    high: f64,
    left: f64,
    right: f64,
}

impl Scale {
    /// Holds 1 and all the values, with at least a power of two on each side.
    fn around(values: impl Iterator<Item = f64>, (left, right): (f64, f64)) -> Self {
        let logs = values.filter(|value| value.is_finite() && *value > 0.0).map(f64::log2);
        let (low, high) = logs.fold((-1.0_f64, 1.0_f64), |(low, high), log| (low.min(log), high.max(log)));
        Self { low: low.floor(), high: high.ceil(), left, right }
    }

    fn x(&self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE).log2() - self.low) / (self.high - self.low);
        self.left + share.clamp(0.0, 1.0) * (self.right - self.left)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.low as i32..=self.high as i32).map(|power| 2_f64.powi(power))
    }
}

/// What a panel draws of a side.
type SpreadOf = fn(&Rival) -> Option<Spread>;
/// What a panel has to reach.
type TargetOf = fn(&Targets) -> Option<f64>;

/// The picture of these cases; `title` says what was measured on what.
pub fn svg(title: &str, compared: &[Compared]) -> String {
    let rows: Vec<(&str, &Rival)> = compared
        .iter()
        .flat_map(|case| case.rivals.iter().map(|rival| (case.name.as_str(), rival)))
        .collect();
    let height = TOP + ROW * rows.len() as f64 + 34.0;
    let bottom = height - 34.0;
    let mut body = String::new();
    let targets: Vec<Targets> =
        compared.iter().flat_map(|case| case.rivals.iter().map(|_| case.targets)).collect();
    let panels: [(&str, SpreadOf, TargetOf); 2] = [
        ("times as fast (more is better)", |rival| Some(rival.speed), |targets| targets.speed),
        ("share of memory (less is better)", |rival| rival.memory, |targets| targets.memory),
    ];
    for ((heading, spread_of, target_of), panel) in panels.iter().zip(PANELS) {
        let spreads = || rows.iter().filter_map(|(_, rival)| spread_of(rival));
        let values = spreads().flat_map(|spread| [spread.min, spread.max]);
        let scale = Scale::around(values.chain(targets.iter().filter_map(target_of)), panel);
        body += &text(panel.0, 50.0, "strong", heading);
        for tick in scale.ticks() {
            let x = scale.x(tick);
            body += &line((x, TOP - 6.0), (x, bottom), "grid");
            body += &middle(x, bottom + 16.0, "soft", &tick_text(tick));
        }
        for (at, (_, rival)) in rows.iter().enumerate() {
            if let Some(spread) = spread_of(rival) {
                body +=
                    &bar(&scale, TOP + ROW * at as f64, spread, if rival.counts { "bar" } else { "pale" });
                if let Some(target) = target_of(&targets[at]).filter(|_| rival.counts) {
                    let (x, top) = (scale.x(target), TOP + ROW * at as f64);
                    body += &line((x, top + 2.0), (x, top + ROW - 2.0), "target");
                }
            }
        }
    }
    body += &text(NAMES, 50.0, "target-word", "dashed: target");
    for (at, (case, rival)) in rows.iter().enumerate() {
        let y = TOP + ROW * at as f64 + 18.0;
        let is_first = at == 0 || rows[at - 1].0 != *case;
        if is_first {
            body += &text(12.0, y, "strong", case);
        }
        body += &text(NAMES, y, if rival.counts { "" } else { "soft" }, &rival.name);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>{0}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n{1}{body}</svg>\n",
        escaped(title),
        text(12.0, 24.0, "soft", title),
    )
}

/// From 1 to the median, a line from the smallest to the largest over it, and the figure behind the panel.
fn bar(scale: &Scale, top: f64, spread: Spread, class: &str) -> String {
    let (one, end) = (scale.x(1.0), scale.x(spread.median));
    let middle = top + ROW / 2.0;
    format!(
        "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\n{}{}",
        one.min(end),
        top + 7.0,
        (end - one).abs().max(1.0),
        ROW - 14.0,
        line((scale.x(spread.min), middle), (scale.x(spread.max), middle), "range"),
        text(scale.right + 8.0, top + 19.0, "soft", &spread.text(2)),
    )
}

fn tick_text(tick: f64) -> String {
    if tick < 1.0 { format!("1/{:.0}", 1.0 / tick) } else { format!("{tick:.0}") }
}

fn line((x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) -> String {
    format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n")
}

fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escaped(content))
}

fn middle(x: f64, y: f64, class: &str, content: &str) -> String {
    text(x, y, class, content).replacen("<text ", "<text text-anchor=\"middle\" ", 1)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{Scale, escaped, svg, tick_text};
    use crate::bench::cases::cases;
    use crate::bench::figures::Compared;
    use crate::bench::side::Sample;

    #[test]
    fn twice_and_half_are_equally_far_from_one() {
        let scale = Scale::around([0.4, 3.0].into_iter(), (100.0, 500.0));
        assert_eq!((scale.low, scale.high), (-2.0, 2.0));
        assert_eq!((scale.x(0.25), scale.x(1.0), scale.x(4.0)), (100.0, 300.0, 500.0));
        assert_eq!(scale.x(2.0) - scale.x(1.0), scale.x(1.0) - scale.x(0.5));
        assert_eq!(scale.x(100.0), 500.0, "what is beyond ends at the edge");
        assert_eq!(scale.ticks().map(tick_text).collect::<Vec<_>>(), ["1/4", "1/2", "1", "2", "4"]);
    }

    #[test]
    fn an_axis_of_nothing_still_holds_one() {
        let scale = Scale::around([f64::NAN, 0.0].into_iter(), (0.0, 100.0));
        assert_eq!(scale.x(1.0), 50.0);
        assert!(scale.x(0.0).is_finite());
    }

    #[test]
    fn markup_in_names_stays_text() {
        assert_eq!(escaped("a<b> & \"c\""), "a&lt;b&gt; &amp; &quot;c&quot;");
        let case = cases(false).remove(0);
        let sample = Sample { tokens_per_sec: vec![2.0], ..Sample::default() };
        let sides = std::iter::once(case.ours).chain(case.others);
        let sides = sides.map(|side| (side, vec![sample.clone()])).collect();
        let drawn = svg("<script>", &[Compared::new("x & y".into(), case.kind, case.targets, sides)]);
        assert!(
            drawn.contains("&lt;script&gt;") && drawn.contains("x &amp; y") && !drawn.contains("<script")
        );
        assert_eq!(drawn.matches("class=\"bar\"").count(), 1, "one rival counts");
    }
}
