//! Objectives: a loss and its gradients for a model and a batch.

mod trainee;

pub use trainee::{EvalOutput, LossOutput, Trainee};
