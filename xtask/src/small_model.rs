//! A small Llama with random weights, written on the fly: large enough that a step's time is that of a real model's
//! parts, small enough for a GPU in software and for counting instructions.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

// 1.45 M parameters.
const HIDDEN: usize = 192;
const INTERMEDIATE: usize = 512;
const LAYERS: usize = 3;
const HEADS: usize = 6;
const VOCABULARY: usize = 320;

/// Rank of the adapter that is trained.
pub const RANK: usize = 8;
/// Sequences in a step.
pub const BATCH: usize = 4;
/// Tokens in a sequence.
pub const LENGTH: usize = 64;

/// Writes the model beside the builds and returns its folder; the tokenizer is that of the fixtures.
///
/// # Errors
/// A file that cannot be read or written.
pub fn write() -> Result<PathBuf> {
    let fixtures = crate::root().join("tests/fixtures");
    let folder = crate::cache::target_dir().join("small-model");
    fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        put(&folder.join(name), &read(&fixtures.join("tokenizer").join(name))?)?;
    }
    let config: Map<String, Value> =
        serde_json::from_slice(&read(&fixtures.join("models/llama/config.json"))?)
            .context("the configuration of the fixtures' Llama")?;
    put(&folder.join("config.json"), format!("{:#}\n", enlarged(config)).as_bytes())?;
    put(&folder.join("model.safetensors"), &weights())?;
    Ok(folder)
}

/// Arguments of attune for steps on the model in `folder`; warm-up and steps are left to the caller.
pub fn step(folder: &Path, batch: usize) -> Vec<OsString> {
    let sizes = [("--batch", batch), ("--seq", LENGTH), ("--rank", RANK)];
    let sizes = sizes.into_iter().flat_map(|(name, size)| [name.into(), size.to_string().into()]);
    ["bench-step".into(), "--model".into(), folder.into()].into_iter().chain(sizes).collect()
}

/// The configuration of the tiny Llama with the small one's sizes.
fn enlarged(mut config: Map<String, Value>) -> Value {
    let sizes = [
        ("hidden_size", HIDDEN),
        ("intermediate_size", INTERMEDIATE),
        ("num_hidden_layers", LAYERS),
        ("num_attention_heads", HEADS),
        ("num_key_value_heads", HEADS),
        ("head_dim", HIDDEN / HEADS),
        ("vocab_size", VOCABULARY),
    ];
    config.extend(sizes.map(|(name, size)| (name.to_string(), json!(size))));
    Value::Object(config)
}

/// Name and shape of every tensor.
fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_string(), vec![VOCABULARY, HIDDEN]),
        ("model.norm.weight".to_string(), vec![HIDDEN]),
        ("lm_head.weight".to_string(), vec![VOCABULARY, HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        };
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(&format!("self_attn.{name}"), &[HIDDEN, HIDDEN]);
        }
        add("mlp.gate_proj", &[INTERMEDIATE, HIDDEN]);
        add("mlp.up_proj", &[INTERMEDIATE, HIDDEN]);
        add("mlp.down_proj", &[HIDDEN, INTERMEDIATE]);
        add("input_layernorm", &[HIDDEN]);
        add("post_attention_layernorm", &[HIDDEN]);
    }
    tensors
}

/// A safetensors file: norms are ones, everything else is uniform with a deviation of about 0.02.
fn weights() -> Vec<u8> {
    let (mut header, mut values) = (Map::new(), Vec::new());
    // Lehmer's generator: the same weights on every machine.
    let mut state = 1_u64;
    let mut next = || {
        state = state * 48271 % 2_147_483_647;
        (state as f64 / 2_147_483_647.0 - 0.5) * 0.07
    };
    for (name, shape) in tensors() {
        let begin = values.len();
        for _ in 0..shape.iter().product() {
            let value = if shape.len() == 1 { 1.0 } else { next() };
            values.extend((value as f32).to_le_bytes());
        }
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, values.len()] });
        header.insert(name, entry);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &values].concat()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{tensors, weights};

    #[test]
    fn the_file_holds_every_tensor() {
        let n_values: usize = tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(n_values, 1_451_328);
        let bytes = weights();
        let n_header = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
        assert_eq!(bytes.len(), 8 + n_header + 4 * n_values);
    }
}
