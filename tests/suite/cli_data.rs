//! `attune data check`, bad rows in training and evaluation, and what `--json` prints.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::program::{attune, done, objects, refused, workplace};
use serde_json::Value;
use std::path::Path;

const BAD: &str = "{\"prompt\": \"What?\", \"completion\": \" It.\"}\n{\"prompt\": 1, \"completion\": \"a\"}\n[]\n\
                   {\"prompt\": \"Why?\", \"completion\": \" So.\"}\n";

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

/// Standard output and error of a command that must end with `code`.
fn said(dir: &Path, arguments: &str, code: i32) -> [String; 2] {
    let output = attune(dir, arguments).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(code), "{said:?}");
    said
}

#[test]
fn data_check_reports_and_shows() {
    let dir = workplace();
    let dir = dir.path();
    let report = done(dir, "data check rows.jsonl");
    assert!(report.contains("24 rows of shape prompt-completion, 0 bad"), "{report}");
    assert!(report.contains("name a model with --model"), "{report}");
    let shown = done(dir, "data check rows.jsonl --model tiny --show 1");
    // Context plain, what is learned in brackets, the end token among it.
    assert!(shown.contains("rows.jsonl:1: ") && shown.contains("|[<|im_end|>]"), "{shown}");
    assert!(shown.contains("up to") && !shown.contains("rows.jsonl:2: "), "{shown}");
    assert!(!shown.contains("--model"), "{shown}");

    let json = objects(&done(dir, "data check rows.jsonl --model tiny --show 2 --json"));
    assert_eq!(json.len(), 3);
    let tokens = json[1]["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), json[1]["ids"].as_array().unwrap().len());
    let learned: String =
        tokens.iter().filter(|t| t[1].as_f64() > Some(0.0)).map(|t| t[0].as_str().unwrap()).collect();
    assert_eq!(learned, " It is 2.<|im_end|>");
    assert_eq!((&json[2]["n_rows"], &json[2]["shape"]), (&24.into(), &"prompt-completion".into()));
}

#[test]
fn data_check_looks_at_held_out_rows_and_settings_too() {
    let dir = workplace();
    let dir = dir.path();
    write(
        dir,
        "test.jsonl",
        "{\"prompt\": \"What is 3 and 3?\", \"completion\": \" It is 6.\", \"id\": 1}\n",
    );
    let json = &objects(&done(dir, "data check rows.jsonl --eval-data test.jsonl --model tiny --json"))[0];
    assert_eq!(json["held_out"]["n_rows"], 1);
    assert!(json["held_out"]["tokens"]["n_tokens"].as_u64() > Some(1), "{json}");
    assert_eq!(json["overlap"][0]["first"]["line"], 4);
    assert!(json["notes"].to_string().contains("test.jsonl: field `id`"), "{json}");
    // Held-out rows that lose their answer to the limit are found before training.
    let [_, stderr] =
        said(dir, "data check test.jsonl --eval-data test.jsonl --model tiny --max-length 4", 2);
    assert!(stderr.contains("2 problems"), "{stderr}");
    assert!(refused(dir, "data check rows.jsonl --max-length 1", 2).contains("data.max_length"));
    // Columns under other names.
    write(dir, "other.csv", "question,answer\na,b\nc,\n");
    assert!(said(dir, "data check other.csv", 2)[0].contains("say with `columns`"));
    let named = "data check other.csv --columns question=question";
    assert!(refused(dir, named, 2).contains("unknown variant `question`"));
    let [stdout, _] = said(dir, "data check other.csv --columns prompt=question,completion=answer", 2);
    assert!(stdout.contains("1 row of shape prompt-completion, 1 bad"), "{stdout}");
    assert!(stdout.contains("other.csv:3: column 2 (answer): is empty"), "{stdout}");
}

#[test]
fn every_bad_row_is_told_and_left_out_only_where_asked() {
    let dir = workplace();
    let dir = dir.path();
    write(dir, "bad.jsonl", BAD);
    let many = "[]\n".repeat(30);
    write(dir, "many.jsonl", &many);
    let [stdout, _] = said(dir, "data check many.jsonl", 2);
    assert!(stdout.contains("many.jsonl:30: is a list"), "{stdout}");

    let train = "train --model tiny --device cpu --data bad.jsonl --max-steps 1";
    let [_, stderr] = said(dir, &format!("{train} --out a"), 2);
    for part in ["2 rows of shape", "2 bad", "bad.jsonl:2: prompt", "bad.jsonl:3: is a list", "up to"] {
        assert!(stderr.contains(part), "{part} not in {stderr}");
    }
    let [stdout, stderr] = said(dir, &format!("{train} --out b --json"), 2);
    let report = objects(&stdout).into_iter().find(|event| event["event"] == "data").unwrap();
    assert_eq!((report["n_bad_rows"].as_u64(), report["problems"].as_array().unwrap().len()), (Some(2), 2));
    assert!(report["tokens"]["lengths"].is_array(), "{report}");
    assert!(stderr.contains("--skip-bad-rows"), "{stderr}");

    let [stdout, _] = said(dir, &format!("{train} --out c --json --skip-bad-rows"), 0);
    let events = objects(&stdout);
    assert_eq!(events.iter().filter(|event| event["event"] == "data").count(), 1);
    assert!(events.iter().any(|event| event["task"] == "tokenising" && event["done"] == event["total"]));
    let evaluated = "eval --model tiny --device cpu --data bad.jsonl --skip-bad-rows";
    let [stdout, stderr] = said(dir, &format!("{evaluated} --json"), 0);
    let figures = &objects(&stdout)[0];
    assert_eq!((figures["n_rows"].as_u64(), figures["n_bad_rows"].as_u64()), (Some(2), Some(2)));
    assert!(stderr.contains("bad.jsonl:2: prompt") && stderr.contains("bad.jsonl:3: "), "{stderr}");
    assert!(done(dir, evaluated).contains("2, 2 bad ones left out"));
    assert!(
        refused(dir, &format!("{train} --out d --skip-bad-rows --eval-data many.jsonl"), 2)
            .contains("many.jsonl: no usable row")
    );
}

#[test]
fn json_is_all_that_standard_output_holds() {
    let dir = workplace();
    let dir = dir.path();
    let train = "train --model tiny --data rows.jsonl --device cpu --max-steps 2 --out run --json";
    for (arguments, n_objects) in [
        (train, None),
        ("eval --model tiny --adapter run --data rows.jsonl --device cpu --json", Some(1)),
        ("generate --model tiny --prompt What --max-new-tokens 2 --device cpu --json", Some(1)),
        ("export --model tiny --adapter run --out merged --device cpu --json", Some(1)),
        ("models list --json", None),
        ("models info tiny --json", Some(1)),
        ("models fetch tiny --json", Some(1)),
        ("data check rows.jsonl --model tiny --json", Some(1)),
        ("devices --json", None),
        ("train --print-config --json", Some(1)),
    ] {
        let found = objects(&done(dir, arguments));
        assert!(!found.is_empty() && n_objects.is_none_or(|n| n == found.len()), "{arguments}: {found:?}");
    }
    // A refusal leaves standard output to itself.
    let [stdout, stderr] = said(dir, "eval --model tiny --data nowhere.jsonl --json", 2);
    assert!(stdout.is_empty() && stderr.contains("nowhere.jsonl"), "{stdout}{stderr}");
}

#[test]
fn models_and_devices_are_described() {
    let dir = workplace();
    let dir = dir.path();
    let list = done(dir, "models list");
    assert!(list.lines().any(|line| line.starts_with("smollm2-135m") && line.contains("to fetch")), "{list}");
    let names: Vec<Value> =
        objects(&done(dir, "models list --json")).iter().map(|m| m["name"].clone()).collect();
    assert!(names.contains(&"smollm2-135m".into()), "{names:?}");
    assert!(done(dir, "models info smollm2-135m").contains("Apache-2.0"));
    let info = done(dir, "models info tiny");
    assert!(info.contains("tiny") && info.contains("model.safetensors"), "{info}");
    assert!(done(dir, "models fetch tiny").trim().ends_with("tiny"), "what is here needs no fetching");
    assert!(refused(dir, "models info nothing-here", 2).contains("nothing-here"));
    assert!(done(dir, "devices").lines().last().unwrap().starts_with("cpu"));
}
