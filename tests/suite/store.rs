//! Model files against what transformers, gguf-py and safetensors make of them.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::support::{fixtures, folder, golden, ready};
use attune::store::gguf;
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
use attune::store::safetensors;
use attune::store::tokenizer_files::TokenizerFiles;
use attune::store::{HostTensor, StoredType};
use indexmap::IndexMap;
use serde_json::{Value, json};

/// All tensors of a model, by name.
fn tensors(store: &MemoryStore, key: &str) -> IndexMap<String, HostTensor> {
    ready(async {
        let files = ModelFiles::open(store, key).await.unwrap();
        let mut tensors = IndexMap::new();
        for name in files.tensor_names() {
            let tensor = files.tensor(name).await.unwrap();
            assert_eq!(&tensor.shape, &files.info(name).unwrap().shape, "{name}");
            tensors.insert(name.to_owned(), tensor);
        }
        tensors
    })
}

fn error(store: &MemoryStore, key: &str) -> String {
    let error = ready(ModelFiles::open(store, key)).err().unwrap();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

#[test]
fn every_block_type_gives_ggmls_values_bit_for_bit() {
    let store = folder("gguf");
    let golden = golden("gguf/quants.golden.safetensors");
    ready(async {
        let header = gguf::read_header(&store, "quants.gguf").await.unwrap();
        assert_eq!(header.tensors.len(), golden.len());
        for (name, entry) in &header.tensors {
            let read = entry.read(&store, "quants.gguf", name).await.unwrap();
            assert_eq!(read.shape, [2, 256], "{name}");
            let pairs = read.values.iter().zip(&golden[name].values);
            assert!(pairs.into_iter().all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
        }
    });
    let expected = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K";
    assert!(expected.split(' ').all(|name| golden.contains_key(name)));
}

#[test]
fn folders_give_the_tensors_their_files_hold() {
    for model in ["llama", "llama-tied", "llama3-rope", "qwen2", "qwen3", "gemma3", "gpt2"] {
        let store = folder(&format!("models/{model}"));
        assert_eq!(tensors(&store, ""), golden(&format!("models/{model}/model.safetensors")), "{model}");
    }
}

#[test]
fn shards_are_one_model() {
    let read = tensors(&folder("models/llama-sharded"), "");
    let mut expected = IndexMap::new();
    for shard in 1..=3 {
        expected.extend(golden(&format!("models/llama-sharded/model-0000{shard}-of-00003.safetensors")));
    }
    assert_eq!(read.len(), expected.len());
    assert!(expected.iter().all(|(name, tensor)| &read[name] == tensor));
}

/// A GGUF file of F32 tensors holds the very weights of the folder it was converted from.
#[test]
fn gguf_files_give_the_weights_and_settings_they_were_converted_from() {
    for model in ["llama3-rope", "qwen2", "qwen3", "gpt2"] {
        let (gguf, converted_from) = (folder("gguf"), folder(&format!("models/{model}")));
        let key = format!("{model}-F32.gguf");
        let (read, mut expected) = (tensors(&gguf, &key), tensors(&converted_from, ""));
        expected.sort_keys();
        let mut read = read;
        read.sort_keys();
        assert_eq!(read.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{model}");
        assert!(read.iter().all(|(name, tensor)| tensor == &expected[name]), "{model}");
        same_settings(&gguf, &key, &converted_from, model);
    }
}

/// Gemma's norms are stored plus one, which rounds.
#[test]
fn gemma_gguf_files_give_the_weights_they_were_converted_from() {
    let (read, expected) =
        (tensors(&folder("gguf"), "gemma3-F32.gguf"), tensors(&folder("models/gemma3"), ""));
    assert_eq!(read.len(), expected.len());
    for (name, tensor) in &expected {
        assert_eq!(read[name].shape, tensor.shape, "{name}");
        let tolerance = if name.ends_with("norm.weight") { 2e-7 } else { 0.0 };
        let pairs = read[name].values.iter().zip(&tensor.values);
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= tolerance), "{name}");
    }
}

/// Every setting the GGUF view states is the original's, up to f32's rounding.
fn same_settings(gguf: &MemoryStore, key: &str, folder: &MemoryStore, model: &str) {
    let read = ready(ModelFiles::open(gguf, key)).unwrap().config().clone();
    let original = ready(ModelFiles::open(folder, "")).unwrap().config().clone();
    let rope = &original["rope_parameters"];
    for (name, value) in read.as_object().unwrap() {
        let expected = match name.as_str() {
            "torch_dtype" => &original["dtype"],
            "rope_theta" => &rope["rope_theta"],
            // The converted tokenizer's, not the model's.
            "bos_token_id" => continue,
            // Left out by some configs where it follows from the others.
            "head_dim" if original[name].is_null() => {
                let width = original["hidden_size"].as_u64().unwrap();
                assert_eq!(value, width / original["num_attention_heads"].as_u64().unwrap());
                continue;
            }
            "rope_scaling" if rope["rope_type"] == "default" => &Value::Null,
            "rope_scaling" => {
                for (name, value) in value.as_object().unwrap() {
                    assert!(nearly(value, &rope[name]), "{model} {name}: {value}, not {}", rope[name]);
                }
                continue;
            }
            name => &original[name],
        };
        assert!(nearly(value, expected), "{model} {name}: {value}, not {expected}");
    }
}

fn nearly(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * b.abs(),
        _ => a == b,
    }
}

#[test]
fn quantised_files_keep_their_type_and_stay_near_the_original() {
    let (gguf, folder) = (folder("gguf"), folder("models/llama"));
    let (read, expected) = (tensors(&gguf, "llama-Q8_0.gguf"), tensors(&folder, ""));
    for (name, tensor) in &expected {
        let largest = tensor.values.iter().fold(0f32, |m, v| m.max(v.abs()));
        let pairs = read[name].values.iter().zip(&tensor.values);
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= largest / 127.0), "{name}");
    }
    let files = ready(ModelFiles::open(&gguf, "llama-Q8_0.gguf")).unwrap();
    assert_eq!(files.info("lm_head.weight").unwrap().stored, StoredType::Q8_0);
    assert_eq!(files.info("model.norm.weight").unwrap().stored, StoredType::F32);
    same_settings(&gguf, "llama-Q8_0.gguf", &folder, "llama");
}

#[test]
fn the_vocabulary_is_the_tokenizers_it_was_converted_from() {
    let store = folder("gguf");
    let files = ready(ModelFiles::open(&store, "llama-Q8_0.gguf")).unwrap();
    let TokenizerFiles::Gguf(vocabulary) = files.tokenizer().unwrap() else { panic!("no GGUF vocabulary") };
    let text = std::fs::read_to_string(fixtures().join("tokenizer/tokenizer.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(vocabulary.tokens.len(), json["model"]["vocab"].as_object().unwrap().len());
    assert!(vocabulary.tokens.iter().enumerate().all(|(id, token)| json["model"]["vocab"][token] == id));
    assert_eq!(vocabulary.merges.len(), json["model"]["merges"].as_array().unwrap().len());
    assert_eq!(vocabulary.token_types[..4], [3, 3, 3, 1]);
    assert_eq!((vocabulary.bos_id, vocabulary.eos_id, vocabulary.pad_id), (Some(1), Some(2), Some(0)));
    assert_eq!((vocabulary.model.as_str(), vocabulary.pre.as_deref()), ("gpt2", Some("gpt-2")));
    assert_eq!(vocabulary.add_bos, Some(false));
    let template = std::fs::read_to_string(fixtures().join("tokenizer/chat_template.jinja")).unwrap();
    assert_eq!(vocabulary.chat_template, Some(template));
}

#[test]
fn a_folders_tokenizer_comes_with_its_template() {
    let weights = safetensors::to_bytes(&IndexMap::new(), &IndexMap::new()).unwrap();
    let store = MemoryStore::new()
        .with("m/config.json", *b"{}")
        .with("m/model.safetensors", weights)
        .with("m/tokenizer.json", *b"{\"a\":1}");
    let template_of = |store: &MemoryStore| {
        let files = ready(ModelFiles::open(store, "m/")).unwrap();
        match files.tokenizer().unwrap() {
            TokenizerFiles::Json { chat_template, tokenizer_json, .. } => {
                assert_eq!(tokenizer_json, b"{\"a\":1}");
                chat_template.clone()
            }
            TokenizerFiles::Gguf(_) => None,
        }
    };
    assert_eq!(template_of(&store), None);
    let named = json!({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]});
    let store = store.with("m/tokenizer_config.json", named.to_string());
    assert_eq!(template_of(&store).as_deref(), Some("D"));
    let store = store.with("m/tokenizer_config.json", json!({"chat_template": "one"}).to_string());
    assert_eq!(template_of(&store).as_deref(), Some("one"));
    let store = store.with("m/chat_template.jinja", *b"file");
    assert_eq!(template_of(&store).as_deref(), Some("file"));
}

#[test]
fn tensors_saved_without_their_models_prefix_get_it() {
    for (model, prefix) in [("gpt2", "transformer."), ("llama-tied", "model.")] {
        let path = format!("models/{model}/model.safetensors");
        let whole = golden(&path);
        let bare: IndexMap<_, _> = whole
            .iter()
            .map(|(name, tensor)| (name.trim_start_matches(prefix).to_owned(), tensor.clone()))
            .collect();
        assert!(bare.keys().all(|name| !name.starts_with(prefix)));
        let weights = safetensors::to_bytes(&bare, &IndexMap::new()).unwrap();
        let store = MemoryStore::new().with("config.json", *b"{}").with("model.safetensors", weights);
        assert_eq!(tensors(&store, ""), whole, "{model}");
    }
}

#[test]
fn refuses_folders_that_are_no_model() {
    let empty = MemoryStore::new();
    assert!(error(&empty, "m").contains("m: no config.json and no GGUF file"));
    assert!(error(&empty, "m.gguf").contains("m.gguf: no such file"));
    let store = MemoryStore::new().with("m/config.json", *b"{\"a\": }");
    assert!(error(&store, "m").contains("m/config.json: expected value at line 1 column 7"));
    let store = MemoryStore::new().with("m/config.json", *b"[1]");
    assert!(error(&store, "m").contains("m/config.json: no JSON object"));
    let store = MemoryStore::new().with("m/config.json", *b"{}");
    assert!(error(&store, "m").contains("neither model.safetensors nor model.safetensors.index.json"));
    assert!(error(&MemoryStore::new().with("weights.bin", *b"PK12"), "weights.bin").contains("begins with"));
}

#[test]
fn refuses_an_index_that_leaves_its_folder_or_lists_what_is_not_there() {
    let index = |file: &str| json!({"weight_map": {"w": file, "v": file}}).to_string();
    let weights = safetensors::to_bytes(&IndexMap::new(), &IndexMap::new()).unwrap();
    let store = |file: &str| {
        MemoryStore::new()
            .with("m/config.json", *b"{}")
            .with("m/a.safetensors", weights.clone())
            .with("m/model.safetensors.index.json", index(file))
    };
    for outside in ["../a.safetensors", "/etc/a.safetensors", "..\\a.safetensors", "a.bin"] {
        assert!(
            error(&store(outside), "m").contains("names of safetensors files beside the index"),
            "{outside}"
        );
    }
    assert!(error(&store("b.safetensors"), "m").contains("m/b.safetensors: no such file"));
    let both = error(&store("a.safetensors"), "m");
    assert!(both.contains("m/a.safetensors: no tensor w") && both.contains("no tensor v"), "{both}");
}

#[test]
fn a_model_without_a_tensor_or_a_tokenizer_says_so_when_asked() {
    let store = folder("models/llama");
    let files = ready(ModelFiles::open(&store, "")).unwrap();
    assert!(files.info("nope").is_none());
    assert!(ready(files.tensor("nope")).unwrap_err().to_string().contains("no tensor nope"));
    assert!(files.tokenizer().unwrap_err().to_string().contains("no tokenizer; expected tokenizer.json"));
    assert_eq!(files.generation_config().unwrap()["eos_token_id"], json!([2, 0]));
}
