//! `attune models`, and models and adapters under unusual names, as users run them.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::program::{done, refused, workplace};
use crate::support::{fixtures, json};
use serde_json::Value;

#[test]
fn a_model_is_described_by_what_its_files_hold() {
    let dir = workplace();
    let dir = dir.path();
    let info = |name: &str| -> Value {
        let text = done(dir, &format!("models info {name} --json"));
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let tiny = info("tiny");
    let n_params = json("models/llama/golden.json")["n_params"].clone();
    let expected = serde_json::json!({ "architecture": "llama", "n_params": n_params, "stored": ["F32"],
        "context_length": 256, "has_chat_template": true, "is_supported": true, "problem": null });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&tiny[name], value, "{name}");
    }
    let gguf = info(fixtures().join("gguf/llama-Q8_0.gguf").to_str().unwrap());
    assert_eq!((&gguf["architecture"], &gguf["n_params"]), (&"llama".into(), &n_params));
    assert_eq!(gguf["stored"], serde_json::json!(["Q8_0", "F32"]));

    let words = done(dir, "models info tiny");
    for line in ["architecture   llama", "context        256", "chat template  yes", "supported      yes"] {
        assert!(words.contains(line), "{line} is not in\n{words}");
    }
    let config = dir.join("tiny/config.json");
    let mut settings: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    settings["model_type"] = "mamba".into();
    std::fs::write(&config, settings.to_string()).unwrap();
    assert_eq!(info("tiny")["is_supported"], false);
    assert!(done(dir, "models info tiny").contains("supported      no: model_type `mamba` is not supported"));
    assert!(done(dir, "models info smollm2-135m").contains("not fetched yet"));
    std::fs::write(&config, "{").unwrap();
    assert!(refused(dir, "models info tiny", 2).contains("tiny/config.json"));
}

/// Windows has no such names.
#[cfg(unix)]
#[test]
fn folders_named_after_a_time_of_day_are_used_like_others() {
    let dir = workplace();
    let dir = dir.path();
    std::fs::rename(dir.join("tiny"), dir.join("tiny:1")).unwrap();
    let train = "train --model tiny:1 --data rows.jsonl --device cpu --max-steps 2 --out runs/12:30 --method";
    done(dir, &format!("{train} lora --rank 2"));
    let eval = done(dir, "eval --model tiny:1 --adapter runs/12:30 --data rows.jsonl --device cpu --json");
    assert_eq!(serde_json::from_str::<Value>(&eval).unwrap()["n_rows"], 24);
    let path = done(dir, "models fetch tiny:1");
    assert!(path.trim_end().ends_with("/tiny:1"), "{path}");
    let missing = refused(dir, "eval --model tiny:1 --adapter runs/9:15 --data rows.jsonl --device cpu", 2);
    assert!(missing.contains("runs/9:15"), "{missing}");
}
