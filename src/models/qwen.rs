//! Qwen2 and Qwen3, dense (transformers' `modeling_qwen2.py`, `modeling_qwen3.py`).

use super::llama::Config;
use super::rope::RopeSpec;
use super::spec::{Spec, parse, refuse};
use crate::Result;
use serde_json::Value;

/// `model_type: qwen2`: Llama with biases on query, key and value.
pub(super) fn qwen2(config: &Value) -> Result<Spec> {
    Ok(Spec { qkv_bias: true, o_bias: false, ..shared(config)? })
}

/// `model_type: qwen3`: Llama with normalised query and key heads.
pub(super) fn qwen3(config: &Value) -> Result<Spec> {
    Ok(Spec { qk_norm: true, ..shared(config)? })
}

fn shared(config: &Value) -> Result<Spec> {
    refuse(config, "hidden_act", "silu", |v| v == "silu")?;
    refuse(config, "use_sliding_window", "false", |v| v == false)?;
    Ok(parse::<Config>(config)?.spec(RopeSpec::from_config(config, 10_000.0)?))
}
