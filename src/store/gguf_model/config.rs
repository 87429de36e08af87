//! The config of a GGUF file, as Hugging Face's `config.json` would have it.
//!
//! Keys and defaults follow llama.cpp (`src/llama-model.cpp`, `load_hparams`).

use super::Architecture;
use super::names::block_and_stem;
use crate::store::gguf::{Header, Metadata};
use crate::store::tokenizer_files::GgufVocabulary;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Shape and constants of the model.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub architecture: Architecture,
    pub num_hidden_layers: u32,
    pub num_attention_heads: u32,
    pub num_key_value_heads: u32,
    pub head_dim: u32,
    pub rope_theta: f64,
    /// Null where positions are not scaled.
    pub rope_scaling: Value,
    hidden_size: u32,
    intermediate_size: u32,
    vocab_size: u32,
    max_position_embeddings: u32,
    norm_eps: f64,
    tie_word_embeddings: bool,
    attention_bias: bool,
    mlp_bias: bool,
    window: Window,
    final_logit_softcapping: Option<f64>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
    pad_token_id: Option<u32>,
}

/// Gemma's sliding attention.
#[derive(Clone, Debug)]
struct Window {
    /// Tokens a sliding layer sees; none where every layer sees all.
    size: Option<u32>,
    /// Every so many layers one sees all.
    pattern: u32,
    rope_theta: f64,
}

/// Metadata under the architecture's prefix.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn u32(&self, name: &str) -> Result<Option<u32>> {
        self.metadata.u32(&self.key(name))
    }

    /// A size that must be there and not be zero.
    fn size(&self, name: &str) -> Result<u32> {
        let value = self.u32(name)?.ok_or_else(|| self.metadata.missing(&self.key(name)))?;
        self.positive(name, value)
    }

    /// A size that `default` stands in for.
    fn size_or(&self, name: &str, default: u32) -> Result<u32> {
        self.positive(name, self.u32(name)?.unwrap_or(default))
    }

    fn positive(&self, name: &str, value: u32) -> Result<u32> {
        if value == 0 {
            return Err(Error::input(self.metadata.place(&self.key(name)), "0", "1 or more"));
        }
        Ok(value)
    }

    fn float(&self, name: &str) -> Result<Option<f64>> {
        self.metadata.float(&self.key(name))
    }

    fn float_or(&self, name: &str, default: f64) -> Result<f64> {
        Ok(self.float(name)?.unwrap_or(default))
    }
}

impl Config {
    /// Reads what the metadata say, and from the tensors what only they say.
    pub fn read(
        architecture: Architecture,
        header: &Header,
        vocabulary: Option<&GgufVocabulary>,
    ) -> Result<Self> {
        let keys = Keys { metadata: &header.metadata, prefix: architecture.prefix() };
        let has = |name: &str| header.tensors.contains_key(name);
        let hidden_size = keys.size("embedding_length")?;
        let num_attention_heads = keys.size("attention.head_count")?;
        let default_theta = if architecture == Architecture::Gemma3 { 1e6 } else { 1e4 };
        Ok(Self {
            architecture,
            num_hidden_layers: n_blocks(&keys, header)?,
            num_attention_heads,
            num_key_value_heads: keys.size_or("attention.head_count_kv", num_attention_heads)?,
            head_dim: head_dim(&keys, architecture, hidden_size, num_attention_heads)?,
            rope_theta: keys.float_or("rope.freq_base", default_theta)?,
            rope_scaling: rope_scaling(&keys)?,
            hidden_size,
            intermediate_size: keys.size("feed_forward_length")?,
            vocab_size: vocab_size(&keys, header, vocabulary)?,
            max_position_embeddings: keys.size("context_length")?,
            norm_eps: match architecture {
                Architecture::Gpt2 => keys.float_or("attention.layer_norm_epsilon", 1e-5)?,
                _ => keys.float_or("attention.layer_norm_rms_epsilon", 1e-6)?,
            },
            tie_word_embeddings: !has("output.weight"),
            attention_bias: has("blk.0.attn_q.bias"),
            mlp_bias: has("blk.0.ffn_up.bias"),
            window: Window {
                size: keys.u32("attention.sliding_window")?.filter(|&size| size > 0),
                pattern: keys.size_or("attention.sliding_window_pattern", 6)?,
                rope_theta: keys.float_or("rope.freq_base_swa", 1e4)?,
            },
            final_logit_softcapping: keys.float("final_logit_softcapping")?,
            bos_token_id: vocabulary.and_then(|v| v.bos_id),
            eos_token_id: vocabulary.and_then(|v| v.eos_id),
            pad_token_id: vocabulary.and_then(|v| v.pad_id),
        })
    }

    /// In the form of `config.json`.
    pub fn to_json(&self) -> Value {
        let own = match self.architecture {
            Architecture::Llama => json!({
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
                "attention_bias": self.attention_bias, "mlp_bias": self.mlp_bias,
            }),
            Architecture::Qwen2 => json!({
                "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
                "use_sliding_window": false,
            }),
            Architecture::Qwen3 => json!({
                "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu",
                "attention_bias": self.attention_bias, "use_sliding_window": false,
            }),
            Architecture::Gemma3 => self.gemma3(),
            Architecture::Gpt2 => return merged(self.gpt2(), self.shared()),
        };
        merged(merged(own, self.llama_like()), self.shared())
    }

    fn shared(&self) -> Value {
        json!({
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": self.pad_token_id,
            "torch_dtype": "float32",
        })
    }

    fn llama_like(&self) -> Value {
        json!({
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling,
        })
    }

    fn gemma3(&self) -> Value {
        let sees_all =
            |layer: u32| self.window.size.is_none() || (layer + 1).is_multiple_of(self.window.pattern);
        let kind = |layer| if sees_all(layer) { "full_attention" } else { "sliding_attention" };
        // Only the 27B model, known by its depth, scales by another number than the head's width.
        let scalar = match self.num_hidden_layers {
            62 => self.hidden_size / self.num_attention_heads,
            _ => self.head_dim,
        };
        json!({
            "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": self.attention_bias,
            "query_pre_attn_scalar": scalar,
            "sliding_window": self.window.size,
            "sliding_window_pattern": self.window.pattern,
            "layer_types": (0..self.num_hidden_layers).map(kind).collect::<Vec<_>>(),
            "rope_local_base_freq": self.window.rope_theta,
            "attn_logit_softcapping": null,
            "final_logit_softcapping": self.final_logit_softcapping,
        })
    }

    fn gpt2(&self) -> Value {
        let is_default = Some(self.intermediate_size) == self.hidden_size.checked_mul(4);
        json!({
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2",
            "activation_function": "gelu_new",
            "n_embd": self.hidden_size,
            "n_head": self.num_attention_heads,
            "n_layer": self.num_hidden_layers,
            "n_positions": self.max_position_embeddings,
            "n_inner": (!is_default).then_some(self.intermediate_size),
            "layer_norm_epsilon": self.norm_eps,
        })
    }
}

/// The fields of both objects.
fn merged(mut into: Value, from: Value) -> Value {
    if let (Value::Object(into), Value::Object(from)) = (&mut into, from) {
        into.extend(from);
    }
    into
}

/// The number of blocks, each of which must have tensors.
fn n_blocks(keys: &Keys<'_>, header: &Header) -> Result<u32> {
    const NAME: &str = "block_count";
    let announced = keys.size(NAME)?;
    let blocks = header.tensors.keys().filter_map(|name| block_and_stem(name)).map(|(block, _)| block);
    let found: BTreeSet<u32> = blocks.collect();
    // As many different numbers below `announced` as there are.
    if found.len() as u64 != u64::from(announced) || found.last().is_some_and(|&last| last >= announced) {
        let expected = format!("{}, the blocks that the file has tensors for", found.len());
        return Err(Error::input(keys.metadata.place(&keys.key(NAME)), announced.to_string(), expected));
    }
    Ok(announced)
}

/// Values in a head, all of which must be rotated.
fn head_dim(keys: &Keys<'_>, architecture: Architecture, hidden_size: u32, n_heads: u32) -> Result<u32> {
    let rotated = keys.u32("rope.dimension_count")?;
    // transformers takes the rotated width of a Llama for its head's width.
    let implied = rotated.filter(|_| architecture == Architecture::Llama);
    let default = implied.unwrap_or(hidden_size / n_heads);
    let head_dim = keys.size_or("attention.key_length", default)?;
    for (name, found) in
        [("rope.dimension_count", rotated), ("attention.value_length", keys.u32("attention.value_length")?)]
    {
        if found.is_some_and(|found| found != head_dim) {
            let problem = found.unwrap_or_default().to_string();
            let expected = format!("the head's width {head_dim}");
            return Err(Error::input(keys.metadata.place(&keys.key(name)), problem, expected));
        }
    }
    Ok(head_dim)
}

/// Rows of the embedding, which may be more than the vocabulary has tokens, never fewer.
fn vocab_size(keys: &Keys<'_>, header: &Header, vocabulary: Option<&GgufVocabulary>) -> Result<u32> {
    const EMBEDDING: &str = "token_embd.weight";
    let file = &header.metadata.file;
    let entry = header
        .tensors
        .get(EMBEDDING)
        .ok_or_else(|| Error::input(file, format!("no tensor {EMBEDDING}"), "a model's GGUF file"))?;
    let rows = entry.info.shape.first().copied().unwrap_or(0);
    let n_tokens = vocabulary.map_or(0, |vocabulary| vocabulary.tokens.len());
    if rows < n_tokens {
        let place = crate::store::tensor_place(file, EMBEDDING);
        return Err(Error::input(
            place,
            format!("{rows} rows"),
            format!("{n_tokens} or more, one for each token"),
        ));
    }
    let announced = keys.u32("vocab_size")?;
    if announced.is_some_and(|announced| announced as usize != rows) {
        let problem = announced.unwrap_or_default().to_string();
        let expected = format!("{rows}, the rows of {EMBEDDING}");
        return Err(Error::input(keys.metadata.place(&keys.key("vocab_size")), problem, expected));
    }
    u32::try_from(rows)
        .map_err(|_| Error::input(file, format!("{rows} rows of {EMBEDDING}"), "a 32-bit number"))
}

/// Scaling that stands in the metadata; Llama 3's stands in a tensor instead.
fn rope_scaling(keys: &Keys<'_>) -> Result<Value> {
    let factor = keys.float("rope.scaling.factor")?.or(keys.float("rope.scale_linear")?);
    let factor = factor.filter(|&factor| factor != 0.0 && factor != 1.0);
    let kind = keys.metadata.string(&keys.key("rope.scaling.type"))?.unwrap_or("linear");
    Ok(match (kind, factor) {
        ("none", _) | ("linear", None) => Value::Null,
        (kind, factor) => {
            let original = keys.u32("rope.scaling.original_context_length")?;
            let mut scaling = json!({ "rope_type": kind, "factor": factor.unwrap_or(1.0) });
            if let Some(original) = original {
                scaling["original_max_position_embeddings"] = original.into();
            }
            scaling
        }
    })
}
