//! `cargo xtask bench`: speed and memory of training and generation, beside transformers + PEFT, TRL and llama.cpp;
//! with `--growth` how attune's cost grows; with `--web` in the page, beside jax-js and TensorFlow.js.
//!
//! Each side is a process of its own, so that peak memory is its own; the sides take turns, step by step where they time
//! steps, so that a machine that slows down slows all, and a ratio is of one turn.

mod cases;
mod figures;
mod growth;
mod law;
mod page;
mod plot;
mod side;
mod turns;

use crate::{bench_web, demo, instructions, setup};
use anyhow::{Context, Result, ensure};
use cases::{Case, Kind, Role, Side, cases};
use figures::Compared;
pub use figures::median;
use serde_json::{Value, json};
use side::{Bench, Sample};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// Backend to build and measure: cpu, vulkan, metal, cuda, webgpu.
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
    /// Turns of each side: processes, or so many times the steps of a case.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Threads of every side; all cores when absent.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Only cases whose name contains this; the figures go to the cache unless `--out` says where.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also the long cases: 4x512 tokens, torch.compile, packing beside TRL, gradient checkpointing.
    #[arg(long)]
    full: bool,
    /// Instead measure how time and memory of a step grow with length, batch and rank.
    #[arg(long, conflicts_with_all = ["web", "full", "only"])]
    growth: bool,
    /// Instead time training in the page: on WebGPU beside jax-js and TensorFlow.js, on the CPU beside one native thread.
    #[arg(long, conflicts_with_all = ["full", "only"])]
    web: bool,
    /// Instead count the instructions of a step and record them for `cargo xtask test`, in `tests/instructions.json`.
    #[arg(long)]
    record_instructions: bool,
    /// Where the figures go: `docs/bench.json`, `docs/growth.json` or `docs/bench-web.json`; the plot beside it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs `cargo xtask bench`.
pub fn run(args: &Args) -> Result<()> {
    if args.record_instructions {
        return instructions::record();
    }
    if args.web {
        return write_json(&out_file(args, "bench-web.json"), &bench_web::figures(args.rounds)?);
    }
    // Before the build, which is work too.
    let load_average = load_average();
    let attune = demo::build(&args.device)?;
    demo::fetch_model(&attune)?;
    let model = demo::model_file(&Command::new(&attune))?;
    let threads = match args.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().context("the number of cores")?.get(),
    };
    let bench = Bench::new(attune, model, args.device.clone(), threads, setup::reference_python())?;
    let head = json!({
        "machine": machine(),
        "device": args.device,
        "threads": threads,
        "rounds": args.rounds,
        "load_average_before": load_average,
    });
    if args.growth {
        return grow(args, &bench, head);
    }
    compare(args, &bench, head)
}

fn grow(args: &Args, bench: &Bench, mut figures: Value) -> Result<()> {
    let grown = growth::measure(bench, args.rounds)?;
    figures["sweeps"] = grown.iter().map(growth::Grown::to_json).collect();
    write_json(&out_file(args, "growth.json"), &figures)?;
    let tables = growth::tables(&title(&figures), &grown);
    println!("{tables}");
    if args.out.is_none() { page::write("growth", &tables) } else { Ok(()) }
}

/// Measures the chosen cases and writes what is there after each of them: a long run that fails keeps the others.
fn compare(args: &Args, bench: &Bench, mut figures: Value) -> Result<()> {
    let out = out_file(args, "bench.json");
    let is_chosen = |case: &Case| args.only.as_deref().is_none_or(|only| case.name.contains(only));
    let chosen: Vec<Case> = cases(args.full).into_iter().filter(is_chosen).collect();
    ensure!(!chosen.is_empty(), "no case is called so; the long ones need --full");
    figures["full"] = json!(args.full);
    figures["versions"] = bench.versions();
    println!("{}", figures::heading());
    let mut compared = Vec::new();
    for case in chosen {
        let measured = measure(bench, case, args.rounds)?;
        measured.print();
        compared.push(measured);
        figures["cases"] = compared.iter().map(Compared::to_json).collect();
        write_file(&out, &format!("{figures:#}\n"))?;
    }
    let plot = out.with_extension("svg");
    write_file(&plot, &plot::svg(&title(&figures), &compared))?;
    println!("figures in {}, drawn in {}", out.display(), plot.display());
    if args.out.is_none() && args.only.is_none() {
        let table = figures::table(&title(&figures), &compared);
        page::write("bench", &format!("![Ratios](bench.svg)\n\n{table}"))?;
    }
    Ok(())
}

/// All sides of a case, in turns.
fn measure(bench: &Bench, case: Case, rounds: u32) -> Result<Compared> {
    let Case { name, kind, targets, ours, others } = case;
    let mut sides = vec![ours];
    for side in others {
        match bench.lacks(&side) {
            Some(lack) => println!("{name}: {} is left out: {lack}", side.name),
            None => sides.push(side),
        }
    }
    let samples = match kind {
        Kind::Steps(steps) => turns::take(bench, &sides, steps * rounds),
        Kind::FirstStep | Kind::WholeRun => in_rounds(bench, kind, &sides, rounds),
    };
    let mut measured = Vec::new();
    for (side, samples) in sides.into_iter().zip(samples) {
        match samples {
            Ok(samples) => measured.push((side, samples)),
            Err(error) if side.role == Role::Further => {
                println!("{name}: {} is left out: {error:#}", side.name);
            }
            Err(error) => return Err(error.context(format!("{name}, {}", side.name))),
        }
    }
    Ok(Compared::new(name, kind, targets, measured))
}

/// The places of a turn, one after the other; every other turn in the opposite order, so that none always comes after the
/// same.
fn order(n: usize, turn: u32) -> Vec<usize> {
    if turn.is_multiple_of(2) { (0..n).collect() } else { (0..n).rev().collect() }
}

/// A process of each side a round.
fn in_rounds(bench: &Bench, kind: Kind, sides: &[Side], rounds: u32) -> Vec<Result<Vec<Sample>>> {
    let mut samples: Vec<Result<Vec<Sample>>> = sides.iter().map(|_| Ok(Vec::new())).collect();
    for round in 0..rounds {
        for at in order(sides.len(), round) {
            if let Ok(so_far) = &mut samples[at] {
                match bench.watched(kind, &sides[at]) {
                    Ok(sample) => so_far.push(sample),
                    Err(error) => samples[at] = Err(error),
                }
            }
        }
    }
    samples
}

/// What was measured on what; and that it is not to be relied on, where the machine had other work.
fn title(figures: &Value) -> String {
    let text = |name: &str| figures[name].as_str().unwrap_or("?").to_string();
    let n_rounds = figures["rounds"].as_u64().unwrap_or(0);
    let rounds = if n_rounds == 1 { "1 round".to_string() } else { format!("{n_rounds} rounds") };
    let load = figures["load_average_before"].as_f64().unwrap_or(0.0);
    let is_busy = load >= figures["threads"].as_f64().unwrap_or(f64::INFINITY);
    let busy = if is_busy { format!("; PROVISIONAL, load average {load:.1}") } else { String::new() };
    format!(
        "SmolLM2-135M in f32 on {}, {} threads, {}, {rounds}{busy}",
        text("device"),
        figures["threads"],
        text("machine"),
    )
}

/// A part of the cases never takes the place of the whole.
fn out_file(args: &Args, usual: &str) -> PathBuf {
    match (&args.out, &args.only) {
        (Some(out), _) => crate::root().join(out),
        (None, Some(_)) => crate::cache::target_dir().join("xtask").join(usual),
        (None, None) => crate::root().join("docs").join(usual),
    }
}

/// The processor as the system names it, so that figures are not read without it.
pub fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    format!("{} ({}, {})", model.unwrap_or("unknown processor"), std::env::consts::ARCH, std::env::consts::OS)
}

/// Programs that wanted a core, in the mean of the last minute.
fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

fn write_json(path: &Path, figures: &Value) -> Result<()> {
    write_file(path, &format!("{figures:#}\n"))?;
    println!("figures in {}", path.display());
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::title;
    use serde_json::json;

    #[test]
    fn figures_of_a_busy_machine_say_so() {
        let of = |load: f64| {
            title(
                &json!({ "device": "cpu", "threads": 2, "machine": "A", "rounds": 1, "load_average_before": load }),
            )
        };
        assert_eq!(of(0.3), "SmolLM2-135M in f32 on cpu, 2 threads, A, 1 round");
        assert!(of(9.04).ends_with("1 round; PROVISIONAL, load average 9.0"));
    }
}
