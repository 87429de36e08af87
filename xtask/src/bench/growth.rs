//! `cargo xtask bench --growth`: time and memory of a LoRA step as rows get longer, batches larger, ranks higher, beside
//! what counting operations and tensors foretells.

use super::cases::attune;
use super::figures::{Spread, median, rounded};
use super::law::{Law, growth};
use super::order;
use super::side::{Bench, Sample};
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// One row of a table: the shape of a step, and how many are timed.
struct Point {
    /// What the table varies.
    value: u32,
    batch: u32,
    seq: u32,
    rank: u32,
    steps: u32,
}

impl Point {
    /// Short steps are timed more often, so that each point takes seconds and none minutes.
    fn new(value: u32, [batch, seq, rank]: [u32; 3]) -> Self {
        let steps = (1024 / (batch * seq)).clamp(2, 6);
        Self { value, batch, seq, rank, steps }
    }

    fn n_tokens(&self) -> f64 {
        f64::from(self.batch * self.seq)
    }
}

/// One table.
struct Sweep {
    name: &'static str,
    /// What is held, and how cost should grow.
    words: &'static str,
    points: Vec<Point>,
}

fn sweeps() -> [Sweep; 3] {
    let points = |values: &[u32], shape: fn(u32) -> [u32; 3]| {
        values.iter().map(|&value| Point::new(value, shape(value))).collect()
    };
    [
        Sweep {
            name: "length",
            words: "Batch 1, rank 8. Linear in the tokens, and quadratic in attention's two products.",
            points: points(&[64, 128, 256, 512, 1024, 2048], |seq| [1, seq, 8]),
        },
        Sweep {
            name: "batch",
            words: "Rows of 64 tokens, rank 8. Linear.",
            points: points(&[1, 2, 4, 8, 16], |batch| [batch, 64, 8]),
        },
        Sweep {
            name: "rank",
            words: "1×128 tokens. Linear, from the frozen weights' share upwards.",
            points: points(&[1, 2, 4, 8, 16, 32, 64], |rank| [1, 128, rank]),
        },
    ]
}

/// A row of a table, measured.
struct Measured {
    point: Point,
    /// Seconds a step: of each round the median.
    secs: Spread,
    work_peak_mib: Option<f64>,
    flop_per_step: f64,
    expected_peak_mib: f64,
}

/// A table, measured.
pub struct Grown {
    name: &'static str,
    words: &'static str,
    rows: Vec<Measured>,
}

/// Measures every point `rounds` times, each round from one end of the tables to the other and the next one back.
pub fn measure(bench: &Bench, rounds: u32) -> Result<Vec<Grown>> {
    let sweeps = sweeps();
    let places: Vec<(usize, usize)> = sweeps
        .iter()
        .enumerate()
        .flat_map(|(s, sweep)| (0..sweep.points.len()).map(move |p| (s, p)))
        .collect();
    let mut samples: Vec<Vec<Sample>> = places.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for at in order(places.len(), round) {
            let (sweep, point) = places[at];
            let Point { batch, seq, rank, steps, .. } = sweeps[sweep].points[point];
            let side = attune(&format!(
                "bench-step --model {{model}} --batch {batch} --seq {seq} --rank {rank} --warmup 1 --steps {steps}"
            ));
            samples[at].push(bench.timed(&side)?);
        }
    }
    let mut samples = samples.into_iter();
    let mut grown = Vec::new();
    for Sweep { name, words, points } in sweeps {
        let rows = points.into_iter().map(|point| row(point, &samples.next().unwrap_or_default()));
        grown.push(Grown { name, words, rows: rows.collect::<Result<_>>()? });
    }
    Ok(grown)
}

fn row(point: Point, samples: &[Sample]) -> Result<Measured> {
    let secs: Vec<f64> = samples.iter().map(|sample| point.n_tokens() / sample.speed()).collect();
    let estimate = &samples.first().context("no round")?.last["estimate"];
    let number = |value: &Value, name: &str| value.as_f64().with_context(|| format!("no number `{name}`"));
    let peaks: Vec<f64> = samples.iter().filter_map(|sample| sample.work_peak_rss_mib).collect();
    Ok(Measured {
        secs: Spread::of(&secs).context("no round")?,
        work_peak_mib: (!peaks.is_empty()).then(|| median(&peaks)),
        flop_per_step: number(&estimate["time"]["flop_per_step"], "flop_per_step")?,
        expected_peak_mib: number(&estimate["peak_bytes"], "peak_bytes")? / f64::from(1 << 20),
        point,
    })
}

impl Grown {
    /// Time's growth over the first row: measured, and by counting operations.
    fn growths(&self) -> impl Iterator<Item = (f64, f64)> {
        let of = |value: fn(&Measured) -> f64| growth(&self.rows.iter().map(value).collect::<Vec<_>>());
        of(|row| row.secs.median).into_iter().zip(of(|row| row.flop_per_step))
    }

    /// `linear·n + quadratic·n²` of the time and of the operations, where the length varies.
    fn laws(&self) -> Option<(Law, Law)> {
        let fit = |cost: fn(&Measured) -> f64| {
            let points = self.rows.iter().map(|row| (f64::from(row.point.value), cost(row)));
            Law::fit(&points.collect::<Vec<_>>())
        };
        let is_length = self.name == "length";
        is_length.then(|| Some((fit(|row| row.secs.median)?, fit(|row| row.flop_per_step)?))).flatten()
    }

    fn longest(&self) -> f64 {
        self.rows.last().map_or(f64::NAN, |row| f64::from(row.point.value))
    }

    pub fn to_json(&self) -> Value {
        let rows = self.rows.iter().zip(self.growths()).map(|(row, (measured, expected))| {
            json!({
                "batch": row.point.batch,
                "seq": row.point.seq,
                "rank": row.point.rank,
                "secs_per_step": { "median": rounded(row.secs.median), "min": rounded(row.secs.min),
                                   "max": rounded(row.secs.max), "n": row.secs.n },
                "growth": rounded(measured),
                "expected_growth": rounded(expected),
                "flop_per_step": row.flop_per_step,
                "flop_per_sec": rounded(row.flop_per_step / row.secs.median),
                "work_peak_rss_mib": row.work_peak_mib.map(rounded),
                "expected_peak_mib": rounded(row.expected_peak_mib),
            })
        });
        let rows = rows.collect::<Vec<_>>();
        let law = self.laws().map(|(time, flop)| {
            let n = self.longest();
            json!({
                "secs_per_token": rounded(time.linear),
                "secs_per_token_squared": rounded(time.quadratic),
                "quadratic_share_at_longest": rounded(time.quadratic_share(n)),
                "expected_quadratic_share_at_longest": rounded(flop.quadratic_share(n)),
            })
        });
        json!({ "varies": self.name, "rows": rows, "law": law })
    }

    fn table(&self) -> String {
        let mut text = format!(
            "### {}\n\n{}\n\n| {} | ms a step | growth | by operations | GFLOP/s | MiB | foretold |\n\
             |---|---|---|---|---|---|---|\n",
            capitalised(self.name),
            self.words,
            self.name
        );
        for (row, (measured, expected)) in self.rows.iter().zip(self.growths()) {
            let ms = Spread {
                median: 1e3 * row.secs.median,
                min: 1e3 * row.secs.min,
                max: 1e3 * row.secs.max,
                ..row.secs
            };
            text += &format!(
                "| {} | {} | {measured:.2} | {expected:.2} | {:.0} | {} | {:.0} |\n",
                row.point.value,
                ms.text(0),
                row.flop_per_step / row.secs.median / 1e9,
                row.work_peak_mib.map_or_else(|| "–".into(), |mib| format!("{mib:.0}")),
                row.expected_peak_mib,
            );
        }
        if let Some((time, flop)) = self.laws() {
            let n = self.longest();
            text += &format!(
                "\nThe law a·n + b·n² closest to the times has a = {:.2} ms and b = {:.2} µs: of the step at {n} \
                 tokens the quadratic term is {:.0} %, of its operations {:.0} %.\n",
                1e3 * time.linear,
                1e6 * time.quadratic,
                100.0 * time.quadratic_share(n),
                100.0 * flop.quadratic_share(n)
            );
        }
        text
    }
}

/// The tables for `docs/performance.md`.
pub fn tables(title: &str, grown: &[Grown]) -> String {
    let tables: Vec<String> = grown.iter().map(Grown::table).collect();
    format!("{title}. Medians of rounds, smallest and largest in brackets.\n\n{}", tables.join("\n"))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::{Grown, Point, row, sweeps, tables};
    use crate::bench::side::Sample;
    use serde_json::json;

    #[test]
    fn every_point_is_timed_a_few_times() {
        let sweeps = sweeps();
        let mut points = sweeps.iter().flat_map(|sweep| &sweep.points);
        assert!(points.all(|point| (2..=6).contains(&point.steps)));
    }

    #[test]
    fn what_follows_the_law_grows_as_foretold() {
        let measured = |seq: u32| {
            let point = Point::new(seq, [1, seq, 8]);
            let n = f64::from(seq);
            let flop = 1e9 * n + 1e6 * n * n;
            let sample = Sample {
                tokens_per_sec: vec![n / (flop / 1e11)],
                work_peak_rss_mib: Some(700.0),
                last: json!({ "estimate": { "peak_bytes": 1 << 29, "time": { "flop_per_step": flop } } }),
                ..Sample::default()
            };
            row(point, &[sample]).expect("all figures are there")
        };
        let grown = Grown { name: "length", words: "", rows: [64, 512, 2048].map(measured).into() };
        for (measured, expected) in grown.growths() {
            assert!((measured - expected).abs() < 1e-9 * expected);
        }
        let kept = grown.to_json();
        let law = &kept["law"];
        assert_eq!(law["quadratic_share_at_longest"], law["expected_quadratic_share_at_longest"]);
        let text = tables("Title", &[grown]);
        assert!(text.contains("| 64 | 681 (681–681) | 1.00 | 1.00 | 100 | 700 | 512 |"), "{text}");
        assert!(
            text.contains("of the step at 2048 tokens the quadratic term is 67 %, of its operations 67 %"),
            "{text}"
        );
    }
}
