//! Whole runs: what training leaves behind can be loaded, evaluated and continued.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::adapter::{load, model_folder};
use crate::support::device_name;
use attune::Result;
use attune::config::Run;
use attune::data::Encoded;
use attune::data::batches::{BatchPlan, Batches};
use attune::methods::{FullConfig, LoraConfig, MethodConfig};
use attune::models::{Adapter, AnyTensor, CausalLm, Pass};
use attune::native::block_on;
use attune::protocol::Control;
use attune::session::{self, DataFile, Work};
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
use attune::store::{HostTensor, Store};
use attune::train::Start;

fn run(method: MethodConfig) -> Run {
    let mut run = Run { model: "base".into(), device: device_name(), method, ..Run::default() };
    run.data.path = Some("rows.jsonl".into());
    run.train.max_steps = Some(2);
    run
}

/// Trains on a few rows; the run's folder.
fn train(run: &Run, adapter: Option<Adapter>) -> Result<MemoryStore> {
    let rows: Vec<String> = (0..8).map(|i| format!(r#"{{"prompt":"a{i}","completion":" b{i}"}}"#)).collect();
    let rows = DataFile { name: "rows.jsonl".into(), bytes: rows.join("\n").into_bytes() };
    let (base, out) = (model_folder("llama"), MemoryStore::new());
    block_on(async {
        let files = ModelFiles::open(&base, "").await?;
        let tokenizer = session::tokenizer_of(&files)?;
        let rows = session::prepare(run, &rows, None, &tokenizer, &mut |_| Control::Continue)?;
        let work = Work { run, files: &files, tokenizer: &tokenizer, adapter, store: &out };
        session::train(work, rows, Start::Fresh, &mut |_| Control::Continue).await
    })?;
    Ok(out)
}

fn values(model: &CausalLm, name: &str) -> HostTensor {
    block_on(model.merged_weights()[name].value().to_host()).unwrap()
}

#[test]
fn a_lora_run_leaves_its_adapter_and_another_continues_from_it() {
    let config = LoraConfig { rank: 2, modules_to_save: vec!["lm_head".into()], ..LoraConfig::default() };
    let first = train(&run(MethodConfig::Lora(config)), None).unwrap();
    let first = block_on(Adapter::load(&first, "")).unwrap();
    assert_eq!(first.base_model.as_deref(), Some("base"));
    assert_eq!(first.config.rank, 2);
    let up =
        |adapter: &Adapter| adapter.tensors.values().map(|tensor| tensor.values.clone()).collect::<Vec<_>>();

    let continuing = Run { adapter: Some("first".into()), ..run(MethodConfig::default()) };
    let second = train(&continuing, Some(first.clone())).unwrap();
    let second = block_on(Adapter::load(&second, "")).unwrap();
    assert_eq!(second.config, first.config, "the adapter's settings are in force");
    assert!(up(&second).iter().zip(up(&first)).all(|(a, b)| *a != b), "every tensor was trained on");
    // Two steps of a small learning rate: near where the first run ended, unlike a fresh draw.
    let apart =
        up(&second).concat().iter().zip(up(&first).concat()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-3, "{apart}");

    let contradicting = run(MethodConfig::Lora(LoraConfig { rank: 3, ..LoraConfig::default() }));
    let error = train(&contradicting, Some(first)).unwrap_err();
    assert!(error.to_string().starts_with("method: "), "{error}");
}

#[test]
fn a_full_run_leaves_a_model_folder() {
    let out = train(&run(MethodConfig::Full(FullConfig::default())), None).unwrap();
    let (tuned, base) = (load(&out), load(&model_folder("llama")));
    assert_eq!(tuned.spec, base.spec);
    for name in ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "lm_head.weight"] {
        let pairs = values(&tuned, name).values.into_iter().zip(values(&base, name).values);
        let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart > 0.0 && apart < 1e-3, "{name}: {apart}");
    }
}

/// Ten questions with two answers, whose prompts differ in length.
fn questions() -> DataFile {
    let row = |i: usize| {
        let (prompt, completion) = ("word ".repeat(1 + i * 5 % 7), ["yes", "no"][i * i % 3]);
        serde_json::json!({ "prompt": prompt + &i.to_string() + ": ", "completion": completion }).to_string()
    };
    let rows: Vec<String> = (0..10).map(row).collect();
    DataFile { name: "questions.jsonl".into(), bytes: rows.join("\n").into_bytes() }
}

#[test]
fn accuracy_is_the_share_of_answers_with_the_largest_logit_of_all_answers() {
    let mut run = run(MethodConfig::default());
    run.train.eval_batch_size = 3;
    let base = model_folder("llama");
    let files = block_on(ModelFiles::open(&base, "")).unwrap();
    let tokenizer = session::tokenizer_of(&files).unwrap();
    let rows =
        session::prepare(&run, &questions(), None, &tokenizer, &mut |_| Control::Continue).unwrap().train;
    let model = load(&base);

    let first_target = |row: &Encoded| row.loss_weights.iter().position(|&w| w > 0.0).unwrap();
    let answers: Vec<u32> = rows.iter().map(|row| row.ids[first_target(row)]).collect();
    let n_right = rows.iter().zip(&answers).filter(|(row, answer)| {
        let prompt = Encoded { ids: row.ids[..first_target(row)].to_vec(), ..(*row).clone() };
        let prompt = Encoded { loss_weights: vec![0.0; prompt.ids.len()], ..prompt };
        let plan =
            BatchPlan { batch_size: 1, packing: false, max_length: 64, shuffle: false, seed: 0, pad_id: 0 };
        let n_tokens = prompt.ids.len();
        let batch = Batches::new(vec![prompt], plan).unwrap().batch(0, 0);
        let logits = block_on(AnyTensor::Matrix(model.logits(&batch, Pass::INFERENCE).unwrap()).to_host());
        let HostTensor { shape, values } = logits.unwrap();
        let logit = |id: u32| values[(n_tokens - 1) * shape[1] + id as usize];
        answers.iter().all(|&other| logit(other) <= logit(**answer))
    });
    let expected = n_right.count() as f64 / rows.len() as f64;
    assert!(expected > 0.0 && expected < 1.0, "{expected} would hide a constant");

    let report =
        block_on(session::evaluate(model, &run, &tokenizer, &questions(), &mut |_| Control::Continue));
    let report = report.unwrap();
    assert_eq!((report.n_rows, report.metrics.eval_accuracy), (10, Some(expected)));
}

#[test]
fn a_fresh_run_replaces_neither_a_run_nor_a_model_nor_an_adapter() {
    let (base, rows) = (model_folder("llama"), questions());
    let begin = |run: &Run, out: &MemoryStore| {
        block_on(async {
            let files = ModelFiles::open(&base, "").await?;
            let tokenizer = session::tokenizer_of(&files)?;
            let rows = session::prepare(run, &rows, None, &tokenizer, &mut |_| Control::Continue)?;
            let work = Work { run, files: &files, tokenizer: &tokenizer, adapter: None, store: out };
            session::train(work, rows, Start::Fresh, &mut |_| Control::Continue).await
        })
    };
    let content = |out: &MemoryStore| {
        let keys = block_on(out.list("")).unwrap();
        keys.into_iter().map(|key| (block_on(out.read_all(&key, u64::MAX)).unwrap(), key)).collect::<Vec<_>>()
    };
    let finished = train(&run(MethodConfig::default()), None).unwrap();
    let mut other = run(MethodConfig::default());
    other.train.learning_rate = Some(0.5);
    let adapter = crate::support::folder("adapters/llama-lora");
    for out in [finished, model_folder("llama"), adapter] {
        let before = content(&out);
        let error = begin(&other, &out).unwrap_err();
        assert!(error.to_string().starts_with("run folder: it holds"), "{error}");
        assert_eq!(error.exit_code(), 2);
        assert!(content(&out) == before, "the refused run changed the folder");
    }
}

#[test]
fn a_run_that_diverges_leaves_the_last_good_adapter() {
    let mut diverging = run(MethodConfig::default());
    diverging.train.learning_rate = Some(1e30);
    diverging.train.max_steps = Some(6);
    diverging.train.batch_size = 4;
    let (base, out) = (model_folder("llama"), MemoryStore::new());
    let error = block_on(async {
        let files = ModelFiles::open(&base, "").await?;
        let tokenizer = session::tokenizer_of(&files)?;
        let rows = session::prepare(&diverging, &questions(), None, &tokenizer, &mut |_| Control::Continue)?;
        let work = Work { run: &diverging, files: &files, tokenizer: &tokenizer, adapter: None, store: &out };
        session::train(work, rows, Start::Fresh, &mut |_| Control::Continue).await
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("is not finite") && error.contains("--adapter"), "{error}");
    let kept = block_on(Adapter::load(&out, "")).unwrap();
    assert!(kept.tensors.values().all(|tensor| tensor.values.iter().all(|value| value.is_finite())));
}

#[test]
fn a_damaged_model_has_no_figures() {
    let base = model_folder("llama");
    let files = block_on(ModelFiles::open(&base, "")).unwrap();
    let tokenizer = session::tokenizer_of(&files).unwrap();
    let mut model = load(&base);
    model.norm.weight.value = model.norm.weight.value.clone().mul_scalar(f32::NAN);
    let run = run(MethodConfig::default());
    let figures =
        block_on(session::evaluate(model, &run, &tokenizer, &questions(), &mut |_| Control::Continue));
    assert!(figures.unwrap_err().to_string().starts_with("loss is not finite (NaN)"));
}
