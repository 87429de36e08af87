//! Every sentence of the page exists in every language of the page.

#![allow(clippy::unwrap_used)] // a test may fail

use attune::config::{DataConfig, GenerateConfig, Group, Setting, table as settings};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
}

/// The string literals of the first `n_arguments` of the call that begins after its opening parenthesis.
fn literals(call: &str, n_arguments: usize) -> Vec<String> {
    let (mut depth, mut n_commas, mut all) = (1, 0, Vec::new());
    let mut signs = call.char_indices().peekable();
    while let Some((at, sign)) = signs.next() {
        match sign {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 1 => n_commas += 1,
            '"' => {
                let mut end = at + 1;
                while let Some((next, sign)) = signs.next() {
                    end = next;
                    match sign {
                        '\\' => _ = signs.next(),
                        '"' => break,
                        _ => {}
                    }
                }
                // JSON writes the escapes that these sentences have as Rust does.
                all.push(serde_json::from_str(&call[at..=end]).unwrap());
            }
            _ => {}
        }
        if depth == 0 || n_commas == n_arguments {
            break;
        }
    }
    all
}

/// What `t`, `fill`, `counted` and the rail's `missing` are called with.
fn spoken(code: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (function, n_arguments) in [("t(", 1), ("missing(", 1), ("fill(", 1), ("counted(", 3)] {
        for (at, _) in code.match_indices(function) {
            let is_name = code[..at].ends_with(|sign: char| sign.is_alphanumeric() || sign == '_');
            if !is_name {
                all.extend(literals(&code[at + function.len()..], n_arguments));
            }
        }
    }
    all
}

/// Settings that the page answers by itself, or that mean nothing in a browser, whose GPUs have no products of bf16.
const NOT_SHOWN: [&str; 10] = [
    "model",
    "adapter",
    "out",
    "device",
    "precision",
    "data.path",
    "data.eval_path",
    "data.columns",
    "train.tensorboard",
    "train.sample_prompts",
];

fn shown() -> impl Iterator<Item = &'static Setting> {
    settings().chain(GenerateConfig::SETTINGS).filter(|setting| !NOT_SHOWN.contains(&setting.key().as_str()))
}

/// What the form says of the settings.
fn of_settings() -> impl Iterator<Item = String> {
    let titles = Group::ALL.iter().map(|group| group.title().to_string());
    titles.chain(shown().flat_map(|s| [s.label(), s.doc.to_string(), s.expects().to_string()]))
}

fn table() -> serde_json::Map<String, serde_json::Value> {
    let text = fs::read_to_string(root().join("web/words/zh-Hans.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Literals over several lines in one, as the compiler joins them.
fn joined(code: &str) -> String {
    let mut parts = code.split("\\\n");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |all, part| all + part.trim_start())
}

fn places(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
}

#[test]
fn every_sentence_of_the_page_has_its_chinese() {
    let mut code = Vec::new();
    sources(&root().join("web/src"), &mut code);
    let mut wanted: BTreeSet<String> = code.iter().flat_map(|code| spoken(code)).collect();
    assert!(wanted.len() > 20, "the page's sentences are found: {wanted:?}");
    wanted.extend(of_settings());
    let table = table();
    let missing: Vec<_> = wanted.iter().filter(|sentence| !table.contains_key(*sentence)).collect();
    assert!(missing.is_empty(), "without Chinese: {missing:#?}");
}

#[test]
fn translations_keep_the_places_and_are_in_order() {
    let table = table();
    for (english, chinese) in &table {
        let chinese = chinese.as_str().unwrap();
        assert_eq!(places(english), places(chinese), "{english}");
        assert!(!chinese.trim().is_empty(), "{english}");
    }
    let keys: Vec<&String> = table.keys().collect();
    assert!(keys.is_sorted(), "sorted by the English, so that a sentence stands in one place");
}

#[test]
fn nothing_is_translated_that_nobody_says() {
    let mut code = Vec::new();
    for folder in ["web/src", "web/worker/src", "src"] {
        sources(&root().join(folder), &mut code);
    }
    // The worker's start and the samples' names.
    for file in ["web/worker.js", "xtask/src/serve.rs"] {
        code.push(fs::read_to_string(root().join(file)).unwrap());
    }
    let code = joined(&code.concat());
    let from_settings: BTreeSet<String> = of_settings().collect();
    let is_said = |english: &String| {
        let written = serde_json::to_string(english).unwrap();
        let in_script = format!("'{}'", &written[1..written.len() - 1]);
        from_settings.contains(english) || code.contains(&written) || code.contains(&in_script)
    };
    let table = table();
    let stale: Vec<_> = table.keys().filter(|english| !is_said(english)).collect();
    assert!(stale.is_empty(), "nobody says: {stale:#?}");
}

#[test]
fn what_is_shown_stands_under_a_heading_or_with_the_data() {
    for setting in settings() {
        let with_data = DataConfig::SETTINGS.iter().any(|other| other.key() == setting.key());
        let is_hidden = NOT_SHOWN.contains(&setting.key().as_str());
        let is_grouped = setting.look.group.is_some();
        assert!(is_grouped != is_hidden || (with_data && !is_hidden), "{}", setting.key());
    }
}

#[test]
fn labels_read_as_words() {
    let label = |key: &str| settings().find(|setting| setting.key() == key).unwrap().label();
    assert_eq!(label("train.batch_size"), "Batch size");
    assert_eq!(label("method.rslora"), "rsLoRA");
    assert_eq!(label("train.warmup_steps"), "Warm-up steps");
}
