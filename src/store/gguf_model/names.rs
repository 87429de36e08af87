//! Tensor names of llama.cpp and transformers, and what the converter did to the values.

use super::Architecture;
use super::config::Config;
use crate::store::HostTensor;

/// What a tensor of a GGUF file is to transformers.
pub(super) enum Name {
    /// A parameter of that name, once restored.
    Known(String, Restore),
    /// Nothing: its content is in the config or follows from it.
    Skip,
    /// Not of this architecture.
    Unknown,
}

/// How to undo the converter's change to a tensor's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restore {
    /// There was none.
    Keep,
    /// Rows of each head went from (first half, second half) to pairs, since llama.cpp rotates
    /// neighbours where transformers rotates halves.
    HalvesOfHeads {
        /// Heads the rows belong to.
        n_heads: usize,
    },
    /// One was added, since transformers' Gemma scales by `1 + weight`.
    MinusOne,
    /// The matrix was transposed, since transformers' GPT-2 keeps `[in, out]`.
    Transpose,
}

/// Names outside the blocks: llama.cpp's and transformers'.
const ROOT: &[(&str, &str)] =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];
const ROOT_GPT2: &[(&str, &str)] = &[
    ("token_embd", "transformer.wte"),
    ("position_embd", "transformer.wpe"),
    ("output_norm", "transformer.ln_f"),
    ("output", "lm_head"),
];

/// Names inside a block.
const BLOCK: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];
const BLOCK_QK_NORM: &[(&str, &str)] =
    &[("attn_q_norm", "self_attn.q_norm"), ("attn_k_norm", "self_attn.k_norm")];
/// Gemma normalises before and after both halves of a block, so `ffn_norm` means another one.
const BLOCK_GEMMA3: &[(&str, &str)] = &[
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];
const BLOCK_GPT2: &[(&str, &str)] = &[
    ("attn_norm", "ln_1"),
    ("attn_qkv", "attn.c_attn"),
    ("attn_output", "attn.c_proj"),
    ("ffn_norm", "ln_2"),
    ("ffn_up", "mlp.c_fc"),
    ("ffn_down", "mlp.c_proj"),
];

/// What transformers calls the tensor `name`.
pub(super) fn transformers_name(name: &str, config: &Config) -> Name {
    if name == super::rope::FACTORS || name.ends_with(".attn_rot_embd.weight") {
        return Name::Skip;
    }
    let Some((stem, suffix)) =
        name.rsplit_once('.').filter(|(_, suffix)| matches!(*suffix, "weight" | "bias"))
    else {
        return Name::Unknown;
    };
    let found = match block_and_stem(stem) {
        Some((block, stem)) if block < config.num_hidden_layers => {
            let in_blocks =
                if config.architecture == Architecture::Gpt2 { "transformer.h" } else { "model.layers" };
            block_name(stem, config.architecture).map(|name| format!("{in_blocks}.{block}.{name}"))
        }
        Some(_) => None,
        None => {
            let root = if config.architecture == Architecture::Gpt2 { ROOT_GPT2 } else { ROOT };
            look_up(&[root], stem).map(str::to_owned)
        }
    };
    match found {
        Some(found) => Name::Known(format!("{found}.{suffix}"), restore(name, config)),
        None => Name::Unknown,
    }
}

/// `blk.3.attn_q` as 3 and `attn_q`.
pub(super) fn block_and_stem(name: &str) -> Option<(u32, &str)> {
    let (block, stem) = name.strip_prefix("blk.")?.split_once('.')?;
    let number: u32 = block.parse().ok()?;
    (number.to_string() == block).then_some((number, stem)) // "+3" and "03" would give a name twice
}

fn block_name(stem: &str, architecture: Architecture) -> Option<&'static str> {
    match architecture {
        Architecture::Llama | Architecture::Qwen2 => look_up(&[BLOCK], stem),
        Architecture::Qwen3 => look_up(&[BLOCK, BLOCK_QK_NORM], stem),
        Architecture::Gemma3 => look_up(&[BLOCK_GEMMA3, BLOCK_QK_NORM, BLOCK], stem),
        Architecture::Gpt2 => look_up(&[BLOCK_GPT2], stem),
    }
}

/// The first entry for `stem`.
fn look_up(tables: &[&[(&str, &'static str)]], stem: &str) -> Option<&'static str> {
    tables.iter().copied().flatten().find(|(theirs, _)| *theirs == stem).map(|(_, ours)| *ours)
}

fn restore(name: &str, config: &Config) -> Restore {
    let stem = block_and_stem(name).map(|(_, stem)| stem).unwrap_or_default();
    match (config.architecture, stem) {
        (Architecture::Llama, "attn_q.weight" | "attn_q.bias") => {
            Restore::HalvesOfHeads { n_heads: config.num_attention_heads as usize }
        }
        (Architecture::Llama, "attn_k.weight" | "attn_k.bias") => {
            Restore::HalvesOfHeads { n_heads: config.num_key_value_heads as usize }
        }
        (Architecture::Gemma3, _) if name.ends_with("norm.weight") => Restore::MinusOne,
        (
            Architecture::Gpt2,
            "attn_qkv.weight" | "attn_output.weight" | "ffn_up.weight" | "ffn_down.weight",
        ) => Restore::Transpose,
        _ => Restore::Keep,
    }
}

impl Restore {
    /// The shape after restoring; the error says what shape can be restored.
    pub(super) fn shape(self, shape: &[usize]) -> Result<Vec<usize>, String> {
        match self {
            Self::Keep | Self::MinusOne => Ok(shape.to_vec()),
            Self::HalvesOfHeads { n_heads } => {
                let rows = shape.first().copied().unwrap_or(0);
                let is_even =
                    rows > 0 && n_heads.checked_mul(2).is_some_and(|parts| rows.is_multiple_of(parts));
                is_even
                    .then(|| shape.to_vec())
                    .ok_or_else(|| format!("a multiple of 2·{n_heads} heads as rows"))
            }
            Self::Transpose => match *shape {
                [rows, columns] => Ok(vec![columns, rows]),
                _ => Err("a matrix".into()),
            },
        }
    }

    /// Which row of the file each row of a matrix of so many is; `None` where values change too.
    pub(super) fn source_rows(self, rows: usize) -> Option<Box<dyn Fn(usize) -> usize>> {
        match self {
            Self::Keep => Some(Box::new(|row| row)),
            Self::HalvesOfHeads { n_heads } => {
                let half = rows / n_heads / 2;
                Some(Box::new(move |row| half_of_head(row, half)))
            }
            Self::MinusOne | Self::Transpose => None,
        }
    }

    /// Restores a tensor whose shape [`Self::shape`] accepted.
    pub(super) fn apply(self, mut tensor: HostTensor) -> HostTensor {
        match self {
            Self::Keep => tensor,
            Self::MinusOne => {
                tensor.values.iter_mut().for_each(|value| *value -= 1.0);
                tensor
            }
            Self::HalvesOfHeads { n_heads } => {
                let rows = tensor.shape[0];
                let (columns, half) = (tensor.values.len() / rows, rows / n_heads / 2);
                let mut values = Vec::with_capacity(tensor.values.len());
                for row in 0..rows {
                    values.extend_from_slice(&tensor.values[half_of_head(row, half) * columns..][..columns]);
                }
                HostTensor { values, ..tensor }
            }
            Self::Transpose => {
                let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
                let at = |i: usize| tensor.values[i % rows * columns + i / rows];
                let values = (0..rows * columns).map(at).collect();
                HostTensor { shape: vec![columns, rows], values }
            }
        }
    }
}

/// Row of the file: [head, which half, place] comes from [head, place, which half].
fn half_of_head(row: usize, half: usize) -> usize {
    let (head, which, place) = (row / (2 * half), row / half % 2, row % half);
    (head * half + place) * 2 + which
}
