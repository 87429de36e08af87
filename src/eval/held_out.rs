//! The rows that training does not see, in batches.

use super::Choices;
use crate::Result;
use crate::data::batches::{BatchPlan, Batches};
use crate::data::{Batch, Encoded};

/// Rows to evaluate on. They are never packed and never shuffled: their figures must not depend on how
/// training lays its rows out.
#[derive(Debug)]
pub struct HeldOut {
    batches: Batches,
    choices: Option<Choices>,
    batch_size: usize,
}

impl HeldOut {
    /// `choices` are the rows' answers in the rows' order, where the rows are questions.
    ///
    /// # Errors
    /// As [`Batches::new`].
    pub fn new(rows: Vec<Encoded>, choices: Option<Choices>, batch_size: usize, pad_id: u32) -> Result<Self> {
        // Rows of a length side by side need the least padding; the figures are sums, so their order is free.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| rows[row].ids.len());
        let max_length = order.last().map_or(1, |&row| rows[row].ids.len());
        let sorted = order.iter().map(|&row| rows[row].clone()).collect();
        let plan = BatchPlan { batch_size, packing: false, max_length, shuffle: false, seed: 0, pad_id };
        let choices = choices.map(|choices| choices.reordered(&order));
        Ok(Self { batches: Batches::new(sorted, plan)?, choices, batch_size })
    }

    /// Rows in all.
    pub fn n_rows(&self) -> usize {
        self.batches.n_rows()
    }

    /// Adds all tokens and weights to a digest.
    pub fn digest(&self, digest: &mut sha2::Sha256) {
        self.batches.digest(digest);
    }

    /// Batches in all.
    pub(super) fn n_batches(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn batch(&self, index: usize) -> Batch {
        self.batches.batch(0, index)
    }

    /// First tokens of the possible answers, where the rows are questions.
    pub(super) fn answer_ids(&self) -> Option<&[u32]> {
        self.choices.as_ref().map(Choices::answer_ids)
    }

    /// Index of the right answer of each row of a batch.
    pub(super) fn right_answers(&self, index: usize) -> &[usize] {
        let right = self.choices.as_ref().map_or(&[][..], Choices::right_answers);
        right.chunks(self.batch_size).nth(index).unwrap_or_default()
    }
}
