//! An architecture in numbers: what the files `llama.rs`, `qwen.rs` … read from a model's `config.json`
//! and the decoder is built from.

use super::{gemma3, gpt2, layers::NormKind, llama, qwen, rope::RopeSpec};
use crate::ops::Activation;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Everything that tells one decoder from another.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Names of the modules.
    pub names: &'static Names,
    /// Tokens of the embedding table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward layer.
    pub intermediate_size: usize,
    /// One entry a layer.
    pub layers: Vec<LayerSpec>,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on the attention scores.
    pub attention_scale: f32,
    /// Longest sequence the model was made for.
    pub max_positions: usize,
    /// Learned position table instead of rotation.
    pub learned_positions: bool,
    /// Normalisation everywhere.
    pub norm: NormKind,
    /// Query and key heads are normalised before rotation (Qwen3, Gemma 3).
    pub qk_norm: bool,
    /// Branch outputs are normalised before they are added (Gemma).
    pub norm_after: bool,
    /// Activation of the feed-forward layer.
    pub activation: Activation,
    /// Whether the feed-forward layer has a gate.
    pub gated: bool,
    /// Biases on the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias on attention's output projection.
    pub o_bias: bool,
    /// Biases in the feed-forward layer.
    pub mlp_bias: bool,
    /// Factor on the embeddings.
    pub embed_scale: f32,
    /// The output head is the embedding table.
    pub tied: bool,
}

/// How one layer's attention sees positions.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// Rotation, or `None` with learned positions.
    pub rope: Option<RopeSpec>,
    /// Keys further back are not seen.
    pub sliding_window: Option<usize>,
}

/// Module names of a family, as transformers has them.
#[derive(Debug, PartialEq)]
#[allow(missing_docs)] // each is the module it names
pub struct Names {
    pub base: &'static str,
    pub embed: &'static str,
    pub positions: &'static str,
    pub layers: &'static str,
    /// One merged projection instead of q, k, v.
    pub qkv: Option<&'static str>,
    pub q: &'static str,
    pub k: &'static str,
    pub v: &'static str,
    pub o: &'static str,
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub norm_attention: &'static str,
    pub norm_mlp: &'static str,
    pub norm_final: &'static str,
    /// Weights are `[d_in, d_out]`.
    pub conv1d: bool,
}

/// `model_type`s that can be loaded.
pub const SUPPORTED: &str = "llama (SmolLM2, Llama 3), qwen2, qwen3, gemma3_text, gpt2";

/// Whether an architecture of this name can be loaded: a `model_type`, or GGUF's `general.architecture`.
pub fn is_known_architecture(name: &str) -> bool {
    matches!(name, "llama" | "qwen2" | "qwen3" | "gemma3_text" | "gemma3" | "gpt2")
}

impl Spec {
    /// Reads a `config.json`.
    pub fn from_config(config: &Value) -> Result<Self> {
        refuse_quantised(config)?;
        let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("(no model_type)");
        let spec = match model_type {
            "llama" => llama::spec(config),
            "qwen2" => qwen::qwen2(config),
            "qwen3" => qwen::qwen3(config),
            "gemma3_text" => gemma3::spec(config),
            "gpt2" => gpt2::spec(config),
            other => {
                Err(Error::Unsupported { what: format!("model_type `{other}`"), supported: SUPPORTED.into() })
            }
        }?;
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<()> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.layers.len()),
            ("num_attention_heads", self.n_heads),
            ("num_key_value_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
        ];
        let out_of_range = |(name, n): (&str, usize)| {
            (n == 0 || n > LARGEST).then(|| {
                let expected = format!("a number from 1 to {LARGEST}");
                Error::input(format!("config.json: {name}"), n.to_string(), expected)
            })
        };
        let mut errors: Vec<Error> = positive.into_iter().filter_map(out_of_range).collect();
        if errors.is_empty() {
            errors.extend(out_of_range((
                "num_attention_heads × head_dim",
                self.n_heads.saturating_mul(self.head_dim),
            )));
        }
        let (NormKind::Rms { epsilon, .. } | NormKind::Layer { epsilon }) = self.norm;
        for (name, value, is_sound) in [
            ("rms_norm_eps or layer_norm_epsilon", epsilon, (0.0..=1.0).contains(&epsilon)),
            (
                "query_pre_attn_scalar or head_dim",
                self.attention_scale,
                self.attention_scale.is_finite() && self.attention_scale > 0.0,
            ),
        ] {
            if !is_sound {
                let expected = "a number that the model can be computed with";
                errors.push(Error::input(format!("config.json: {name}"), format!("gives {value}"), expected));
            }
        }
        if errors.is_empty() && !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let found = format!("{} for {} heads", self.n_kv_heads, self.n_heads);
            errors.push(Error::input(
                "config.json: num_key_value_heads",
                found,
                "a divisor of num_attention_heads",
            ));
        }
        if self.layers.iter().any(|l| l.rope.is_some()) && !self.head_dim.is_multiple_of(2) {
            errors.push(Error::input("config.json: head_dim", self.head_dim.to_string(), "an even number"));
        }
        Error::all(errors)
    }
}

/// Beyond any real model's sizes, and small enough that sums of a few products of two fit every machine.
const LARGEST: usize = 1 << 24;

/// Weights that a library packed: their bytes are not the numbers that the shapes promise.
fn refuse_quantised(config: &Value) -> Result<()> {
    let Some(quantised) = config.get("quantization_config").filter(|value| !value.is_null()) else {
        return Ok(());
    };
    let method = quantised.get("quant_method").and_then(Value::as_str).unwrap_or("of an unnamed kind");
    Err(Error::Unsupported {
        what: format!("config.json: quantization_config ({})", crate::store::shortened(method)),
        supported: "the model before quantisation, in F32, F16 or BF16, or as a GGUF file".into(),
    })
}

/// Reads the fields of an architecture's own config struct.
pub(super) fn parse<T: DeserializeOwned>(config: &Value) -> Result<T> {
    serde_json::from_value(config.clone()).map_err(|e| {
        Error::input("config.json", e.to_string(), "the fields transformers writes for this model_type")
    })
}

/// Refuses a setting whose effect is not built.
pub(super) fn refuse(
    config: &Value,
    field: &str,
    supported: &str,
    accepted: impl Fn(&Value) -> bool,
) -> Result<()> {
    match config.get(field) {
        Some(value) if !value.is_null() && !accepted(value) => Err(Error::Unsupported {
            what: format!("config.json: {field} = {value}"),
            supported: supported.into(),
        }),
        _ => Ok(()),
    }
}
