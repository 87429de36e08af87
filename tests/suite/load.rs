//! What a model's files may say: the forms that configurations come in, and what is refused by name.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::adapter::model_folder;
use crate::support::{device, fixtures, json};
use attune::config::WeightFormat;
use attune::models::{CausalLm, refuse_too_large};
use attune::protocol::Event;
use attune::session;
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
use attune::{Result, native::block_on};
use serde_json::{Map, Value, json};

/// The fixture's model with another configuration and weights.
fn load_with(model: &str, config: &Value, weights: Vec<u8>) -> Result<(CausalLm, Vec<String>)> {
    let store = MemoryStore::new()
        .with("config.json", config.to_string().into_bytes())
        .with("model.safetensors", weights);
    let mut notes = Vec::new();
    let mut note = |event| {
        if let Event::Note { message } = event {
            notes.push(message);
        }
    };
    let loaded = block_on(async {
        let files = ModelFiles::open(&store, "").await?;
        CausalLm::load(&files, WeightFormat::Auto, &device(), &mut note).await
    });
    loaded
        .map(|model| (model, notes))
        .inspect_err(|error| assert_eq!(error.exit_code(), 2, "{model}: {error}"))
}

fn weights(model: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(format!("models/{model}/model.safetensors"))).unwrap()
}

/// The fixture's model with a changed configuration.
fn changed(model: &str, change: &dyn Fn(&mut Value)) -> Result<CausalLm> {
    let mut config = json(&format!("models/{model}/config.json"));
    change(&mut config);
    Ok(load_with(model, &config, weights(model))?.0)
}

fn refused(model: &str, change: &dyn Fn(&mut Value)) -> String {
    changed(model, change).err().unwrap().to_string()
}

/// A safetensors file with one tensor more, or one in another type than its F32.
fn with_tensor(file: &[u8], name: &str, dtype: &str, n_bytes: usize, shape: &[usize]) -> Vec<u8> {
    let n_header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let mut header: Map<String, Value> = serde_json::from_slice(&file[8..8 + n_header]).unwrap();
    let mut data = Vec::new();
    header.shift_remove(name);
    for (_, entry) in header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
        let at: Vec<usize> = serde_json::from_value(entry["data_offsets"].clone()).unwrap();
        let from = data.len();
        data.extend_from_slice(&file[8 + n_header..][at[0]..at[1]]);
        entry["data_offsets"] = json!([from, data.len()]);
    }
    let offsets = json!([data.len(), data.len() + n_bytes]);
    header.insert(name.into(), json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
    data.resize(data.len() + n_bytes, 1);
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

#[test]
fn unsupported_and_broken_models_are_refused_by_name() {
    let with = |change: &dyn Fn(&mut Value)| refused("llama", change);
    assert!(with(&|c| c["model_type"] = "mamba".into()).contains("llama (SmolLM2, Llama 3)"));
    assert!(with(&|c| c["hidden_act"] = "relu".into()).contains("hidden_act"));
    assert!(with(&|c| c["num_hidden_layers"] = 3.into()).contains("model.layers.2.self_attn.q_proj.weight"));
    assert!(with(&|c| c["num_key_value_heads"] = 3.into()).contains("num_key_value_heads"));
    assert!(with(&|c| c["intermediate_size"] = 65.into()).contains("[65, 32]"));
    assert!(with(&|c| c["vocab_size"] = 0.into()).contains("vocab_size"));
    assert!(with(&|c| c["rope_parameters"]["rope_type"] = "yarn".into()).contains("yarn"));
}

#[test]
fn numbers_that_no_model_has_are_refused_before_they_overflow() {
    let huge = u64::MAX / 2;
    assert!(refused("gpt2", &|c| c["n_embd"] = huge.into()).contains("hidden_size"));
    let head_dim = |c: &mut Value| c["head_dim"] = (1 << 24).into();
    assert!(refused("llama", &head_dim).contains("num_attention_heads × head_dim"));
    assert!(
        refused("llama", &|c| c["rope_parameters"] = json!({ "rope_theta": 0.0 })).contains("rope_theta")
    );
    let no_parameters = |c: &mut Value| {
        c["rope_parameters"] = Value::Null;
        c["rope_theta"] = (-1.0).into();
    };
    assert!(refused("llama", &no_parameters).contains("rope_theta"));
    assert!(
        refused("gemma3", &|c| c["query_pre_attn_scalar"] = (-6).into()).contains("query_pre_attn_scalar")
    );
    assert!(refused("llama", &|c| c["rms_norm_eps"] = (-1.0).into()).contains("norm_eps"));
}

#[test]
fn quantised_folders_and_weights_of_whole_numbers_are_refused() {
    let quantised = |c: &mut Value| c["quantization_config"] = json!({ "quant_method": "bitsandbytes" });
    let message = refused("llama", &quantised);
    assert!(message.contains("quantization_config") && message.contains("bitsandbytes"), "{message}");
    assert!(message.contains("GGUF"), "what can be had instead: {message}");
    changed("llama", &|c| c["quantization_config"] = Value::Null).unwrap();

    let config = json("models/llama/config.json");
    for (dtype, width) in [("I8", 1), ("U8", 1), ("BOOL", 1), ("I16", 2), ("I32", 4), ("I64", 8)] {
        let file = with_tensor(&weights("llama"), "lm_head.weight", dtype, width * 320 * 32, &[320, 32]);
        let message = load_with("llama", &config, file).err().unwrap().to_string();
        assert!(
            message.starts_with("lm_head.weight: ") && message.contains("F32, F16"),
            "{dtype}: {message}"
        );
    }
}

#[test]
fn tensors_that_are_never_read_are_named() {
    let notes = |model: &str, names: &[&str]| {
        let add = |file: Vec<u8>, name: &&str| with_tensor(&file, name, "F32", 16, &[4]);
        let file = names.iter().fold(weights(model), add);
        load_with(model, &json(&format!("models/{model}/config.json")), file).unwrap().1
    };
    let scale = "model.layers.1.self_attn.q_proj.weight_scale";
    let found = notes("llama", &[scale, "model.layers.0.self_attn.rotary_emb.inv_freq"]);
    assert_eq!(found, [format!("1 tensor of the model's files is not used: {scale}")]);
    assert!(notes("llama", &[]).is_empty());
    // Files of older versions hold the causal mask, and the embedding a second time as the head.
    assert!(notes("gpt2", &["transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"]).is_empty());
    assert!(notes("llama-tied", &["lm_head.weight"]).is_empty());
    assert_eq!(notes("llama", &["lm_head.bias"]).len(), 1);
}

/// Files that were saved by one version and edited for another say the same under two names.
#[test]
fn settings_under_their_old_and_new_name_load() {
    let both = json!({ "rope_type": "default", "type": "linear", "rope_theta": 10000.0 });
    changed("llama", &|c| c["rope_parameters"] = both.clone()).unwrap();
    let old = json!({ "type": "linear", "factor": 2.0 });
    changed("llama", &|c| {
        c["rope_parameters"] = Value::Null;
        c["rope_scaling"] = old.clone();
    })
    .unwrap();
    changed("gemma3", &|c| c["sliding_window_pattern"] = 6.into()).unwrap();
}

#[test]
fn gemma_needs_a_window_only_where_a_layer_slides() {
    let everywhere = json!(["full_attention", "full_attention"]);
    changed("gemma3", &|c| {
        c["sliding_window"] = Value::Null;
        c["layer_types"] = everywhere.clone();
    })
    .unwrap();
    let message = refused("gemma3", &|c| c["sliding_window"] = Value::Null);
    assert!(message.contains("sliding_window"), "{message}");
}

#[test]
fn the_ends_of_generation_are_those_of_transformers() {
    let ends = |generation: Option<Value>, config: Value| {
        let mut settings = json("models/llama/config.json");
        settings["eos_token_id"] = config;
        let store = model_folder("llama").with("config.json", settings.to_string().into_bytes());
        block_on(async {
            use attune::store::Store;
            store.remove("generation_config.json").await.unwrap();
            if let Some(generation) = generation {
                store.write("generation_config.json", generation.to_string().as_bytes()).await.unwrap();
            }
            let files = ModelFiles::open(&store, "").await.unwrap();
            session::tokenizer_of(&files).unwrap().eos_ids().to_vec()
        })
    };
    // The tokenizer's own end is token 2.
    assert_eq!(ends(Some(json!({ "eos_token_id": [2, 5] })), json!(7)), [2, 5]);
    assert_eq!(ends(None, json!([7, 9])), [2, 7, 9]);
    assert_eq!(ends(None, json!(7)), [2, 7]);
    assert_eq!(ends(Some(json!({})), json!(7)), [2, 7]);
    assert_eq!(ends(None, Value::Null), [2]);
}

#[test]
fn a_model_with_a_tensor_larger_than_the_device_takes_is_refused() {
    let store = model_folder("llama");
    let files = block_on(ModelFiles::open(&store, "")).unwrap();
    let bytes = |name: &&str| 4 * files.info(name).unwrap().shape.iter().product::<usize>() as u64;
    let largest = files.tensor_names().into_iter().max_by_key(bytes).unwrap();
    let n_bytes = bytes(&largest);
    refuse_too_large(&files, "webgpu", n_bytes).unwrap();
    let error = refuse_too_large(&files, "webgpu", n_bytes - 1).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let said = error.to_string();
    assert!(said.starts_with("device webgpu: the model's tensor ") && said.contains(largest), "{said}");
    assert!(said.ends_with("choose a smaller model, or compute on the CPU"), "{said}");
}
