//! Whole runs: what training leaves behind can be loaded, evaluated and continued.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::adapter::{load, model_folder};
use crate::support::device_name;
use attune::Result;
use attune::config::Run;
use attune::methods::{FullConfig, LoraConfig, MethodConfig};
use attune::models::{Adapter, CausalLm};
use attune::native::block_on;
use attune::protocol::Control;
use attune::session::{self, DataFile, Work};
use attune::store::HostTensor;
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
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
        let rows = session::prepare(run, &rows, None, &tokenizer)?;
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
