//! `cargo xtask bench`: speed and memory of training and generation, beside transformers + PEFT; with `--web` in the
//! page, beside jax-js and TensorFlow.js.
//!
//! Each measurement is a process of its own, so that peak memory is its own; attune and the reference take
//! turns, so that a machine that slows down slows both.

use crate::{bench_web, demo, instructions, setup};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// Backend to build and measure: cpu, vulkan, metal, cuda, webgpu.
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
    /// Processes of each kind and case.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Threads of both sides; all cores when absent.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Instead time training in the page: on WebGPU beside jax-js and TensorFlow.js, on the CPU beside one native thread.
    #[arg(long)]
    web: bool,
    /// Instead count the instructions of a step and record them for `cargo xtask test`, in `tests/instructions.json`.
    #[arg(long)]
    record_instructions: bool,
    /// Where the figures go: `docs/bench.json`, or `docs/bench-web.json` with `--web`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// One thing that is timed, with the arguments that both sides take for it.
struct Case {
    name: &'static str,
    attune: &'static [&'static str],
    reference: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "train 1x128",
        attune: &["bench-step", "--batch", "1", "--seq", "128", "--warmup", "2", "--steps", "12"],
        reference: &["train", "--batch-size", "1", "--length", "128", "--warm", "2", "--steps", "12"],
    },
    Case {
        name: "train 8x128",
        attune: &["bench-step", "--batch", "8", "--seq", "128", "--warmup", "1", "--steps", "5"],
        reference: &["train", "--batch-size", "8", "--length", "128", "--warm", "1", "--steps", "5"],
    },
    Case {
        name: "generate",
        attune: &[
            "bench-generate",
            "--prompt-tokens",
            "32",
            "--new-tokens",
            "64",
            "--warmup",
            "1",
            "--steps",
            "3",
        ],
        reference: &["generate", "--prompt-length", "32", "--n-tokens", "64", "--warm", "1", "--steps", "3"],
    },
];

/// What the processes of one side of one case measured.
#[derive(Default)]
struct Samples {
    /// Of each step of each process.
    tokens_per_sec: Vec<f64>,
    /// Of each process, from its start.
    peak_rss_mib: Vec<f64>,
    /// Of each process, from the moment that the model is loaded.
    work_peak_rss_mib: Vec<f64>,
}

impl Samples {
    fn add(&mut self, object: &Value) -> Result<()> {
        let steps = object["tokens_per_sec"].as_array().context("no list `tokens_per_sec`")?;
        self.tokens_per_sec.extend(steps.iter().filter_map(Value::as_f64));
        self.peak_rss_mib.push(object["peak_rss_mib"].as_f64().context("no number `peak_rss_mib`")?);
        // Only Linux can tell.
        self.work_peak_rss_mib.extend(object["work_peak_rss_mib"].as_f64());
        ensure!(!self.tokens_per_sec.is_empty(), "no step was measured");
        Ok(())
    }

    fn to_json(&self) -> Value {
        let (low, high) = spread(&self.tokens_per_sec);
        json!({
            "tokens_per_sec": { "median": median(&self.tokens_per_sec), "min": low, "max": high,
                                "n": self.tokens_per_sec.len() },
            "peak_rss_mib": median(&self.peak_rss_mib),
            "work_peak_rss_mib": median(&self.work_peak_rss_mib),
        })
    }
}

/// Runs `cargo xtask bench`.
pub fn run(args: &Args) -> Result<()> {
    if args.record_instructions {
        return instructions::record();
    }
    let usual = if args.web { "docs/bench-web.json" } else { "docs/bench.json" };
    let out = crate::root().join(args.out.as_deref().unwrap_or(Path::new(usual)));
    if args.web {
        return write(&out, &bench_web::figures(args.rounds)?);
    }
    let attune = demo::build(&args.device)?;
    demo::fetch_model(&attune)?;
    let model = demo::model_file(&Command::new(&attune))?;
    let threads = match args.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().context("the number of cores")?.get(),
    };
    let script = crate::root().join("tests/reference/bench_peft.py");
    let python = setup::reference_python();
    if python.is_none() {
        eprintln!(
            "no Python with torch, transformers and peft (see ATTUNE_PYTHON): attune alone is measured"
        );
    }

    let mut cases = Vec::new();
    println!(
        "{:<12} {:>22} {:>22} {:>6}   {:>9} {:>9} {:>6}",
        "case", "attune tokens/s", "PyTorch tokens/s", "ratio", "MiB", "MiB", "ratio"
    );
    for case in CASES.iter().filter(|case| args.only.as_deref().is_none_or(|only| case.name.contains(only))) {
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        for _ in 0..args.rounds {
            let mut command = Command::new(&attune);
            command.args(case.attune).args(["--model", &model, "--device", &args.device, "--json"]);
            ours.add(&demo::last_object(command.env("RAYON_NUM_THREADS", threads.to_string()))?)?;
            if let Some(python) = &python {
                let mut command = Command::new(python);
                command.arg(&script).args(["--model", &model, "--threads", &threads.to_string()]);
                theirs.add(&demo::last_object(command.args(case.reference))?)?;
            }
        }
        print_row(case.name, &ours, &theirs);
        let reference = python.is_some().then(|| theirs.to_json());
        cases.push(json!({ "case": case.name, "attune": ours.to_json(), "reference": reference }));
    }
    let figures = json!({
        "machine": machine(),
        "device": args.device,
        "threads": threads,
        "rounds": args.rounds,
        "cases": cases,
    });
    write(&out, &figures)
}

fn print_row(name: &str, ours: &Samples, theirs: &Samples) {
    let speed = |samples: &Samples| {
        let (low, high) = spread(&samples.tokens_per_sec);
        format!("{:.1} ({low:.1}–{high:.1})", median(&samples.tokens_per_sec))
    };
    let (memory, their_memory) = (median(&ours.peak_rss_mib), median(&theirs.peak_rss_mib));
    if theirs.tokens_per_sec.is_empty() {
        println!("{name:<12} {:>22} {:>22} {:>6}   {memory:>9.0}", speed(ours), "–", "–");
        return;
    }
    let ratio = median(&ours.tokens_per_sec) / median(&theirs.tokens_per_sec);
    println!(
        "{name:<12} {:>22} {:>22} {ratio:>6.2}   {memory:>9.0} {their_memory:>9.0} {:>6.2}",
        speed(ours),
        speed(theirs),
        memory / their_memory
    );
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

fn spread(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
}

/// The processor as the system names it, so that figures are not read without it.
pub fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    format!("{} ({}, {})", model.unwrap_or("unknown processor"), std::env::consts::ARCH, std::env::consts::OS)
}

fn write(path: &Path, figures: &Value) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    }
    let text = format!("{figures:#}\n");
    std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
    println!("figures in {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{median, spread};

    #[test]
    fn medians_and_spreads() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (1.0, 3.0));
    }
}
