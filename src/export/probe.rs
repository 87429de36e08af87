//! A few rows of tokens and what a model makes of them: two models that agree on them are the same.

use crate::data::Batch;
use crate::models::{AnyTensor, CausalLm, Pass};
use crate::store::HostTensor;
use crate::{Error, Result};
use indexmap::IndexMap;

const ROWS: usize = 3;
const TOKENS: usize = 16;

/// Above this share of the largest logit a difference is no rounding.
const TOLERANCE: f32 = 1e-2;

/// Tokens and their logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    batch: Batch,
    /// `[rows, tokens, vocab]`
    logits: HostTensor,
}

impl Probe {
    /// Runs the model, everything attached included, on rows of tokens from all over its vocabulary.
    pub async fn of(model: &CausalLm) -> Result<Self> {
        let batch = batch(model.spec.vocab_size, TOKENS.min(model.spec.max_positions));
        let logits = logits(model, &batch).await?;
        Ok(Self { batch, logits })
    }

    /// The largest absolute difference to the logits of another model.
    ///
    /// # Errors
    /// [`Error::Internal`] where they differ by more than rounding does.
    pub async fn check(&self, other: &CausalLm) -> Result<f32> {
        let theirs = logits(other, &self.batch).await?;
        let pairs = self.logits.values.iter().zip(&theirs.values);
        // Once not a number, it stays so.
        let worse = |max: f32, diff: f32| if diff.is_nan() || diff > max { diff } else { max };
        let max = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, worse);
        let largest = self.logits.values.iter().fold(1.0f32, |largest, logit| largest.max(logit.abs()));
        if theirs.shape != self.logits.shape || max.is_nan() || max > TOLERANCE * largest {
            return Err(Error::Internal(format!(
                "the files written do not give the model's logits (largest difference {max}): do not use them"
            )));
        }
        Ok(max)
    }

    /// The tensors `input_ids` `[rows, tokens]` and `logits` `[rows, tokens, vocab]`, for other programs.
    pub fn tensors(&self) -> IndexMap<String, HostTensor> {
        let shape = vec![self.batch.batch_size, self.batch.seq_len];
        let ids = HostTensor { shape, values: self.batch.input_ids.iter().map(|&id| id as f32).collect() };
        IndexMap::from([("input_ids".to_string(), ids), ("logits".to_string(), self.logits.clone())])
    }
}

fn batch(vocab_size: usize, seq_len: usize) -> Batch {
    let len = ROWS * seq_len;
    // Steps of a prime, for ids from all over the vocabulary.
    let id = |i: usize| ((i + 1) * 7919 % vocab_size) as i32;
    Batch {
        batch_size: ROWS,
        seq_len,
        input_ids: (0..len).map(id).collect(),
        position_ids: (0..len).map(|i| (i % seq_len) as i32).collect(),
        segment_ids: vec![1; len],
        loss_weights: vec![0.0; len],
    }
}

async fn logits(model: &CausalLm, batch: &Batch) -> Result<HostTensor> {
    let logits = AnyTensor::Matrix(model.logits(batch, Pass::INFERENCE)?); // [rows · tokens, vocab]
    let HostTensor { shape, values } = logits.to_host().await?;
    Ok(HostTensor { shape: vec![batch.batch_size, batch.seq_len, shape[1]], values })
}
