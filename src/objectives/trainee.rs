//! What the training loop trains and the evaluation evaluates. Two implement it: a causal language model
//! with its objective, and the bigram model of the loop's tests, whose gradients have a closed form.

use super::sft::{self, EvalOutput, LossOutput, SftOptions};
use crate::Result;
use crate::data::Batch;
use crate::models::{CausalLm, NamedTensors};

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
    /// Held-out figures of one batch, without dropout.
    fn evaluate(&self, batch: &Batch) -> Result<EvalOutput>;
}

/// A model under supervised fine-tuning.
pub struct Sft<'m> {
    /// The model, its method attached.
    pub model: &'m mut CausalLm,
    /// What changes the loss besides the batch.
    pub options: SftOptions,
}

impl Trainee for Sft<'_> {
    fn trainable(&self) -> NamedTensors {
        self.model.trainable()
    }

    fn set_trainable(&mut self, values: NamedTensors) -> Result<()> {
        self.model.set_trainable(values)
    }

    fn total_params(&self) -> usize {
        self.model.total_params()
    }

    fn loss_and_grads(&self, batch: &Batch, denominator: f64, seed: u64) -> Result<LossOutput> {
        sft::loss_and_grads(self.model, batch, denominator, &self.options, seed)
    }

    fn evaluate(&self, batch: &Batch) -> Result<EvalOutput> {
        sft::evaluate(self.model, batch)
    }
}
