//! Adapters and exports against what PEFT made and computed.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::support::{device, device_name, fixtures, folder, golden, json};
use attune::Result;
use attune::config::WeightFormat;
use attune::data::Batch;
use attune::export::{ExportFormat, ExportReport, Origin};
use attune::methods::{LoraConfig, MethodConfig, TargetModules};
use attune::models::{ADAPTER_CONFIG, ADAPTER_MODEL, Adapter, CausalLm, Pass};
use attune::native::block_on;
use attune::protocol::Control;
use attune::session::{self, ExportWork};
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
use attune::store::{HostTensor, Store, safetensors};
use serde_json::Value;

const ADAPTERS: [&str; 8] = [
    "llama-lora",
    "llama-list",
    "llama-regex",
    "llama-rslora",
    "llama-head",
    "gemma3-lora",
    "qwen3-lora",
    "gpt2-lora",
];

fn adapter(name: &str) -> Adapter {
    block_on(Adapter::load(&folder(&format!("adapters/{name}")), "")).unwrap()
}

/// A JSON file in a store.
fn stored(store: &MemoryStore, key: &str) -> Value {
    serde_json::from_slice(&block_on(store.read_all(key, u64::MAX)).unwrap()).unwrap()
}

/// Name of the base model, and the rows of tokens that PEFT was run on.
fn case(name: &str) -> (String, Batch) {
    let golden = json(&format!("adapters/{name}/golden.json"));
    let rows: Vec<Vec<i32>> = serde_json::from_value(golden["input_ids"].clone()).unwrap();
    let (batch_size, seq_len) = (rows.len(), rows[0].len());
    let batch = Batch {
        batch_size,
        seq_len,
        position_ids: (0..batch_size * seq_len).map(|i| (i % seq_len) as i32).collect(),
        segment_ids: vec![1; batch_size * seq_len],
        loss_weights: vec![0.0; batch_size * seq_len],
        input_ids: rows.concat(),
    };
    (golden["model"].as_str().unwrap().to_owned(), batch)
}

/// A model's folder with a tokenizer, as a user has it.
pub fn model_folder(model: &str) -> MemoryStore {
    let store = folder(&format!("models/{model}"));
    ["tokenizer.json", "tokenizer_config.json"].into_iter().fold(store, |store, name| {
        store.with(name, std::fs::read(fixtures().join("tokenizer").join(name)).unwrap())
    })
}

pub fn load(store: &MemoryStore) -> CausalLm {
    block_on(async {
        let files = ModelFiles::open(store, "").await.unwrap();
        CausalLm::load(&files, WeightFormat::Auto, &device(), &mut |_| {}).await.unwrap()
    })
}

fn logits(model: &CausalLm, batch: &Batch) -> Vec<f32> {
    let data = model.logits(batch, Pass::INFERENCE).unwrap().into_data();
    data.try_into_vec_as::<f32>().unwrap()
}

#[track_caller]
fn assert_close(ours: &[f32], theirs: &[f32], name: &str) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    assert!(apart.clone().all(|diff| diff < 1e-4), "{name}: {:?}", apart.fold(0.0, f32::max));
}

/// Exports into a fresh store.
fn export(
    base: &MemoryStore,
    adapter: Option<Adapter>,
    format: ExportFormat,
) -> Result<(MemoryStore, ExportReport)> {
    let out = MemoryStore::new();
    let report = block_on(async {
        let files = ModelFiles::open(base, "").await?;
        let tokenizer = session::tokenizer_of(&files)?;
        let origin = Origin { files: &files, tokenizer: &tokenizer, name: "base" };
        let work = ExportWork { origin, adapter, format, device: &device_name() };
        session::export(work, &out, "", &mut |_| Control::Continue).await
    })?;
    Ok((out, report))
}

#[test]
fn pefts_adapters_give_pefts_logits_attached_and_merged() {
    for name in ADAPTERS {
        let golden = &golden(&format!("adapters/{name}/golden.safetensors"))["logits"].values;
        let (base, batch) = case(name);
        let store = model_folder(&base);
        let mut model = load(&store);
        let untouched = logits(&model, &batch);
        model.attach_adapter(adapter(name)).unwrap();
        assert_close(&logits(&model, &batch), golden, name);
        assert!(
            untouched.iter().zip(golden).any(|(a, b)| (a - b).abs() > 0.1),
            "{name}: the adapter does nothing"
        );

        let (merged, report) = export(&store, Some(adapter(name)), ExportFormat::Merged).unwrap();
        assert!(report.max_abs_diff < 1e-4, "{name}: {}", report.max_abs_diff);
        assert_close(&logits(&load(&merged), &batch), golden, name);

        model.detach();
        assert_close(&logits(&model, &batch), &untouched, name);
    }
}

#[test]
fn exported_adapters_are_those_that_were_loaded() {
    for name in ADAPTERS {
        let theirs = adapter(name);
        let (out, report) =
            export(&model_folder(&case(name).0), Some(theirs.clone()), ExportFormat::Adapter).unwrap();
        assert!(report.max_abs_diff < 1e-4, "{name}: {}", report.max_abs_diff);
        let ours = block_on(Adapter::load(&out, "")).unwrap();
        assert_eq!(ours.base_model.as_deref(), Some("base"));
        assert_eq!(ours, Adapter { base_model: ours.base_model.clone(), ..theirs }, "{name}");
        // PEFT's own file, byte for byte in names, order, shapes and values.
        let read = |bytes: Vec<u8>| safetensors::from_bytes(&bytes, name).unwrap();
        let (tensors, metadata) = read(block_on(out.read_all(ADAPTER_MODEL, u64::MAX)).unwrap());
        let (their_tensors, their_metadata) =
            read(std::fs::read(fixtures().join(format!("adapters/{name}/{ADAPTER_MODEL}"))).unwrap());
        assert_eq!(tensors.keys().collect::<Vec<_>>(), their_tensors.keys().collect::<Vec<_>>(), "{name}");
        assert_eq!((tensors, metadata), (their_tensors, their_metadata), "{name}");
    }
}

#[test]
fn all_linear_is_saved_as_the_names_it_stands_for() {
    let mut model = load(&model_folder("llama"));
    let method =
        MethodConfig::Lora(LoraConfig { modules_to_save: vec!["lm_head".into()], ..LoraConfig::default() });
    model.attach(&method, 1).unwrap();
    let saved = block_on(Adapter::of(&model, "base")).unwrap();
    let names =
        ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"].map(String::from);
    assert_eq!(saved.config.target_modules, TargetModules::Names(names.to_vec()));
    let mut other = load(&model_folder("llama"));
    other.attach_adapter(saved.clone()).unwrap();
    assert_eq!(block_on(Adapter::of(&other, "base")).unwrap(), saved);
}

/// As PEFT 0.21: of two tied matrices the one that is saved becomes a copy, the other stays as it was.
#[test]
fn a_saved_half_of_a_tied_pair_is_untied() {
    for module in ["lm_head", "embed_tokens"] {
        let store = model_folder("llama-tied");
        let mut model = load(&store);
        let config = LoraConfig { modules_to_save: vec![module.into()], ..LoraConfig::default() };
        model.attach(&MethodConfig::Lora(config), 1).unwrap();
        let mut adapter = block_on(Adapter::of(&model, "base")).unwrap();
        let saved = adapter
            .tensors
            .iter_mut()
            .find(|(name, _)| name.ends_with(&format!("{module}.weight")))
            .unwrap()
            .1;
        saved.values.iter_mut().for_each(|value| *value *= 1.5);
        let saved = saved.clone();

        let (merged, report) = export(&store, Some(adapter), ExportFormat::Merged).unwrap();
        assert!(report.max_abs_diff < 1e-4);
        let config = stored(&merged, "config.json");
        assert_eq!(config["tie_word_embeddings"], false, "{module}");
        let files = block_on(ModelFiles::open(&merged, "")).unwrap();
        let tensor = |name: &str| block_on(files.tensor(name)).unwrap();
        let base = golden("models/llama-tied/model.safetensors")["model.embed_tokens.weight"].clone();
        let expected: [&HostTensor; 2] = if module == "lm_head" { [&base, &saved] } else { [&saved, &base] };
        assert_eq!([&tensor("model.embed_tokens.weight"), &tensor("lm_head.weight")], expected, "{module}");
    }
}

#[test]
fn merged_folders_hold_what_transformers_reads() {
    let (out, report) = export(&model_folder("gpt2"), None, ExportFormat::Merged).unwrap();
    assert!(report.max_abs_diff < 1e-4, "{}", report.max_abs_diff);
    let mut written = block_on(out.list("")).unwrap();
    let mut files = report.files.clone();
    written.sort();
    files.sort();
    assert_eq!(written, files);
    for name in [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        assert!(files.iter().any(|file| file == name), "{name} not in {files:?}");
    }
    let config = stored(&out, "config.json");
    let expected = ["float32", "float32", "gpt2", "GPT2LMHeadModel"];
    let found =
        [&config["dtype"], &config["torch_dtype"], &config["model_type"], &config["architectures"][0]];
    assert_eq!(found, expected);
    let (tensors, metadata) =
        safetensors::from_bytes(&block_on(out.read_all("model.safetensors", u64::MAX)).unwrap(), "x")
            .unwrap();
    assert_eq!(metadata["format"], "pt");
    assert_eq!(tensors.len(), golden("models/gpt2/model.safetensors").len());
}

#[test]
fn gguf_models_become_folders() {
    let store = folder("gguf");
    let (out, report) = block_on(async {
        let files = ModelFiles::open(&store, "llama-Q8_0.gguf").await.unwrap();
        let tokenizer = session::tokenizer_of(&files).unwrap();
        let origin = Origin { files: &files, tokenizer: &tokenizer, name: "llama-Q8_0.gguf" };
        let work = ExportWork { origin, adapter: None, format: ExportFormat::Merged, device: &device_name() };
        let out = MemoryStore::new();
        let report = session::export(work, &out, "merged", &mut |_| Control::Continue).await.unwrap();
        (out, report)
    });
    assert!(report.max_abs_diff < 1e-4, "{}", report.max_abs_diff);
    let config = stored(&out, "merged/config.json");
    assert_eq!(
        (&config["architectures"][0], &config["dtype"]),
        (&"LlamaForCausalLM".into(), &"float32".into())
    );
}

#[test]
fn adapters_that_do_not_fit_are_refused_with_every_tensor_named() {
    let mut model = load(&model_folder("llama"));
    let mut wrong = adapter("llama-list");
    let a = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let b = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight";
    wrong.tensors.get_mut(a).unwrap().shape.reverse();
    wrong.tensors.shift_remove(b);
    wrong
        .tensors
        .insert("base_model.model.score.weight".into(), HostTensor { shape: vec![1], values: vec![0.0] });
    let error = model.attach_adapter(wrong).unwrap_err();
    let text = error.to_string();
    for expected in
        [format!("{a}: shape [32, 2]"), format!("{b}: missing"), "score.weight: belongs to no layer".into()]
    {
        assert!(text.contains(&expected), "{expected} not in\n{text}");
    }
    assert_eq!((text.lines().count(), error.exit_code()), (3, 2), "{text}");
}

#[test]
fn exports_replace_nothing_and_want_an_adapter_where_one_is_asked_for() {
    let base = model_folder("llama");
    let error = export(&base, None, ExportFormat::Adapter).unwrap_err().to_string();
    assert!(error.starts_with("adapter: not given"), "{error}");
    block_on(async {
        let files = ModelFiles::open(&base, "").await.unwrap();
        let tokenizer = session::tokenizer_of(&files).unwrap();
        let origin = Origin { files: &files, tokenizer: &tokenizer, name: "base" };
        let work = ExportWork { origin, adapter: None, format: ExportFormat::Merged, device: &device_name() };
        let before = base.list("").await.unwrap();
        let error = session::export(work, &base, "", &mut |_| Control::Continue).await.unwrap_err();
        assert!(error.to_string().starts_with("export folder: it holds"), "{error}");
        assert_eq!(base.list("").await.unwrap(), before);
    });
}

#[test]
fn variants_that_are_not_built_are_refused_by_name() {
    for (name, value) in
        [("use_dora", Value::Bool(true)), ("bias", "all".into()), ("trainable_token_indices", vec![3].into())]
    {
        let mut config = json(&format!("adapters/llama-lora/{ADAPTER_CONFIG}"));
        config[name] = value;
        let store = folder("adapters/llama-lora").with(ADAPTER_CONFIG, config.to_string());
        let error = block_on(Adapter::load(&store, "")).unwrap_err();
        assert!(error.to_string().starts_with(&format!("adapter_config.json: {name} = ")), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn factors_that_do_not_fit_the_settings_are_refused_before_they_are_read() {
    let store = folder("adapters/llama-lora");
    let text = block_on(store.read_all("adapter_config.json", u64::MAX)).unwrap();
    let mut settings: Value = serde_json::from_slice(&text).unwrap();
    settings["r"] = serde_json::json!(settings["r"].as_u64().unwrap() + 1);
    block_on(store.write("adapter_config.json", settings.to_string().as_bytes())).unwrap();
    let error = block_on(Adapter::load(&store, "")).unwrap_err().to_string();
    assert!(error.lines().count() > 1 && error.lines().count() <= 20, "{error}");
    assert!(error.contains("lora_A") && error.contains("one side of r = "), "{error}");
}
