//! `cargo xtask bench --web`: a small Llama's training step and an answer in the page and in Node.js on Dawn, beside
//! jax-js and TensorFlow.js on the same GPU; and in the page on the CPU, beside the same step natively in one thread.
//!
//! The sides take turns, so that a machine that slows down slows all.

use crate::bench::{machine, median};
use crate::browser::Browser;
use crate::demo::last_object;
use crate::{demo, setup, small_model, tools};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Steps that do not count: they compile kernels, or code.
const WARM_UP: usize = 2;
/// Steps on the GPU, and on the CPU, where the browser compiles hot code a second time in the first seconds.
const GPU_STEPS: usize = 7;
const CPU_STEPS: usize = 30;
/// How far the first loss of another program may be from attune's: the weights and tokens are the same.
const SAME_LOSS: f64 = 1e-3;

/// What a program measured in each round. attune is the first of each place.
struct Side {
    name: &'static str,
    rounds: Vec<Value>,
}

/// Measures every place `rounds` times.
///
/// # Errors
/// No browser, no Node.js, no registry; a side that fails, or that makes another step.
pub fn figures(rounds: u32) -> Result<Value> {
    let browser = Browser::start()?.map_err(anyhow::Error::msg)?;
    let (jax, tfjs, dawn) = (tools::jax()?, tools::tfjs()?, tools::dawn()?);
    let tfjs = env::join_paths(tfjs).context("a folder of the cache has a colon in its name")?;
    let (attune, model) = (demo::build("cpu")?, small_model::write()?);
    let place = |names: &[&'static str]| -> Vec<Side> {
        names.iter().map(|name| Side { name, rounds: Vec::new() }).collect()
    };
    let mut page = place(&["attune", "jax-js", "TensorFlow.js (WebGPU)"]);
    let mut node = place(&["attune", "jax-js"]);
    let mut cpu = place(&["attune", "native, one thread"]);
    for _ in 0..rounds {
        let in_page = |device: &str, steps: usize| -> Result<Value> {
            let mut node = browser.node(&script("bench_training.mjs"));
            node.env("ATTUNE_DEVICE", device).env("ATTUNE_JAX", &jax).env("ATTUNE_TFJS", &tfjs);
            last_object(step(&mut node, &model, steps))
        };
        let mut round = in_page("webgpu", GPU_STEPS)?;
        for (side, key) in page.iter_mut().zip(["attune", "jax", "tfjs"]) {
            side.rounds.push(round[key].take());
        }
        for (side, key) in node.iter_mut().zip(["attune", "jax"]) {
            let mut command = Command::new("node");
            command.arg(script("bench_node.mjs")).env("ATTUNE_SIDE", key).env("ATTUNE_DIST", browser.page());
            command.env("ATTUNE_WEBGPU", &dawn).env("ATTUNE_JAX", &jax);
            if let Some(driver) = software_driver(&browser) {
                // The browser brings Vulkan's loader along, too.
                command.env("LD_LIBRARY_PATH", driver.parent().unwrap_or(&driver));
                command.env("VK_ICD_FILENAMES", driver);
            }
            side.rounds.push(last_object(step(&mut command, &model, GPU_STEPS))?);
        }
        let mut native = Command::new(&attune);
        native.args(small_model::step(&model, small_model::BATCH)).args([
            "--warmup",
            "0",
            "--steps",
            &CPU_STEPS.to_string(),
        ]);
        native.env("RAYON_NUM_THREADS", "1");
        cpu[0].rounds.push(in_page("cpu", CPU_STEPS)?["attune"].take());
        cpu[1].rounds.push(last_object(&mut native)?);
    }
    let cases = [case("page", &page)?, case("node", &node)?, case("page on the CPU", &cpu)?];
    Ok(json!({
        "machine": machine(),
        "case": format!("train {}x{}", small_model::BATCH, small_model::LENGTH),
        "rounds": rounds,
        "cases": cases,
        "files": sizes(browser.page())?,
    }))
}

fn script(name: &str) -> PathBuf {
    crate::root().join("tests/browser").join(name)
}

/// Tells a script of the step that it is to time.
fn step<'c>(command: &'c mut Command, model: &Path, steps: usize) -> &'c mut Command {
    let asked = json!({
        "batch": small_model::BATCH,
        "length": small_model::LENGTH,
        "rank": small_model::RANK,
        "steps": steps,
    });
    command.env("ATTUNE_MODEL", model).env("ATTUNE_STEP", asked.to_string())
}

/// One place's medians, printed and as they are kept.
fn case(place: &str, sides: &[Side]) -> Result<Value> {
    let (attune, others) = sides.split_first().context("no side was measured")?;
    let ours: Vec<f64> = attune.rounds.iter().map(settled).collect();
    let number = |name: &str| {
        median(&attune.rounds.iter().filter_map(|round| round[name].as_f64()).collect::<Vec<_>>())
    };
    println!(
        "{place}: attune {:.1} tokens/s; {:.1} tokens/s answering; ready in {:.1} s",
        median(&ours),
        number("generation"),
        number("ready_secs")
    );
    let mut references = Vec::new();
    for side in others {
        for (ours, theirs) in attune.rounds.iter().zip(&side.rounds) {
            same_step(ours, theirs).with_context(|| format!("{place}, {}", side.name))?;
        }
        let theirs: Vec<f64> = side.rounds.iter().map(settled).collect();
        let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        println!("  {}: {:.1} tokens/s, ratio {:.2}", side.name, median(&theirs), median(&ratios));
        references.push(json!({
            "name": side.name,
            "tokens_per_sec": median(&theirs),
            "ratios": ratios,
            "first_step_secs": first_step_secs(side),
        }));
    }
    Ok(json!({
        "place": place,
        "gpu": attune.rounds.iter().find_map(|round| round["gpu"].as_str()),
        "tokens_per_sec": median(&ours),
        "first_step_secs": first_step_secs(attune),
        "generation": number("generation"),
        "ready_secs": number("ready_secs"),
        "references": references,
    }))
}

/// Tokens a second of a process, once everything is compiled.
fn settled(round: &Value) -> f64 {
    median(&numbers(round, "tokens_per_sec").into_iter().skip(WARM_UP).collect::<Vec<_>>())
}

fn first_step_secs(side: &Side) -> f64 {
    let n_tokens = (small_model::BATCH * small_model::LENGTH) as f64;
    let rates = side.rounds.iter().filter_map(|round| numbers(round, "tokens_per_sec").first().copied());
    median(&rates.map(|rate| n_tokens / rate).collect::<Vec<_>>())
}

/// Both learn, and begin at the same loss. `attune bench-step` names its losses otherwise: its tokens are others.
fn same_step(ours: &Value, theirs: &Value) -> Result<()> {
    let (ours, theirs) = (numbers(ours, "losses"), numbers(theirs, "losses"));
    for losses in [&ours, &theirs].into_iter().filter(|losses| !losses.is_empty()) {
        ensure!(
            losses.iter().all(|loss| loss.is_finite()) && losses.last() < losses.first(),
            "a side does not learn: {losses:?}"
        );
    }
    if let (Some(ours), Some(theirs)) = (ours.first(), theirs.first()) {
        ensure!(
            (ours - theirs).abs() < SAME_LOSS,
            "attune begins at a loss of {ours}, the other at {theirs}"
        );
    }
    Ok(())
}

fn numbers(round: &Value, name: &str) -> Vec<f64> {
    round[name].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

/// SwiftShader, which comes with the browser, where this machine has no GPU.
fn software_driver(browser: &Browser) -> Option<PathBuf> {
    if setup::best_backend() != "cpu" {
        return None;
    }
    let beside = browser.chromium().canonicalize().ok()?.parent()?.to_path_buf();
    let folders = [beside, PathBuf::from("/usr/lib/chromium")];
    folders.into_iter().map(|folder| folder.join("vk_swiftshader_icd.json")).find(|file| file.exists())
}

/// Kilobytes of each wasm file, as it is and as it is served.
fn sizes(page: &Path) -> Result<Value> {
    let mut sizes = serde_json::Map::new();
    for entry in fs::read_dir(page).with_context(|| format!("could not read {}", page.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains(".wasm") {
            let n_bytes = entry.metadata().with_context(|| format!("could not look at {name}"))?.len();
            sizes.insert(name, json!(n_bytes.div_ceil(1000)));
        }
    }
    Ok(Value::Object(sizes))
}

#[cfg(test)]
mod tests {
    use super::{Side, case, same_step, settled};
    use serde_json::json;

    #[test]
    fn compiling_steps_do_not_count_and_ratios_are_of_rounds() {
        assert_eq!(settled(&json!({ "tokens_per_sec": [1.0, 2.0, 9.0, 7.0, 8.0] })), 8.0);
        let side = |name, rates: [f64; 3]| {
            let rounds = rates.map(|rate| json!({ "tokens_per_sec": [1.0, 1.0, rate], "gpu": "x" }));
            Side { name, rounds: rounds.into() }
        };
        let kept = case("page", &[side("attune", [10.0, 30.0, 20.0]), side("other", [10.0; 3])]);
        let kept = kept.expect("a case");
        assert_eq!(kept["references"][0]["ratios"], json!([1.0, 3.0, 2.0]));
        assert_eq!((kept["tokens_per_sec"].clone(), kept["gpu"].clone()), (json!(20.0), json!("x")));
    }

    #[test]
    fn another_step_is_not_compared() {
        let losses = |losses: &[f64]| json!({ "losses": losses });
        let ours = losses(&[5.0, 4.0]);
        assert!(same_step(&ours, &losses(&[5.0005, 4.5])).is_ok());
        assert!(same_step(&ours, &losses(&[5.1, 4.5])).is_err());
        assert!(same_step(&ours, &losses(&[5.0, 5.0])).is_err());
        assert!(same_step(&ours, &json!({ "loss": [6.0] })).is_ok());
    }
}
