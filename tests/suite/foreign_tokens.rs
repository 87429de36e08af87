//! Tokens that a tokenizer has and its model's embedding table lacks: refused by name where they are used,
//! harmless where they only pad.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::adapter::{load, model_folder};
use crate::models::max_abs_diff;
use crate::support::{device_name, json};
use attune::config::Run;
use attune::data::Batch;
use attune::generate::{GenerateConfig, generate};
use attune::models::{Adapter, Pass};
use attune::protocol::{Control, Event};
use attune::session::{self, DataFile, Work};
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
use attune::tokenizer::AddSpecial;
use attune::train::Start;
use attune::{Result, native::block_on};
use serde_json::json;

/// The tiny Llama, whose table has 320 rows, and a tokenizer with a token of id 320; `pad` fills short rows.
fn folder(pad: &str) -> MemoryStore {
    let mut tokenizer = json("tokenizer/tokenizer.json");
    let mut added = tokenizer["added_tokens"][0].clone();
    (added["id"], added["content"]) = (320.into(), "<|far|>".into());
    tokenizer["added_tokens"].as_array_mut().unwrap().push(added);
    let mut config = json("tokenizer/tokenizer_config.json");
    config["pad_token"] = pad.into();
    model_folder("llama")
        .with("tokenizer.json", tokenizer.to_string().into_bytes())
        .with("tokenizer_config.json", config.to_string().into_bytes())
}

fn rows(texts: &[&str]) -> DataFile {
    let rows: Vec<String> = texts.iter().map(|text| json!({ "text": text }).to_string()).collect();
    DataFile { name: "rows.jsonl".into(), bytes: rows.join("\n").into_bytes() }
}

fn run() -> Run {
    let mut run = Run { model: "base".into(), device: device_name(), ..Run::default() };
    run.data.path = Some("rows.jsonl".into());
    (run.data.shuffle, run.train.max_steps) = (false, Some(2));
    run
}

/// Trains in mid-air: the events, and the adapter.
fn train(base: &MemoryStore, file: &DataFile, held_out: Option<&DataFile>) -> Result<(Vec<Event>, Adapter)> {
    let (run, out, mut events) = (run(), MemoryStore::new(), Vec::new());
    block_on(async {
        let files = ModelFiles::open(base, "").await?;
        let tokenizer = session::tokenizer_of(&files)?;
        let rows = session::prepare(&run, file, held_out, &tokenizer, &mut |_| Control::Continue)?;
        let work = Work { run: &run, files: &files, tokenizer: &tokenizer, adapter: None, store: &out };
        let mut emit = |event| {
            events.push(event);
            Control::Continue
        };
        session::train(work, rows, Start::Fresh, &mut emit).await?;
        let adapter = Adapter::load(&out, "").await?;
        Ok((events, adapter))
    })
}

/// Evaluates on rows; their number.
fn evaluate(base: &MemoryStore, file: &DataFile) -> Result<usize> {
    let (model, run) = (load(base), run());
    block_on(async {
        let tokenizer = session::tokenizer_of(&ModelFiles::open(base, "").await?)?;
        let report = session::evaluate(model, &run, &tokenizer, file, &mut |_| Control::Continue).await?;
        Ok(report.n_rows)
    })
}

#[test]
fn a_prompt_with_a_token_beyond_the_table_is_refused() {
    let base = folder("<|endoftext|>");
    let tokenizer = session::tokenizer_of(&block_on(ModelFiles::open(&base, "")).unwrap()).unwrap();
    let prompt = tokenizer.encode("a<|far|>", AddSpecial::Yes).unwrap();
    assert_eq!(prompt.last(), Some(&320));
    let model = load(&base);
    for prompt in [&prompt[..], &[u32::MAX]] {
        let config = GenerateConfig::default();
        let mut go_on = |_: &str| Control::Continue;
        let answer = generate(&model, &tokenizer, prompt, &config, 0, Pass::INFERENCE, &mut go_on);
        let error = block_on(answer).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("below the model's vocabulary of 320"), "{error}");
    }
    let batch = Batch {
        batch_size: 1,
        seq_len: 1,
        input_ids: vec![320],
        position_ids: vec![0],
        segment_ids: vec![1],
        loss_weights: vec![0.0],
    };
    let error = model.logits(&batch, Pass::INFERENCE).err().unwrap();
    assert!(error.to_string().contains("below the model's vocabulary of 320"), "{error}");
}

#[test]
fn rows_with_a_token_beyond_the_table_are_refused_before_the_first_step() {
    let base = folder("<|endoftext|>");
    let (clean, mixed) = (rows(&["one", "two"]), rows(&["one", "a<|far|>", "three", "<|far|>!"]));
    for (file, held_out, what) in [(&mixed, None, "training"), (&clean, Some(&mixed), "held-out")] {
        let error = train(&base, file, held_out).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(message.starts_with(&format!("{what} row 2: token 320 (<|far|>)")), "{message}");
        assert!(message.contains("2 rows"), "{message}");
    }
    let message = evaluate(&base, &mixed).unwrap_err().to_string();
    assert!(message.starts_with("row 2: token 320 (<|far|>)"), "{message}");
}

#[test]
fn padding_beyond_the_table_does_no_harm() {
    let file = rows(&["one", "a longer second row", "three", "the fourth row is the longest of them all"]);
    let (events, padded) = train(&folder("<|far|>"), &file, Some(&file)).unwrap();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Step(_))).count(), 2);
    let (_, usual) = train(&folder("<|endoftext|>"), &file, Some(&file)).unwrap();
    for (name, tensor) in &usual.tensors {
        assert!(max_abs_diff(&tensor.values, &padded.tensors[name].values) <= 1e-6, "{name}");
    }
    assert_eq!(evaluate(&folder("<|far|>"), &file).unwrap(), 4);
}
