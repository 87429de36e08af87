//! Llama and its kin: SmolLM2, Llama 3.x (transformers' `modeling_llama.py`).

use super::layers::NormKind;
use super::rope::RopeSpec;
use super::spec::{LayerSpec, Names, Spec, parse, refuse};
use crate::Result;
use crate::ops::Activation;
use serde::Deserialize;
use serde_json::Value;

/// Module names that Llama, Qwen and Gemma share.
pub(super) const NAMES: Names = Names {
    base: "model.",
    embed: "embed_tokens",
    positions: "",
    layers: "layers",
    qkv: None,
    q: "self_attn.q_proj",
    k: "self_attn.k_proj",
    v: "self_attn.v_proj",
    o: "self_attn.o_proj",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    norm_attention: "input_layernorm",
    norm_mlp: "post_attention_layernorm",
    norm_final: "norm",
    conv1d: false,
};

/// The fields that Llama and Qwen share, named as in `config.json`.
#[derive(Deserialize)]
pub(super) struct Config {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: f32,
    max_position_embeddings: usize,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

impl Config {
    /// The decoder these fields describe, with Llama's remaining choices.
    pub(super) fn spec(self, rope: RopeSpec) -> Spec {
        let head_dim = self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1));
        Spec {
            names: &NAMES,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            layers: vec![
                LayerSpec { rope: Some(rope), sliding_window: None };
                self.num_hidden_layers.min(1 << 16)
            ],
            n_heads: self.num_attention_heads,
            n_kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim,
            attention_scale: (head_dim as f32).sqrt().recip(),
            max_positions: self.max_position_embeddings,
            learned_positions: false,
            norm: NormKind::Rms { epsilon: self.rms_norm_eps, offset: 0.0 },
            qk_norm: false,
            norm_after: false,
            activation: Activation::Silu,
            gated: true,
            qkv_bias: self.attention_bias,
            o_bias: self.attention_bias,
            mlp_bias: self.mlp_bias,
            embed_scale: 1.0,
            tied: self.tie_word_embeddings,
        }
    }
}

/// `model_type: llama`
pub(super) fn spec(config: &Value) -> Result<Spec> {
    refuse(config, "hidden_act", "silu", |v| v == "silu")?;
    Ok(parse::<Config>(config)?.spec(RopeSpec::from_config(config, 10_000.0)?))
}
