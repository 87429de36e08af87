//! GPT-2 (transformers' `modeling_gpt2.py`).

use super::layers::NormKind;
use super::spec::{LayerSpec, Names, Spec, parse, refuse};
use crate::Result;
use crate::ops::Activation;
use serde::Deserialize;
use serde_json::Value;

const NAMES: Names = Names {
    base: "transformer.",
    embed: "wte",
    positions: "wpe",
    layers: "h",
    qkv: Some("attn.c_attn"),
    q: "",
    k: "",
    v: "",
    o: "attn.c_proj",
    gate: "",
    up: "mlp.c_fc",
    down: "mlp.c_proj",
    norm_attention: "ln_1",
    norm_mlp: "ln_2",
    norm_final: "ln_f",
    conv1d: true,
};

#[derive(Deserialize)]
struct Config {
    vocab_size: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    n_positions: usize,
    layer_norm_epsilon: f32,
    #[serde(default = "tied")]
    tie_word_embeddings: bool,
}

fn tied() -> bool {
    true
}

/// `model_type: gpt2`
pub(super) fn spec(config: &Value) -> Result<Spec> {
    refuse(config, "activation_function", "gelu_new, gelu_pytorch_tanh", |v| {
        v == "gelu_new" || v == "gelu_pytorch_tanh"
    })?;
    refuse(config, "scale_attn_weights", "true", |v| v == true)?;
    refuse(config, "scale_attn_by_inverse_layer_idx", "false", |v| v == false)?;
    refuse(config, "add_cross_attention", "false", |v| v == false)?;
    let file: Config = parse(config)?;
    let head_dim = file.n_embd / file.n_head.max(1);
    Ok(Spec {
        names: &NAMES,
        vocab_size: file.vocab_size,
        hidden_size: file.n_embd,
        intermediate_size: file.n_inner.unwrap_or_else(|| file.n_embd.saturating_mul(4)),
        layers: vec![LayerSpec { rope: None, sliding_window: None }; file.n_layer.min(1 << 16)],
        n_heads: file.n_head,
        n_kv_heads: file.n_head,
        head_dim,
        attention_scale: (head_dim as f32).sqrt().recip(),
        max_positions: file.n_positions,
        learned_positions: true,
        norm: NormKind::Layer { epsilon: file.layer_norm_epsilon },
        qk_norm: false,
        norm_after: false,
        activation: Activation::GeluTanh,
        gated: false,
        qkv_bias: true,
        o_bias: true,
        mlp_bias: true,
        embed_scale: 1.0,
        tied: file.tie_word_embeddings,
    })
}
