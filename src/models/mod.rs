//! Pretrained causal language models.

mod params;
pub use params::{AnyTensor, NamedTensors, read_scalars};
