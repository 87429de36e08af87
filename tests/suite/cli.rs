//! The program as users run it: a tiny model, real files, exit codes, and a process killed in mid-run.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::program::{attune, done, metric, objects, refused, workplace};
use crate::support::fixtures;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

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

/// A run in the folder `out`, five steps on.
fn begun(dir: &Path, out: &str) -> Child {
    let arguments = format!("{TRAIN} --out {out}");
    let mut child = attune(dir, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let metrics = dir.join(out).join("metrics.jsonl");
    while !std::fs::read_to_string(&metrics).is_ok_and(|text| text.lines().count() >= 5) {
        assert!(child.try_wait().unwrap().is_none(), "the run ended too early");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child
}

#[test]
fn a_killed_run_ends_in_the_losses_of_one_that_was_not() {
    let dir = workplace();
    let dir = dir.path();
    done(dir, &format!("{TRAIN} --out whole"));
    let killed = dir.join("killed");
    let mut child = begun(dir, "killed");
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
fn one_run_writes_to_a_folder() {
    let dir = workplace();
    let dir = dir.path();
    let mut first = begun(dir, "shared");
    let message = refused(dir, &format!("{TRAIN} --out shared"), 2);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(message.contains("shared: busy: "), "{message}");
    assert!(metric(&dir.join("shared"), "loss").len() >= 5, "the first run's lines are whole");
    // What a killed writer leaves is swept; what others keep there is not.
    for name in [".run.toml.1-0.tmp", ".mine.tmp"] {
        std::fs::write(dir.join("shared").join(name), "half").unwrap();
    }
    done(dir, &format!("{TRAIN} --out shared --resume"));
    let left = [".run.toml.1-0.tmp", ".mine.tmp"].map(|name| dir.join("shared").join(name).exists());
    assert_eq!(left, [false, true]);
}

#[test]
fn the_run_file_states_what_is_in_force() {
    let dir = workplace();
    let dir = dir.path();
    std::fs::write(
        dir.join("run.toml"),
        "model = \"tiny\"\ndevice = \"auto\"\n[data]\npath = \"rows.jsonl\"\n[train]\nmax_steps = 3\nseed = 1\n",
    )
    .unwrap();
    let message = refused(dir, "train run.toml", 2);
    assert!(message.contains("run.toml:7: train.seed: unknown setting"), "{message}");
    let text = std::fs::read_to_string(dir.join("run.toml")).unwrap().replace("seed = 1\n", "");
    std::fs::write(dir.join("run.toml"), text).unwrap();
    // Flags win over the file, --set over both.
    let run = "train run.toml --batch-size 4 --rank 2 --set train.max_steps=2 --set method.rank=4 --out run";
    let printed = &objects(&done(dir, &format!("{run} --print-config --json")))[0];
    assert_eq!((&printed["train"]["batch_size"], &printed["method"]["rank"]), (&4.into(), &4.into()));
    assert!(toml::from_str::<toml::Table>(&done(dir, &format!("{run} --print-config"))).is_ok());
    assert!(!dir.join("run").exists(), "printing trains nothing");
    done(dir, run);
    assert_eq!(metric(&dir.join("run"), "loss").len(), 2);
    let saved: toml::Table =
        toml::from_str(&std::fs::read_to_string(dir.join("run/run.toml")).unwrap()).unwrap();
    assert_eq!(saved["train"]["learning_rate"].as_float(), Some(2e-4));
    assert_eq!(
        (saved["train"]["max_steps"].as_integer(), saved["method"]["rank"].as_integer()),
        (Some(2), Some(4))
    );
    let devices = objects(&done(dir, "devices --json"));
    assert_eq!(saved["device"].as_str(), devices[0]["name"].as_str());
    // Both the saved settings and the ones first given are those of the run.
    done(dir, "train --resume --out run");
    done(dir, &format!("{run} --resume"));
    assert!(refused(dir, &format!("{run} --resume --learning-rate 1e-3"), 2).contains("train.learning_rate"));
}

#[test]
fn what_is_wrong_here_is_found_before_a_model_is_fetched() {
    let dir = workplace();
    let dir = dir.path();
    let far = |arguments: &str, code: i32| {
        let mut command = attune(dir, arguments);
        command.env("HF_ENDPOINT", "http://127.0.0.1:9").env_remove("HF_HUB_OFFLINE");
        crate::program::refusal(&mut command, code)
    };
    std::fs::write(dir.join("file"), "").unwrap();
    for (arguments, named) in [
        ("train --data nowhere.jsonl", "nowhere.jsonl"),
        ("train --data rows.jsonl --eval-data nowhere.jsonl", "nowhere.jsonl"),
        ("train --data rows.jsonl --device abacus", "abacus"),
        ("train --data rows.jsonl --out file", "file"),
        ("train --data rows.jsonl --adapter nowhere", "nowhere"),
        ("eval --data nowhere.jsonl", "nowhere.jsonl"),
        ("eval --data rows.jsonl --device abacus", "abacus"),
        ("generate --prompt a --device abacus", "abacus"),
        ("generate --prompt a --adapter nowhere", "nowhere"),
        ("export --out new --device abacus", "abacus"),
    ] {
        let message = far(&format!("{arguments} --model far/away"), 2);
        assert!(message.contains(named), "{arguments}: {message}");
    }
    let message = far("generate --prompt a --model models/tinny", 1);
    assert!(message.contains("a local folder or file models/tinny does not exist either"), "{message}");
}

#[test]
fn paths_of_the_wrong_kind_are_the_users_to_mend() {
    let dir = workplace();
    let dir = dir.path();
    std::fs::create_dir(dir.join("folder")).unwrap();
    std::fs::write(dir.join("file"), "").unwrap();
    std::fs::write(dir.join("latin.toml"), b"model = \"caf\xe9\"\n").unwrap();
    let train = "train --model tiny --device cpu";
    for (arguments, named) in [
        (format!("{train} --data folder"), "folder"),
        (format!("{train} --data rows.jsonl --out file"), "file"),
        (format!("{train} --data rows.jsonl --out file/below"), "file"),
        ("train latin.toml".to_string(), "latin.toml"),
        ("train folder".to_string(), "folder"),
    ] {
        let message = refused(dir, &arguments, 2);
        assert!(message.contains(named), "{arguments}: {message}");
    }
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

/// A limit on the size of files is what a full disk is to a program: writes fail from some byte on.
#[cfg(unix)]
#[test]
fn a_full_disk_stops_a_run_with_a_word_and_the_run_goes_on_once_there_is_room() {
    let dir = workplace();
    let dir = dir.path();
    let train = format!("{TRAIN} --out run --max-steps 6");
    let mut limited = std::process::Command::new("bash");
    // 16 blocks of 1,024 bytes: enough for metrics and run file, too little for a checkpoint.
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"";
    limited.args(["-c", script, env!("CARGO_BIN_EXE_attune")]).args(train.split_whitespace());
    limited.current_dir(dir).env("ATTUNE_CACHE", dir.join("cache"));
    let message = crate::program::refusal(&mut limited, 2);
    assert!(message.contains("could not") && message.contains("checkpoint"), "{message}");
    let left: Vec<String> = std::fs::read_dir(dir.join("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".safetensors") || name.ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?} are half-written");
    done(dir, &format!("{train} --resume"));
    assert_eq!(metric(&dir.join("run"), "loss").len(), 6);
    assert!(dir.join("run/adapter_model.safetensors").exists());
}
