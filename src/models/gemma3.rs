//! Gemma 3, text only (transformers' `modeling_gemma3.py`).

use super::layers::NormKind;
use super::llama;
use super::rope::{RopeSpec, Scaling};
use super::spec::{LayerSpec, Names, Spec, parse, refuse};
use crate::ops::Activation;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

const NAMES: Names = Names { norm_mlp: "pre_feedforward_layernorm", ..llama::NAMES };

#[derive(Deserialize)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    rms_norm_eps: f32,
    max_position_embeddings: usize,
    query_pre_attn_scalar: f32,
    #[serde(default = "window")]
    sliding_window: Option<usize>,
    layer_types: Option<Vec<String>>,
    sliding_window_pattern: Option<usize>,
    /// What transformers writes; some files have both.
    _sliding_window_pattern: Option<usize>,
    rope_local_base_freq: Option<f64>,
    #[serde(default = "tied")]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
}

fn tied() -> bool {
    true
}

/// transformers' default. A window of `null` is none.
fn window() -> Option<usize> {
    Some(4096)
}

/// `model_type: gemma3_text`
pub(super) fn spec(config: &Value) -> Result<Spec> {
    refuse(config, "hidden_activation", "gelu_pytorch_tanh", |v| v == "gelu_pytorch_tanh")?;
    refuse(config, "attn_logit_softcapping", "null", |_| false)?;
    refuse(config, "final_logit_softcapping", "null", |_| false)?;
    refuse(config, "use_bidirectional_attention", "false", |v| v == false)?;
    let file: Config = parse(config)?;
    let (full, sliding) = ropes(config, file.rope_local_base_freq.unwrap_or(10_000.0))?;
    let n_layers = file.num_hidden_layers.min(1 << 16);
    let every = file.sliding_window_pattern.or(file._sliding_window_pattern).unwrap_or(6).max(1);
    let layer = |i: usize| {
        let slides = match &file.layer_types {
            Some(types) => match types.get(i).map(String::as_str) {
                Some("sliding_attention") => true,
                Some("full_attention") => false,
                other => {
                    let found = other.unwrap_or("missing").to_string();
                    return Err(Error::input(
                        format!("config.json: layer_types[{i}]"),
                        found,
                        "sliding_attention or full_attention",
                    ));
                }
            },
            None => !(i + 1).is_multiple_of(every),
        };
        Ok(if slides {
            let window = file.sliding_window.filter(|&window| window > 0).ok_or_else(|| {
                Error::input(
                    "config.json: sliding_window",
                    "null or 0",
                    format!("a number from 1, for layer {i} slides"),
                )
            })?;
            LayerSpec { rope: Some(sliding.clone()), sliding_window: Some(window) }
        } else {
            LayerSpec { rope: Some(full.clone()), sliding_window: None }
        })
    };
    Ok(Spec {
        names: &NAMES,
        vocab_size: file.vocab_size,
        hidden_size: file.hidden_size,
        intermediate_size: file.intermediate_size,
        layers: (0..n_layers).map(layer).collect::<Result<_>>()?,
        n_heads: file.num_attention_heads,
        n_kv_heads: file.num_key_value_heads,
        head_dim: file.head_dim,
        attention_scale: file.query_pre_attn_scalar.sqrt().recip(),
        max_positions: file.max_position_embeddings,
        learned_positions: false,
        norm: NormKind::Rms { epsilon: file.rms_norm_eps, offset: 1.0 },
        qk_norm: true,
        norm_after: true,
        activation: Activation::GeluTanh,
        gated: true,
        qkv_bias: file.attention_bias,
        o_bias: file.attention_bias,
        mlp_bias: false,
        embed_scale: (file.hidden_size as f32).sqrt(),
        tied: file.tie_word_embeddings,
    })
}

/// Rotation of full and of sliding layers; before transformers 5 only the full ones were ever scaled.
fn ropes(config: &Value, local_theta: f64) -> Result<(RopeSpec, RopeSpec)> {
    let by_type =
        |kind: &str| config.get("rope_parameters").and_then(|p| p.get(kind)).filter(|p| !p.is_null());
    match (by_type("full_attention"), by_type("sliding_attention")) {
        (Some(full), Some(sliding)) => Ok((
            RopeSpec::from_parameters(full, 1_000_000.0)?,
            RopeSpec::from_parameters(sliding, local_theta)?,
        )),
        _ => Ok((
            RopeSpec::from_config(config, 1_000_000.0)?,
            RopeSpec { theta: local_theta, scaling: Scaling::None },
        )),
    }
}
