//! `cargo xtask demo`: fine-tune a real model on real reviews on this machine, and see what it gained.

use crate::process::{cargo, run_logged};
use crate::setup;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the demo and the benchmark fine-tune.
pub const MODEL: &str = "smollm2-135m";

/// One epoch over 1,600 reviews with LoRA of rank 8 on all linear layers, rows in file order:
/// the same run as `tests/reference/peft_reviews.py`.
const TRAINING: &[&str] = &[
    "--method",
    "lora",
    "--rank",
    "8",
    "--alpha",
    "16",
    "--dropout",
    "0",
    "--epochs",
    "1",
    "--batch-size",
    "8",
    "--learning-rate",
    "2e-4",
    "--max-length",
    "128",
    "--no-shuffle",
];

#[derive(clap::Args)]
pub struct Args {
    /// Backend to build and train on: auto for this machine's best, cpu, vulkan, metal, cuda, webgpu.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// Only so many optimizer steps, to try it out.
    #[arg(long, value_name = "N")]
    max_steps: Option<usize>,
    /// Also make the same run with transformers + PEFT and show both.
    #[arg(long)]
    reference: bool,
}

/// Runs `cargo xtask demo`.
pub fn run(args: &Args) -> Result<()> {
    let (device, program) = build_for(&args.device)?;
    let attune = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(crate::root());
        command
    };
    let data = crate::cache::dir().join("data");
    heading("Model and reviews");
    fetch_model(Path::new(attune(&[]).get_program()))?;
    fetch_reviews(Path::new(attune(&[]).get_program()), &data)?;
    let (train, test) = (data.join("train.jsonl"), data.join("test.jsonl"));
    let (train, test) = (train.to_string_lossy(), test.to_string_lossy());

    let evaluate = |adapter: Option<&str>| {
        let mut command = attune(&["eval", "--model", MODEL, "--data", &test, "--device", &device, "--json"]);
        if let Some(adapter) = adapter {
            command.args(["--adapter", adapter]);
        }
        last_object(&mut command)
    };
    heading("Accuracy before");
    let before = evaluate(None)?;

    heading("Fine-tuning");
    let out = fresh_folder(&crate::root().join("runs"))?;
    let out_text = out.to_string_lossy();
    let mut training = attune(&["train", "--model", MODEL, "--data", &train, "--out", &out_text]);
    training.args(TRAINING).args(["--device", &device]);
    if let Some(steps) = args.max_steps {
        training.args(["--max-steps", &steps.to_string()]);
    }
    show(&mut training)?;

    heading("Accuracy after");
    let after = evaluate(Some(&out_text))?;

    let reference = if args.reference { Some(reference(&attune(&[]), &train, &test)?) } else { None };
    report(&before, &after, reference.as_ref());
    println!("\nThe adapter is in {}. Try it:", out.display());
    println!("  {} chat --model {MODEL} --adapter {}", quoted(&program), quoted(&out));
    Ok(())
}

/// The device to use and the program built for it. `auto` is this machine's best backend, and the CPU where that
/// cannot be built or finds no device: a demo should run.
fn build_for(device: &str) -> Result<(String, PathBuf)> {
    if device != "auto" {
        return Ok((device.to_string(), build(device)?));
    }
    let best = setup::best_backend();
    eprintln!("this machine's best backend is {best}");
    if best == "cpu" {
        return Ok((best.to_string(), build(best)?));
    }
    match build(best) {
        Ok(program) if has_device(&program, best) => Ok((best.to_string(), program)),
        Ok(program) => {
            eprintln!("attune finds no {best} device; going on with the CPU");
            Ok(("cpu".to_string(), program))
        }
        Err(error) => {
            eprintln!("{error:#}\ngoing on with the CPU");
            Ok(("cpu".to_string(), build("cpu")?))
        }
    }
}

/// Whether `attune devices` lists one of this backend.
fn has_device(program: &Path, backend: &str) -> bool {
    let output = Command::new(program).args(["devices", "--json"]).output();
    output.is_ok_and(|output| lists_backend(&String::from_utf8_lossy(&output.stdout), backend))
}

fn lists_backend(objects: &str, backend: &str) -> bool {
    let names = objects.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    names.filter_map(|object| Some(object["name"].as_str()?.split(':').next()? == backend)).any(|same| same)
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/\\:._-+~".contains(c);
    if text.chars().all(is_plain) { text } else { format!("\"{text}\"") }
}

/// Builds the command line and returns its path.
pub fn build(device: &str) -> Result<PathBuf> {
    eprintln!("building (the first time takes minutes) …");
    let mut command = cargo(["build", "--release", "--locked"]);
    let backend = device.split(':').next().unwrap_or(device);
    if !matches!(backend, "cpu" | "auto") {
        command.args(["--features", backend]);
    }
    if setup::needs_graphics_driver(backend) {
        setup::graphics_driver().map_err(anyhow::Error::msg)?;
    }
    let built = run_logged("build", &mut command)?;
    ensure!(built.success, "the build failed:\n{}", built.tail());
    Ok(crate::cache::target_dir().join("release").join(format!("attune{}", std::env::consts::EXE_SUFFIX)))
}

/// Downloads the model unless it is there.
pub fn fetch_model(attune: &Path) -> Result<()> {
    show(Command::new(attune).args(["models", "fetch", MODEL]).current_dir(crate::root()))
}

/// Puts `train.jsonl` and `test.jsonl` of the movie reviews into a folder.
pub fn fetch_reviews(attune: &Path, folder: &Path) -> Result<()> {
    let mut command = Command::new(attune);
    command.args(["data", "fetch", "movie-reviews", "--out"]).arg(folder).current_dir(crate::root());
    show(&mut command)
}

fn heading(text: &str) {
    eprintln!("\n== {text}");
}

/// Runs a command whose output is for the reader, after printing it as one would type it.
fn show(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", typed(command));
    let status = command.status().with_context(|| format!("could not start {}", typed(command)))?;
    ensure!(status.success(), "`{}` failed ({status})", typed(command));
    Ok(())
}

/// Runs a command with `--json` and returns the last object it printed.
pub fn last_object(command: &mut Command) -> Result<Value> {
    eprintln!("$ {}", typed(command));
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start {}", typed(command)))?;
    ensure!(output.status.success(), "`{}` failed ({})", typed(command), output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("`{}` printed no JSON object", typed(command)))?;
    serde_json::from_str(line).with_context(|| format!("`{}` printed {line}", typed(command)))
}

/// A command as one would type it.
pub fn typed(command: &Command) -> String {
    let program =
        Path::new(command.get_program()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    command.get_args().fold(program, |typed, argument| format!("{typed} {}", argument.to_string_lossy()))
}

/// `demo`, or the first of `demo-2`, `demo-3` … that is not there yet: an earlier demo is never overwritten.
fn fresh_folder(runs: &Path) -> Result<PathBuf> {
    let names = std::iter::once("demo".to_string()).chain((2..1000).map(|n| format!("demo-{n}")));
    names
        .map(|name| runs.join(name))
        .find(|path| !path.exists())
        .with_context(|| format!("{} is full of demos", runs.display()))
}

/// The same run in transformers + PEFT, with the model file that attune fetched.
fn reference(attune: &Command, train: &str, test: &str) -> Result<Value> {
    heading("The same with transformers + PEFT");
    let Some(python) = setup::reference_python() else {
        bail!("no Python with torch, transformers and peft; name one in ATTUNE_PYTHON");
    };
    let mut command = Command::new(python);
    command.arg(crate::root().join("tests/reference/peft_reviews.py"));
    command.args(["--model", &model_file(attune)?, "--train", train, "--test", test]);
    last_object(&mut command)
}

/// Path of the fetched model's file, as `attune models info` tells it.
pub fn model_file(attune: &Command) -> Result<String> {
    let mut info = Command::new(attune.get_program());
    info.args(["models", "info", MODEL, "--json"]);
    let object = last_object(&mut info)?;
    Ok(object["path"].as_str().context("`attune models info` names no path")?.to_string())
}

fn report(before: &Value, after: &Value, reference: Option<&Value>) {
    let percent =
        |value: &Value| value.as_f64().map_or("–".into(), |share| format!("{:.1} %", 100.0 * share));
    println!("\n{:<22} {:>10} {:>10}", "accuracy", "before", "after");
    println!(
        "{:<22} {:>10} {:>10}",
        "attune",
        percent(&before["eval_accuracy"]),
        percent(&after["eval_accuracy"])
    );
    if let Some(reference) = reference {
        let (before, after) = (&reference["accuracy_before"], &reference["accuracy_after"]);
        println!("{:<22} {:>10} {:>10}", "transformers + PEFT", percent(before), percent(after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_found_by_its_name_alone() {
        let listed =
            "{\"name\":\"cuda:0\",\"description\":\"vulkan\"}\n{\"name\":\"cpu\",\"description\":\"CPU\"}\n";
        assert!(lists_backend(listed, "cuda") && lists_backend(listed, "cpu"));
        assert!(!lists_backend(listed, "vulkan") && !lists_backend("", "cpu"));
    }

    #[test]
    fn paths_with_spaces_are_quoted() {
        assert_eq!(quoted(Path::new("/a/b-c.d")), "/a/b-c.d");
        assert_eq!(quoted(Path::new("/a b/c")), "\"/a b/c\"");
    }
}
