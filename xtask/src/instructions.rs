//! `cargo xtask test --only instructions`: instructions of one training step, counted by valgrind's callgrind.
//!
//! Time depends on the machine and on what else it does; a count hardly does. valgrind runs the program on an x86-64
//! processor of its own with AVX2, so that the kernels chosen are the same everywhere.

use crate::verdict::{Tally, Verdict};
use crate::{demo, process, small_model, tools};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A rise by more than this fails; a fall by more is told.
const TOLERANCE: f64 = 0.1;
/// Steps of two runs: their difference is free of start-up, loading and saving.
const STEPS: [u16; 2] = [1, 2];
/// Sequences in a step: valgrind takes seconds for what takes milliseconds.
const BATCH: usize = 1;
/// How the value is recorded anew.
const RECORD: &str = "cargo xtask bench --record-instructions";

/// The stage of `cargo xtask test`.
pub fn stage() -> Result<Verdict> {
    if let Some(reason) = unlike() {
        return Ok(Verdict { tally: Tally { skipped: 1, ..Tally::default() }, said: reason.into() });
    }
    let valgrind = match tools::valgrind() {
        Ok(valgrind) => valgrind,
        Err(reason) => return Ok(Verdict::missing(reason)),
    };
    let path = file();
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let recorded: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let recorded =
        recorded["per_step"].as_u64().with_context(|| format!("{} has no per_step", path.display()))?;
    Ok(verdict(recorded, per_step(&valgrind)?))
}

/// Counts and writes the file that later counts are held against.
///
/// # Errors
/// No valgrind, a machine that it cannot emulate, a run that fails.
pub fn record() -> Result<()> {
    if let Some(reason) = unlike() {
        anyhow::bail!("{reason}");
    }
    let valgrind = tools::valgrind().map_err(anyhow::Error::msg)?;
    let version = |program: &Path| -> Result<String> {
        let output = Command::new(program).arg("--version").output();
        let output = output.with_context(|| format!("could not start {}", program.display()))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let counted = json!({
        "case": format!("LoRA step of the small Llama, {BATCH}x{} tokens", small_model::LENGTH),
        "per_step": per_step(&valgrind)?,
        "rustc": version(&env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from))?,
        "valgrind": version(&valgrind)?,
    });
    let path = file();
    fs::write(&path, format!("{counted:#}\n"))
        .with_context(|| format!("could not write {}", path.display()))?;
    println!("{counted:#}\nin {}", path.display());
    Ok(())
}

fn file() -> PathBuf {
    crate::root().join("tests/instructions.json")
}

/// Why a count on this machine is of other code than the recorded one.
fn unlike() -> Option<&'static str> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return (!is_x86_feature_detected!("avx2")).then_some("valgrind shows a processor without AVX2 here");
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    return Some("recorded for x86-64 Linux");
}

fn verdict(recorded: u64, counted: u64) -> Verdict {
    let change = counted as f64 / recorded as f64 - 1.0;
    let said = format!(
        "{:.1} million a step, {:+.1} % against the recorded {:.1}",
        counted as f64 / 1e6,
        100.0 * change,
        recorded as f64 / 1e6
    );
    if change > TOLERANCE {
        Verdict::failed(format!("{said}; where the rise is wanted, record it: {RECORD}"))
    } else if change < -TOLERANCE {
        Verdict::passed(format!("{said}; record the gain, so that it is kept: {RECORD}"))
    } else {
        Verdict::passed(said)
    }
}

/// Instructions of a step of `attune bench-step` in one thread.
fn per_step(valgrind: &Path) -> Result<u64> {
    let (attune, model) = (demo::build("cpu")?, small_model::write()?);
    let [few, many] = STEPS;
    let counts = [count(valgrind, &attune, &model, few)?, count(valgrind, &attune, &model, many)?];
    let more = counts[1].checked_sub(counts[0]);
    let more =
        more.with_context(|| format!("{many} steps took fewer instructions than {few}: {counts:?}"))?;
    Ok(more / u64::from(many - few))
}

fn count(valgrind: &Path, attune: &Path, model: &Path, steps: u16) -> Result<u64> {
    let name = format!("callgrind-{steps}");
    let mut command = Command::new(valgrind);
    command.arg("--tool=callgrind").arg(format!(
        "--callgrind-out-file={}",
        crate::cache::target_dir().join("xtask").join(format!("{name}.out")).display()
    ));
    command.arg(attune).args(small_model::step(model, BATCH)).args([
        "--warmup",
        "0",
        "--steps",
        &steps.to_string(),
    ]);
    let finished = process::run_logged(&name, command.env("RAYON_NUM_THREADS", "1"))?;
    ensure!(
        finished.success,
        "`attune bench-step` failed under valgrind:\n{}\n(all of it: {})",
        finished.tail(),
        finished.log.display()
    );
    let collected =
        finished.lines.iter().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok());
    collected.with_context(|| format!("callgrind tells no count ({})", finished.log.display()))
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn only_a_rise_fails() {
        let failed = |counted| verdict(1000, counted).tally.failed;
        assert_eq!([failed(1101), failed(1099), failed(1000), failed(500)], [1, 0, 0, 0]);
        assert!(verdict(1000, 899).said.contains("record") && !verdict(1000, 901).said.contains("record "));
    }
}
