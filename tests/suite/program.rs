//! The program as users run it, in a folder with all it needs.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::support::fixtures;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
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

pub fn attune(dir: &Path, arguments: &str) -> Command {
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
    refusal(&mut attune(dir, arguments), code)
}

/// The same of a command made ready.
pub fn refusal(command: &mut Command, code: i32) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{command:?}: {message}");
    let panicked = message.contains("panicked") || message.contains("internal error");
    assert!(!panicked, "{command:?}: {message}");
    message
}

/// The lines of standard output, each of which must be an object.
pub fn objects(stdout: &str) -> Vec<Value> {
    let object = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value.is_object(), "{line}");
        value
    };
    stdout.lines().map(object).collect()
}

/// Values of a field of `metrics.jsonl`, one a step.
pub fn metric(run: &Path, field: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line[field].as_f64()).collect()
}
