//! What the training loop trains and the evaluation evaluates. Two implement it: a causal language model
//! with its objective, and the bigram model of the loop's tests, whose gradients have a closed form.

use crate::Result;
use crate::data::Batch;
use crate::models::{CausalLm, NamedTensors};
use burn::tensor::{Int, Tensor};

/// Loss of one micro-batch and its gradients.
pub struct LossOutput {
    /// Weighted loss sum over the denominator, `[1]`.
    pub loss: Tensor<1>,
    /// Gradient of every trainable parameter.
    pub grads: NamedTensors,
}

/// Held-out figures of one batch.
pub struct EvalOutput {
    /// Weighted negative log-likelihood, summed over targets, `[1]`.
    pub nll_sum: Tensor<1>,
    /// Targets (tokens with a loss weight) that are the model's first choice, `[1]`.
    pub n_correct: Tensor<1>,
    /// Which of the answers asked about the model takes, `[batch]`; `None` where none were.
    pub answers: Option<Tensor<1, Int>>,
}

/// Something with trainable parameters and a loss on a batch.
pub trait Trainee {
    /// Trainable values, outside any gradient graph, in stable order.
    fn trainable(&self) -> NamedTensors;
    /// Replaces the trainable values. Names and shapes must be those of [`trainable`](Self::trainable).
    fn set_trainable(&mut self, values: NamedTensors) -> Result<()>;
    /// Parameters in all, trainable or not.
    fn total_params(&self) -> usize;
    /// Loss and gradients of one micro-batch.
    ///
    /// `denominator` is the target weight of the whole accumulated batch, so that losses and gradients
    /// of its micro-batches just add up. `seed` drives dropout; it differs between micro-batches.
    fn loss_and_grads(&self, batch: &Batch, denominator: f64, seed: u64) -> Result<LossOutput>;
    /// Held-out figures of one batch, without dropout. `answer_ids` are tokens, one of which is to be chosen as
    /// the first target of each sequence.
    fn evaluate(&self, batch: &Batch, answer_ids: Option<&[u32]>) -> Result<EvalOutput>;
    /// The model that can be asked to continue a text; `None` where it is none that speaks.
    fn speaker(&self) -> Option<&CausalLm> {
        None
    }
}
