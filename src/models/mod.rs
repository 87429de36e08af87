//! Pretrained causal language models.
//!
//! An architecture is one file that reads its `config.json` into a [`Spec`]; one decoder is built
//! from any of them. Models hold empty slots for what methods attach.

mod adapter;
mod adapter_config;
mod attach;
mod block;
mod decoder;
mod description;
mod fits;
mod gemma3;
mod gpt2;
mod held;
mod host;
mod layers;
mod llama;
mod load;
mod merged;
mod params;
mod qwen;
mod rope;
mod spec;
mod weight;

pub use adapter::{ADAPTER_CONFIG, ADAPTER_MODEL, Adapter};
pub use attach::Attached;
pub(crate) use attach::{HEAD, no_adapter_on_head};
pub use decoder::{Cache, CausalLm, Context};
pub use description::ModelDescription;
pub use fits::refuse_too_large;
pub use held::HeldBytes;
pub use host::{read_scalars, read_vector};
pub use layers::{Adapters, EmbeddingNoise, Linear, LowRank, NormKind, Pass};
pub use merged::MergedWeight;
pub use params::{AnyTensor, NamedTensors, Param, ParamMut, Tape, add_all};
pub use spec::{SUPPORTED, Spec, is_known_architecture};
pub use weight::{PackedParam, Weight};
