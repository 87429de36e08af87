//! Samples of all sides → ratios with their spread, printed, kept and as a table.

use super::cases::{Kind, Role, Side, Targets};
use super::side::Sample;
use serde_json::{Value, json};

/// A median with the smallest and the largest value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub n: usize,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let min = values.iter().copied().reduce(f64::min)?;
        let max = values.iter().copied().reduce(f64::max)?;
        Some(Self { median: median(values), min, max, n: values.len() })
    }

    fn to_json(self) -> Value {
        json!({ "median": rounded(self.median), "min": rounded(self.min), "max": rounded(self.max), "n": self.n })
    }

    /// `1.38 (1.30–1.45)`
    pub fn text(self, decimals: usize) -> String {
        format!("{:.decimals$} ({:.decimals$}–{:.decimals$})", self.median, self.min, self.max)
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// A ratio of each turn, ours over theirs, and their spread: what slowed one turn down slowed both of its sides.
/// `None` where a side lacks the figure.
pub fn ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<Spread> {
    let pairs = ours.iter().zip(theirs).map(|(ours, theirs)| Some(ours.as_ref()? / theirs.as_ref()?));
    Spread::of(&pairs.collect::<Option<Vec<f64>>>()?)
}

/// Five significant digits: more is noise.
pub fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// What attune is compared with, and by how much.
pub struct Rival {
    pub name: String,
    /// Whether this is the side that counts: of the rivals, the one with the largest median speed.
    pub counts: bool,
    /// How many times as fast attune is.
    pub speed: Spread,
    /// The share of its memory that attune takes.
    pub memory: Option<Spread>,
    samples: Vec<Sample>,
}

/// One case with all that was measured.
pub struct Compared {
    pub name: String,
    pub rivals: Vec<Rival>,
    pub targets: Targets,
    kind: Kind,
    samples: Vec<Sample>,
}

impl Compared {
    /// Of sides with their samples, attune's the first.
    pub fn new(name: String, kind: Kind, targets: Targets, sides: Vec<(Side, Vec<Sample>)>) -> Self {
        let (mut samples, mut rivals, mut roles) = (Vec::new(), Vec::new(), Vec::new());
        for (side, theirs) in sides {
            if side.role == Role::Ours {
                samples = theirs;
                continue;
            }
            let Some(speed) = ratios(&all(&samples, Sample::some_speed), &all(&theirs, Sample::some_speed))
            else {
                continue;
            };
            let memory = ratios(&all(&samples, Sample::memory_mib), &all(&theirs, Sample::memory_mib));
            roles.push(side.role);
            rivals.push(Rival { name: side.name, counts: false, speed, memory, samples: theirs });
        }
        // Of steps as they are printed, or the side that counts would seem the slower one.
        let speed_of = |at: &usize| match kind {
            Kind::Steps(_) => median(&rates(&rivals[*at].samples)),
            Kind::FirstStep | Kind::WholeRun => median(&speeds(&rivals[*at].samples)),
        };
        let rival = (0..rivals.len()).filter(|&at| roles[at] == Role::Rival);
        if let Some(fastest) = rival.max_by(|a, b| speed_of(a).total_cmp(&speed_of(b))) {
            rivals[fastest].counts = true;
        }
        Self { name, rivals, targets, kind, samples }
    }

    pub fn to_json(&self) -> Value {
        let side = |samples: &[Sample]| {
            let of = |value: fn(&Sample) -> Option<f64>| {
                let values = samples.iter().filter_map(value).collect::<Vec<_>>();
                Spread::of(&values).map(Spread::to_json)
            };
            let rates = rates(samples);
            let steps = samples.iter().filter_map(|sample| sample.steps).collect::<Vec<_>>();
            json!({
                "tokens_per_sec": Spread::of(&rates).map(Spread::to_json),
                "secs": of(|sample| sample.secs),
                "peak_rss_mib": of(|sample| sample.peak_rss_mib),
                "work_peak_rss_mib": of(|sample| sample.work_peak_rss_mib),
                "n_steps": steps.last().map(|(n_steps, _)| n_steps),
                "n_tokens": steps.last().map(|(_, n_tokens)| n_tokens),
            })
        };
        let rivals = self.rivals.iter().map(|rival| {
            let mut object = side(&rival.samples);
            object["name"] = json!(rival.name);
            object["counts"] = json!(rival.counts);
            object["times_as_fast"] = rival.speed.to_json();
            object["share_of_memory"] = json!(rival.memory.map(Spread::to_json));
            if self.kind == Kind::WholeRun {
                let rate = |samples: &[Sample]| all(samples, |sample| Some(median(&sample.tokens_per_sec)));
                let rates = ratios(&rate(&self.samples), &rate(&rival.samples));
                object["times_the_tokens_per_sec"] = json!(rates.map(Spread::to_json));
            }
            object
        });
        let rivals = rivals.collect::<Vec<_>>();
        let Targets { speed, memory } = self.targets;
        let target = json!({ "times_as_fast": speed, "share_of_memory": memory });
        json!({ "case": self.name, "kind": self.measure(), "target": target, "attune": side(&self.samples), "others": rivals })
    }

    /// One line a side.
    pub fn print(&self) {
        println!(
            "{}",
            line(&self.name, "attune", &self.speed_text(&self.samples), "", &memory(&self.samples), "")
        );
        for rival in &self.rivals {
            let name = if rival.counts { format!("{} *", rival.name) } else { rival.name.clone() };
            let share = rival.memory.map_or_else(|| "–".into(), |share| share.text(2));
            let speed = self.speed_text(&rival.samples);
            println!("{}", line("", &name, &speed, &rival.speed.text(2), &memory(&rival.samples), &share));
        }
    }

    fn measure(&self) -> &'static str {
        match self.kind {
            Kind::Steps(_) => "tokens a second of each step",
            Kind::FirstStep => "seconds from the command to its first optimizer step",
            Kind::WholeRun => "seconds from the command to its end",
        }
    }

    fn speed_text(&self, samples: &[Sample]) -> String {
        let (values, unit) = match self.kind {
            Kind::Steps(_) => (rates(samples), "tokens/s"),
            Kind::FirstStep | Kind::WholeRun => {
                (samples.iter().filter_map(|sample| sample.secs).collect(), "s")
            }
        };
        Spread::of(&values).map_or_else(|| "–".into(), |spread| format!("{} {unit}", spread.text(1)))
    }
}

fn all(samples: &[Sample], value: fn(&Sample) -> Option<f64>) -> Vec<Option<f64>> {
    samples.iter().map(value).collect()
}

/// Tokens a second of every step.
fn rates(samples: &[Sample]) -> Vec<f64> {
    samples.iter().flat_map(|sample| sample.tokens_per_sec.iter().copied()).collect()
}

fn speeds(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(Sample::speed).collect()
}

impl Sample {
    fn some_speed(&self) -> Option<f64> {
        Some(self.speed())
    }
}

fn memory(samples: &[Sample]) -> String {
    let values = samples.iter().filter_map(Sample::memory_mib).collect::<Vec<_>>();
    if values.is_empty() { "–".into() } else { format!("{:.0}", median(&values)) }
}

/// The line above those of [`Compared::print`].
pub fn heading() -> String {
    line("case", "side (* counts)", "speed", "times as fast", "MiB", "share of memory")
}

fn line(case: &str, side: &str, speed: &str, ratio: &str, memory: &str, share: &str) -> String {
    format!("{case:<20} {side:<21} {speed:>29} {ratio:>18} {memory:>7} {share:>18}")
}

/// The table for `docs/performance.md`; `title` says of what.
pub fn table(title: &str, compared: &[Compared]) -> String {
    let mut text = format!(
        "{title}. Medians, smallest and largest in brackets. Bold is what counts: the fastest of those that do the \
         same.\n\n| case | beside | attune | the other | times as fast | MiB | MiB | share of memory | target |\n\
         |---|---|---|---|---|---|---|---|---|\n"
    );
    for case in compared {
        for rival in &case.rivals {
            let bold = |text: String| if rival.counts { format!("**{text}**") } else { text };
            text += &format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
                case.name,
                rival.name,
                case.speed_text(&case.samples),
                case.speed_text(&rival.samples),
                bold(rival.speed.text(2)),
                memory(&case.samples),
                memory(&rival.samples),
                rival.memory.map_or_else(|| "–".into(), |share| bold(share.text(2))),
                if rival.counts { case.targets.text() } else { String::new() },
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cases::cases;

    fn samples(speeds: &[f64], mib: f64) -> Vec<Sample> {
        let sample = |&speed: &f64| Sample {
            tokens_per_sec: vec![speed],
            peak_rss_mib: Some(mib),
            ..Sample::default()
        };
        speeds.iter().map(sample).collect()
    }

    #[test]
    fn medians_and_spreads() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0, n: 3 }));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(rounded(123_456.7), 123_460.0);
    }

    #[test]
    fn a_ratio_is_of_one_round() {
        // The machine halves in round 2: each side's own spread is wide, the ratio's is not.
        let spread = ratios(&[Some(200.0), Some(100.0)], &[Some(100.0), Some(50.0)]);
        assert_eq!(spread, Some(Spread { median: 2.0, min: 2.0, max: 2.0, n: 2 }));
        assert_eq!(ratios(&[Some(1.0)], &[None]), None);
    }

    #[test]
    fn the_fastest_rival_counts_and_never_a_further_side() {
        let case = cases(true).remove(0);
        let mut sides = vec![(case.ours, samples(&[100.0, 110.0], 500.0))];
        let of_others =
            [samples(&[80.0, 82.0], 1000.0), samples(&[90.0, 95.0], 2000.0), samples(&[300.0, 300.0], 1.0)];
        sides.extend(case.others.into_iter().zip(of_others));
        let compared = Compared::new(case.name, case.kind, case.targets, sides);
        assert_eq!(
            compared.rivals.iter().map(|rival| rival.counts).collect::<Vec<_>>(),
            [false, true, false]
        );
        let rival = &compared.rivals[1];
        assert_eq!(rival.memory.map(|share| share.median), Some(0.25));
        assert!(
            (rival.speed.min - 100.0 / 90.0).abs() < 1e-9 && (rival.speed.max - 110.0 / 95.0).abs() < 1e-9
        );
        assert!(table("Title", &[compared]).contains("**1.13 (1.11–1.16)**"));
    }
}
