//! Objectives: pure functions from a model and a batch to a loss and its gradients, one file each.

pub mod sft;
mod trainee;

pub use trainee::{EvalOutput, LossOutput, Trainee};
