//! `cargo xtask bench --web`: a small Llama's training step and an answer in the page on WebGPU, and the same wasm in
//! Node.js on Dawn, beside jax-js in the same places.
//!
//! Both sides take turns, so that a machine that slows down slows both.

use crate::bench::{machine, median};
use crate::browser::Browser;
use crate::demo::last_object;
use crate::{setup, tools};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Measures both places `rounds` times.
///
/// # Errors
/// No browser, no Node.js, no registry; a side that fails.
pub fn figures(rounds: u32) -> Result<Value> {
    let browser = Browser::start()?.map_err(anyhow::Error::msg)?;
    let (jax, dawn) = (tools::jax()?, tools::dawn()?);
    let script = |name: &str| crate::root().join("tests/browser").join(name);
    let mut in_page = Vec::new();
    let mut in_node = Vec::new();
    for _ in 0..rounds {
        let mut page = browser.node(&script("bench_training.mjs"));
        in_page.push(last_object(page.env("ATTUNE_JAX", &jax))?);
        let side = |side: &str| -> Result<Value> {
            let mut node = Command::new("node");
            node.arg(script("bench_node.mjs")).env("ATTUNE_SIDE", side).env("ATTUNE_DIST", browser.page());
            node.env("ATTUNE_WEBGPU", &dawn).env("ATTUNE_JAX", &jax);
            if let Some(driver) = software_driver(&browser) {
                node.env("VK_ICD_FILENAMES", driver);
            }
            last_object(&mut node)
        };
        in_node.push((side("attune")?, side("jax")?));
    }

    let page = case(
        "page",
        &all(&in_page, "attune"),
        &all(&in_page, "reference"),
        json!({
            "gpu": "SwiftShader",
            "generation": median(&all(&in_page, "generation")),
            "ready_secs": median(&all(&in_page, "ready_secs")),
            "first_step_secs": in_page.iter().map(|round| round["first_step_secs"].clone()).collect::<Vec<_>>(),
        }),
    );
    let (ours, theirs): (Vec<Value>, Vec<Value>) = in_node.into_iter().unzip();
    let settled = |rounds: &[Value]| rounds.iter().map(settled).collect::<Vec<f64>>();
    let node = case(
        "node",
        &settled(&ours),
        &settled(&theirs),
        json!({
            "gpu": ours.first().map(|round| round["gpu"].clone()),
            "generation": median(&all(&ours, "generation")),
            "ready_secs": median(&all(&ours, "ready_secs")),
        }),
    );
    Ok(
        json!({ "machine": machine(), "case": "train 4x64", "rounds": rounds, "cases": [page, node], "files": sizes(browser.page())? }),
    )
}

/// One place's medians, printed and as they are kept.
fn case(place: &str, ours: &[f64], theirs: &[f64], mut more: Value) -> Value {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    let (ours, theirs, ratio) = (median(ours), median(theirs), median(&ratios));
    let number = |name: &str| more[name].as_f64().unwrap_or(f64::NAN);
    println!(
        "{place}: attune {ours:.1} tokens/s, jax-js {theirs:.1}, ratio {ratio:.2}; {:.1} tokens/s answering; ready in {:.1} s",
        number("generation"),
        number("ready_secs")
    );
    let figures = [
        ("place", json!(place)),
        ("attune", json!(ours)),
        ("reference", json!(theirs)),
        ("ratios", json!(ratios)),
    ];
    for (name, value) in figures {
        more[name] = value;
    }
    more
}

fn all(rounds: &[Value], name: &str) -> Vec<f64> {
    rounds.iter().filter_map(|round| round[name].as_f64()).collect()
}

/// Tokens a second of a process: the first two steps compile kernels.
fn settled(round: &Value) -> f64 {
    let steps = round["tokens_per_sec"].as_array().into_iter().flatten().filter_map(Value::as_f64);
    median(&steps.skip(2).collect::<Vec<_>>())
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
    use super::{case, settled};
    use serde_json::json;

    #[test]
    fn compiling_steps_do_not_count_and_ratios_are_of_rounds() {
        assert_eq!(settled(&json!({ "tokens_per_sec": [1.0, 2.0, 9.0, 7.0, 8.0] })), 8.0);
        let kept = case("page", &[10.0, 30.0, 20.0], &[10.0, 10.0, 10.0], json!({ "gpu": "x" }));
        assert_eq!(kept["ratios"], json!([1.0, 3.0, 2.0]));
        assert_eq!((kept["attune"].clone(), kept["gpu"].clone()), (json!(20.0), json!("x")));
    }
}
