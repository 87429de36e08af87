//! Pretrained causal language models.
//!
//! An architecture is one file that reads its `config.json` into a [`Spec`]; one decoder is built
//! from any of them. Models hold empty slots for what methods attach.

mod attach;
mod block;
mod decoder;
mod gemma3;
mod gpt2;
mod host;
mod layers;
mod llama;
mod load;
mod params;
mod qwen;
mod rope;
mod spec;

pub use attach::Attached;
pub use decoder::{Cache, CausalLm, Context};
pub use host::read_scalars;
pub use layers::{Adapters, EmbeddingNoise, Linear, LowRank, Pass};
pub use params::{AnyTensor, NamedTensors, Param, ParamMut, Tape, add_all};
pub use spec::{SUPPORTED, Spec};
