//! `attune generate` and `attune chat`: flags of sampling, turns over standard input, Ctrl-C.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::program::{attune, done, objects, refusal, refused, workplace};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

const GENERATE: &str = "generate --model tiny --device cpu --max-new-tokens 8 --json";

/// One object that `generate` prints for a prompt, with flags that hold no blanks.
fn generated(dir: &Path, prompt: &str, flags: &[&str]) -> Value {
    let output = attune(dir, GENERATE).args(["--prompt", prompt]).args(flags).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    objects(&String::from_utf8(output.stdout).unwrap()).remove(0)
}

#[test]
fn a_prompt_may_hold_line_breaks_and_backslashes() {
    let dir = workplace();
    let dir = dir.path();
    let n_tokens = |prompt: &str| generated(dir, prompt, &[])["n_prompt_tokens"].clone();
    assert_eq!(n_tokens("a\\nb"), n_tokens("a\nb"));
    // A backslash and an n are two tokens where a line break is one.
    assert_ne!(n_tokens("a\\\\nb"), n_tokens("a\nb"));
    assert_eq!(n_tokens("a\\\\d"), n_tokens("a\\d"), "a doubled backslash is one");
}

#[test]
fn several_prompts_are_answered_in_order_each_as_alone() {
    let dir = workplace();
    let dir = dir.path();
    let prompts = ["What", "A longer one", "b"];
    let flags: Vec<&str> = prompts.iter().flat_map(|prompt| ["--prompt", prompt]).collect();
    let output = attune(dir, GENERATE).args(flags).output().unwrap();
    let alone: Vec<Value> = prompts.iter().map(|prompt| generated(dir, prompt, &[])).collect();
    assert_eq!(objects(&String::from_utf8(output.stdout).unwrap()), alone);
}

#[test]
fn every_stop_text_counts_and_a_comma_is_one() {
    let dir = workplace();
    let dir = dir.path();
    let whole = generated(dir, "What", &[]);
    let text = whole["text"].as_str().unwrap();
    let letters: Vec<char> = text.chars().collect();
    assert!(letters.len() >= 3, "{text:?}");
    let early = letters[1].to_string();
    let stopped = generated(dir, "What", &["--stop", &early, "--stop", "not to be found, ever"]);
    assert_eq!(stopped["finish_reason"], "stop", "the first of two counts");
    assert!(stopped["text"].as_str().unwrap().len() < text.len());
    let with_comma = format!("{early},not to be found");
    assert_eq!(generated(dir, "What", &["--stop", &with_comma]), whole, "a comma parts no stop texts");
}

#[test]
fn a_device_without_products_of_bf16_is_refused_by_name() {
    let dir = workplace();
    let message = refused(dir.path(), &format!("{GENERATE} --precision bf16 --prompt What"), 2);
    assert!(
        message.contains("cpu") && message.contains("bf16") && message.contains("--precision"),
        "{message}"
    );
}

#[test]
fn a_wrong_value_names_its_flag() {
    let dir = workplace();
    let dir = dir.path();
    for (flag, value) in
        [("--temperature", "hot"), ("--top-k", "1.5"), ("--max-new-tokens", "-1"), ("--top-p", "2")]
    {
        let message = refusal(attune(dir, GENERATE).args(["--prompt", "a", flag, value]), 2);
        let setting = flag.trim_start_matches('-').replace('-', "_");
        assert!(message.contains(flag) || message.contains(&setting), "{message}");
    }
    // Whole numbers are welcome where decimals are expected.
    done(dir, "generate --model tiny --device cpu --prompt a --max-new-tokens 1 --temperature 1 --top-p 1");
}

fn chat(dir: &Path, flags: &str) -> Child {
    let arguments = format!("chat --model tiny --device cpu {flags}");
    let mut command = attune(dir, &arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_conversation_comes_over_standard_input() {
    let dir = workplace();
    let dir = dir.path();
    let talk = |flags: &str, input: &str| {
        let mut child = chat(dir, &format!("--max-new-tokens 4 {flags}"));
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let answers = objects(&talk("--json", "Hi\nHi\n/new\nHi\n\nnever read\n"));
    assert_eq!(answers.len(), 3, "an empty line ends it");
    let n_prompt = |i: usize| answers[i]["n_prompt_tokens"].as_u64().unwrap();
    assert!(n_prompt(1) > n_prompt(0), "the second turn has the first before it");
    assert_eq!(answers[2], answers[0], "/new forgets");
    let with_system = objects(&talk("--json --system Be", "Hi\n"));
    assert!(with_system[0]["n_prompt_tokens"].as_u64().unwrap() > n_prompt(0));
    assert_eq!(talk("", "Hi\n").trim_end(), answers[0]["text"].as_str().unwrap().trim_end());

    let plain = dir.join("plain");
    std::fs::create_dir(&plain).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(dir.join("tiny").join(name), plain.join(name)).unwrap();
    }
    let message = refused(dir, "chat --model plain --device cpu", 2);
    assert!(message.contains("no chat template"), "{message}");
}

/// Ctrl-C as a terminal sends it.
#[cfg(unix)]
fn interrupt(child: &Child) {
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_an_answer_and_at_the_prompt_the_chat() {
    use std::io::{BufRead, BufReader, Read};
    let dir = workplace();
    let mut child = chat(dir.path(), "--max-new-tokens 100000");
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut prompt = |times: usize| {
        for _ in 0..times {
            stderr.read_until(b'>', &mut Vec::new()).unwrap();
        }
    };
    prompt(1);
    stdin.write_all(b"Tell me everything\n").unwrap();
    // The answer has begun.
    stdout.read_exact(&mut [0]).unwrap();
    interrupt(&child);
    prompt(1);
    assert!(child.try_wait().unwrap().is_none(), "the chat goes on");
    // The program waits for a line from here on, perhaps a moment later.
    std::thread::sleep(std::time::Duration::from_millis(200));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
