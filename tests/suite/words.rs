//! The page's other languages know every setting that the page shows.

#![allow(clippy::unwrap_used)] // a test may fail

use attune::config::{DataConfig, GenerateConfig, Group, Setting, table};
use serde_json::{Map, Value};
use std::path::Path;

/// Settings that the page answers by itself.
const NOT_SHOWN: [&str; 7] =
    ["model", "adapter", "out", "device", "data.path", "data.eval_path", "train.tensorboard"];

fn shown() -> impl Iterator<Item = &'static Setting> {
    table().chain(GenerateConfig::SETTINGS).filter(|setting| !NOT_SHOWN.contains(&setting.key().as_str()))
}

#[test]
fn every_setting_reads_in_chinese() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/words/zh-Hans.json");
    let words: Map<String, Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let titles = Group::ALL.iter().map(|group| group.title().to_string());
    let of_settings = shown().flat_map(|s| [s.label(), s.doc.to_string(), s.expects().to_string()]);
    let missing: Vec<String> = titles.chain(of_settings).filter(|text| !words.contains_key(text)).collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn what_is_shown_stands_under_a_heading_or_with_the_data() {
    for setting in table() {
        let with_data = DataConfig::SETTINGS.iter().any(|other| other.key() == setting.key());
        let is_hidden = NOT_SHOWN.contains(&setting.key().as_str());
        let is_grouped = setting.look.group.is_some();
        assert!(is_grouped != is_hidden || (with_data && !is_hidden), "{}", setting.key());
    }
}

#[test]
fn labels_read_as_words() {
    let label = |key: &str| table().find(|setting| setting.key() == key).unwrap().label();
    assert_eq!(label("train.batch_size"), "Batch size");
    assert_eq!(label("method.rslora"), "rsLoRA");
    assert_eq!(label("train.warmup_steps"), "Warm-up steps");
}
