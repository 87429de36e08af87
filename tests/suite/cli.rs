//! The program as users run it: a tiny model, real files, exit codes, and a process killed in mid-run.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::support::fixtures;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A folder with a tiny Llama, its tokenizer and 24 rows.
pub fn workplace() -> TempDir {
    let dir = TempDir::new().unwrap();
    let model = dir.path().join("tiny");
    std::fs::create_dir(&model).unwrap();
    for folder in ["models/llama", "tokenizer"] {
        for entry in std::fs::read_dir(fixtures().join(folder)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
            }
        }
    }
    let row = |i: usize| serde_json::json!({ "prompt": format!("What is {i} and {i}?"), "completion": format!(" It is {}.", 2 * i) });
    let rows: Vec<String> = (0..24).map(|i| row(i).to_string()).collect();
    std::fs::write(dir.path().join("rows.jsonl"), rows.join("\n")).unwrap();
    dir
}

fn attune(dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_attune"));
    command.current_dir(dir).env("ATTUNE_CACHE", dir.join("cache")).args(arguments.split_whitespace());
    command
}

pub fn done(dir: &Path, arguments: &str) -> String {
    let Output { status, stdout, stderr } = attune(dir, arguments).output().unwrap();
    assert!(status.success(), "attune {arguments}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The message on standard error; the program must end with `code` and without a panic.
pub fn refused(dir: &Path, arguments: &str, code: i32) -> String {
    let Output { status, stderr, .. } = attune(dir, arguments).output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "attune {arguments}: {message}");
    assert!(!message.contains("panicked"), "attune {arguments}: {message}");
    message
}

/// Values of a field of `metrics.jsonl`, one a step.
fn metric(run: &Path, field: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line[field].as_f64()).collect()
}

const TRAIN: &str = "train --model tiny --data rows.jsonl --device cpu --batch-size 2 --epochs 4 --save-steps 1 --dropout 0.1";

#[test]
fn a_run_trains_evaluates_continues_and_exports() {
    let dir = workplace();
    let dir = dir.path();
    let events = done(dir, &format!("{TRAIN} --out run --eval-data rows.jsonl --learning-rate 0.01 --json"));
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps = events.iter().filter(|event| event["event"] == "step").count();
    assert_eq!(steps, 48);
    assert_eq!(events.last().unwrap()["event"], "done");
    let losses = metric(&dir.join("run"), "loss");
    assert_eq!(losses.len(), 48);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[36..]) < mean(&losses[..12]) - 0.5, "{losses:?}");
    for file in ["run.toml", "adapter_config.json", "adapter_model.safetensors"] {
        assert!(dir.join("run").join(file).is_file(), "{file}");
    }

    let figures = |arguments: &str| serde_json::from_str::<Value>(&done(dir, arguments)).unwrap();
    let base = figures("eval --model tiny --data rows.jsonl --device cpu --json");
    let tuned = figures("eval --model tiny --adapter run --data rows.jsonl --device cpu --json");
    assert!(tuned["eval_loss"].as_f64() < base["eval_loss"].as_f64());

    let prompt = "generate --model tiny --adapter run --device cpu --prompt What --max-new-tokens 5 --temperature 0 --json";
    let first = figures(prompt);
    assert_eq!(first, figures(prompt));
    assert!(!first["ids"].as_array().unwrap().is_empty());

    done(dir, "export --model tiny --adapter run --format merged --out merged --device cpu --json");
    let merged = figures("eval --model merged --data rows.jsonl --device cpu --json");
    let (merged, tuned) = (merged["eval_loss"].as_f64().unwrap(), tuned["eval_loss"].as_f64().unwrap());
    assert!((merged - tuned).abs() <= 1e-4 * tuned, "{merged} and {tuned}");

    done(dir, "train --model tiny --adapter run --data rows.jsonl --device cpu --max-steps 2 --out more");
    assert!(metric(&dir.join("more"), "loss")[0] < losses[0]);
}

#[test]
fn a_killed_run_ends_in_the_losses_of_one_that_was_not() {
    let dir = workplace();
    let dir = dir.path();
    done(dir, &format!("{TRAIN} --out whole"));
    let killed = dir.join("killed");
    let mut child = attune(dir, &format!("{TRAIN} --out killed"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let has_begun =
        || std::fs::read_to_string(killed.join("metrics.jsonl")).is_ok_and(|text| text.lines().count() >= 5);
    while !has_begun() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let message = refused(dir, &format!("{TRAIN} --out killed"), 2);
    assert!(message.contains("--resume"), "{message}");
    done(dir, &format!("{TRAIN} --out killed --resume"));
    for field in ["loss", "grad_norm", "lr"] {
        assert_eq!(metric(&killed, field), metric(&dir.join("whole"), field), "{field}");
    }
    let weights = |run: &str| std::fs::read(dir.join(run).join("adapter_model.safetensors")).unwrap();
    assert_eq!(weights("killed"), weights("whole"));
}

#[test]
fn wrong_input_is_refused_by_place_with_exit_code_2() {
    let dir = workplace();
    let dir = dir.path();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    write("empty.jsonl", b"");
    write("torn.csv", b"prompt,completion\n\"a,b\nc,d\n");
    write("binary.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"\xff\xfe\"}\n");
    write("column.csv", b"prompt,answer\na,b\n");
    write("field.jsonl", b"{\"prompt\": \"a\", \"completion\": 3}\n");
    let train =
        |data: &str| refused(dir, &format!("train --model tiny --device cpu --out bad --data {data}"), 2);
    assert!(train("empty.jsonl").contains("empty.jsonl"));
    assert!(train("torn.csv").contains("torn.csv:2"));
    assert!(train("binary.jsonl").contains("binary.jsonl:2"));
    assert!(train("column.csv").contains("completion"));
    assert!(train("field.jsonl").contains("field.jsonl:1"));
    assert!(train("nowhere.jsonl").contains("nowhere.jsonl"));
    let flags =
        |flags: &str| refused(dir, &format!("train --model tiny --data rows.jsonl --out bad {flags}"), 2);
    assert!(flags("--device abacus").contains("abacus"));
    assert!(flags("--device cpu --rank 0").contains("rank"));
    assert!(flags("--device cpu --learning-rate -1").contains("learning"));
    assert!(flags("--device cpu --target-modules nothing").contains("target_modules"));
    assert!(flags("--device cpu --set train.leaning_rate=1").contains("learning_rate"));
    assert!(!dir.join("bad/adapter_model.safetensors").exists());

    write("tiny/model.safetensors", &[255; 64]);
    assert!(flags("--device cpu").contains("model.safetensors"));
    std::fs::copy(fixtures().join("models/llama/model.safetensors"), dir.join("tiny/model.safetensors"))
        .unwrap();
    write("tiny/tokenizer.json", b"{\"version\": ");
    assert!(flags("--device cpu").contains("tokenizer.json"));
    write("cut.gguf", b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    assert!(refused(dir, "generate --model cut.gguf --prompt a", 2).contains("cut.gguf"));
    assert!(refused(dir, "generate --model no/such@thing!/ --prompt a", 2).contains("no/such"));
}
