//! Encoded rows → padded batches, in an order that is a pure function of seed and epoch.

use super::pack::best_fit_decreasing;
use super::{Batch, Encoded};
use crate::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use std::sync::{Mutex, PoisonError};

/// How rows become batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// Sequences in a batch; the last batch of an epoch may have fewer.
    pub batch_size: usize,
    /// Whether several rows may share a sequence of `max_length` tokens.
    pub packing: bool,
    /// Most tokens in a sequence; no row may be longer.
    pub max_length: usize,
    /// Whether each epoch has its own order; otherwise file order.
    pub shuffle: bool,
    /// Seed of the order.
    pub seed: u64,
    /// Token that fills up shorter sequences.
    pub pad_id: u32,
}

impl BatchPlan {
    /// Rows of each sequence, for rows of these lengths: one, or several that share it.
    pub fn sequences(&self, lengths: &[usize]) -> Vec<Vec<usize>> {
        if self.packing {
            best_fit_decreasing(lengths, self.max_length)
        } else {
            (0..lengths.len()).map(|row| vec![row]).collect()
        }
    }

    /// The order of `n_sequences` in an epoch, counted from 0.
    pub fn epoch_order(&self, n_sequences: usize, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n_sequences).collect();
        if self.shuffle {
            // One generator for each seed, one stream of it for each epoch: no epoch depends on another.
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(epoch as u64);
            order.shuffle(&mut rng);
        }
        order
    }
}

/// All rows of a data set, served in batches.
#[derive(Debug)]
pub struct Batches {
    rows: Vec<Encoded>,
    /// Row indices of each sequence; single rows unless packing.
    sequences: Vec<Vec<usize>>,
    plan: BatchPlan,
    /// The order of the epoch last asked for, so that an epoch is shuffled once and not once a batch.
    order: Mutex<Option<(usize, Vec<usize>)>>,
}

impl Batches {
    /// Checks the rows and, if the plan says so, packs them.
    ///
    /// # Errors
    /// No rows, or a batch size or length of 0. A row that is empty, longer than `max_length`, without a weight
    /// for each token or with an id beyond `i32` is a fault of the encoding.
    pub fn new(rows: Vec<Encoded>, plan: BatchPlan) -> Result<Self> {
        if rows.is_empty() {
            return Err(Error::input("data", "no rows are left to train or evaluate on", "at least one row"));
        }
        for (name, value) in [("batch_size", plan.batch_size), ("max_length", plan.max_length)] {
            if value == 0 {
                return Err(Error::input(name, "is 0", "1 or more"));
            }
        }
        for (index, row) in rows.iter().enumerate() {
            let length = row.ids.len();
            if length == 0 || length > plan.max_length || length != row.loss_weights.len() {
                return Err(Error::Internal(format!(
                    "encoded row {index} has {length} tokens and {} weights; expected 1 to {} of both",
                    row.loss_weights.len(),
                    plan.max_length
                )));
            }
        }
        if let Some(id) =
            rows.iter().flat_map(|r| &r.ids).chain([&plan.pad_id]).find(|&&id| i32::try_from(id).is_err())
        {
            return Err(Error::Internal(format!("token id {id} does not fit 31 bits")));
        }
        let lengths: Vec<_> = rows.iter().map(|r| r.ids.len()).collect();
        let sequences = plan.sequences(&lengths);
        Ok(Self { rows, sequences, plan, order: Mutex::new(None) })
    }

    /// Batches in an epoch: the same in each.
    pub fn len(&self) -> usize {
        self.sequences.len().div_ceil(self.plan.batch_size)
    }

    /// Never: there is at least one row.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Rows in an epoch.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Tokens in an epoch, padding not counted.
    pub fn n_tokens(&self) -> usize {
        self.rows.iter().map(|r| r.ids.len()).sum()
    }

    /// Adds all tokens and weights to a digest, in the rows' order.
    pub fn digest(&self, digest: &mut Sha256) {
        for row in &self.rows {
            digest.update((row.ids.len() as u64).to_le_bytes());
            row.ids.iter().for_each(|id| digest.update(id.to_le_bytes()));
            row.loss_weights.iter().for_each(|weight| digest.update(weight.to_le_bytes()));
        }
    }

    /// Batch `index` (from 0) of `epoch` (from 0): the same for the same seed, whatever was asked before. An
    /// index past the end is an empty batch.
    pub fn batch(&self, epoch: usize, index: usize) -> Batch {
        let mut cached = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.as_ref().is_none_or(|(cached_epoch, _)| *cached_epoch != epoch) {
            *cached = Some((epoch, self.plan.epoch_order(self.sequences.len(), epoch)));
        }
        let order = cached.as_ref().map_or(&[][..], |(_, order)| order);
        let sequences: Vec<&[usize]> = order
            .iter()
            .skip(index.saturating_mul(self.plan.batch_size))
            .take(self.plan.batch_size)
            .map(|&s| self.sequences[s].as_slice())
            .collect();
        self.collate(&sequences)
    }

    /// Lays sequences side by side, padded on the right to a bucket.
    fn collate(&self, sequences: &[&[usize]]) -> Batch {
        let length = |rows: &&[usize]| rows.iter().map(|&r| self.rows[r].ids.len()).sum();
        let longest: usize = sequences.iter().map(length).max().unwrap_or(0);
        let seq_len = bucket(longest, self.plan.max_length);
        let n = sequences.len() * seq_len;
        let mut batch = Batch {
            batch_size: sequences.len(),
            seq_len,
            input_ids: vec![self.plan.pad_id as i32; n],
            position_ids: vec![0; n],
            segment_ids: vec![0; n],
            loss_weights: vec![0.0; n],
        };
        for (sequence, rows) in sequences.iter().enumerate() {
            let mut at = sequence * seq_len;
            for (segment, &row) in rows.iter().enumerate() {
                let row = &self.rows[row];
                for (position, (&id, &weight)) in row.ids.iter().zip(&row.loss_weights).enumerate() {
                    batch.input_ids[at] = id as i32;
                    batch.position_ids[at] = position as i32;
                    batch.segment_ids[at] = segment as i32 + 1;
                    // The token before a row's first belongs to another row: nothing predicts it.
                    batch.loss_weights[at] = if position == 0 { 0.0 } else { weight };
                    at += 1;
                }
            }
        }
        batch
    }
}

/// The padded length for `length` tokens: a multiple of 8 up to 64, of 16 up to 128, of 32 up to 256 and so on,
/// at most `max_length`.
///
/// Few lengths mean few shapes, so that kernels compiled and tuned for one are met again; an eighth of the power
/// of two above wastes less than 1/8 beyond 64 tokens.
pub fn bucket(length: usize, max_length: usize) -> usize {
    let grain = (length.next_power_of_two() / 8).max(8);
    length.next_multiple_of(grain).min(max_length.max(length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const PLAN: BatchPlan =
        BatchPlan { batch_size: 2, packing: false, max_length: 100, shuffle: false, seed: 7, pad_id: 99 };

    /// A row whose ids are unique to it: `1000 · number + position`.
    fn row(number: usize, length: usize) -> Encoded {
        let ids: Vec<u32> = (0..length).map(|p| (1000 * number + p) as u32).collect();
        let loss_weights = (0..length).map(|p| [1.0, 0.0, 0.5][(number + p) % 3]).collect();
        Encoded { ids, loss_weights, truncated: false }
    }

    fn rows(lengths: &[usize]) -> Vec<Encoded> {
        lengths.iter().enumerate().map(|(i, &l)| row(i + 1, l)).collect()
    }

    #[test]
    fn pads_on_the_right_and_keeps_file_order() {
        let batches = Batches::new(rows(&[3, 2, 1]), PLAN).unwrap();
        assert_eq!(batches.len(), 2);
        let batch = batches.batch(0, 0);
        assert_eq!((batch.batch_size, batch.seq_len), (2, 8));
        assert_eq!(batch.input_ids[..8], [1000, 1001, 1002, 99, 99, 99, 99, 99]);
        assert_eq!(batch.input_ids[8..], [2000, 2001, 99, 99, 99, 99, 99, 99]);
        assert_eq!(batch.position_ids[..8], [0, 1, 2, 0, 0, 0, 0, 0]);
        assert_eq!(batch.segment_ids[..8], [1, 1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(batch.loss_weights[..8], [0.0, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(batches.batch(0, 1).batch_size, 1, "the last, incomplete batch is kept");
        assert_eq!(batches.batch(0, 2).batch_size, 0);
    }

    #[test]
    fn packed_rows_restart_positions_and_mask_their_first_token() {
        let plan = BatchPlan { packing: true, max_length: 8, ..PLAN };
        let batch = Batches::new(rows(&[3, 5]), plan).unwrap().batch(0, 0);
        assert_eq!((batch.batch_size, batch.seq_len), (1, 8));
        assert_eq!(batch.input_ids, [1000, 1001, 1002, 2000, 2001, 2002, 2003, 2004]);
        assert_eq!(batch.position_ids, [0, 1, 2, 0, 1, 2, 3, 4]);
        assert_eq!(batch.segment_ids, [1, 1, 1, 2, 2, 2, 2, 2]);
        assert_eq!(batch.loss_weights, [0.0, 0.5, 1.0, 0.0, 1.0, 0.0, 0.5, 1.0]);
    }

    #[test]
    fn buckets_are_few_and_never_above_the_limit() {
        let lengths: Vec<_> = [1, 8, 9, 64, 65, 129, 300, 1000].map(|l| bucket(l, 1000)).into();
        assert_eq!(lengths, [8, 8, 16, 64, 80, 160, 320, 1000]);
        let shapes: std::collections::BTreeSet<_> = (1..=4096).map(|l| bucket(l, 4096)).collect();
        assert_eq!(shapes.len(), 8 + 6 * 4);
    }

    #[test]
    fn refuses_what_no_batch_can_hold() {
        assert!(Batches::new(vec![], PLAN).is_err());
        assert!(Batches::new(rows(&[101]), PLAN).is_err());
        assert!(Batches::new(rows(&[0]), PLAN).is_err());
        assert!(Batches::new(rows(&[1]), BatchPlan { batch_size: 0, ..PLAN }).is_err());
        assert!(Batches::new(rows(&[1]), BatchPlan { pad_id: u32::MAX, ..PLAN }).is_err());
    }

    #[test]
    fn epochs_and_seeds_differ_in_order() {
        let order = |seed, epoch| {
            let plan = BatchPlan { shuffle: true, batch_size: 50, seed, ..PLAN };
            Batches::new(rows(&[1; 50]), plan).unwrap().batch(epoch, 0).input_ids
        };
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }

    /// Every token that is not padding, with what the batch says of it.
    fn tokens(batch: &Batch) -> Vec<(i32, i32, u32)> {
        (0..batch.input_ids.len())
            .filter(|&i| batch.segment_ids[i] != 0)
            .map(|i| (batch.input_ids[i], batch.position_ids[i], batch.loss_weights[i].to_bits()))
            .collect()
    }

    proptest! {
        #[test]
        fn an_epoch_holds_every_token_and_weight_once(
            lengths in prop::collection::vec(1usize..=100, 1..60),
            batch_size in 1usize..9, packing: bool, shuffle: bool, seed: u64, epoch in 0usize..5,
        ) {
            let rows = rows(&lengths);
            let mut expected: Vec<_> = rows.iter().flat_map(|row| {
                row.ids.iter().zip(&row.loss_weights).enumerate()
                    .map(|(p, (&id, &w))| (id as i32, p as i32, if p == 0 { 0 } else { w.to_bits() }))
            }).collect();
            let plan = BatchPlan { batch_size, packing, shuffle, seed, ..PLAN };
            let batches = Batches::new(rows, plan).unwrap();
            let epoch_batches: Vec<_> = (0..batches.len()).map(|i| batches.batch(epoch, i)).collect();

            for batch in &epoch_batches {
                prop_assert!(batch.batch_size >= 1 && batch.batch_size <= batch_size);
                prop_assert_eq!(batch.input_ids.len(), batch.batch_size * batch.seq_len);
                prop_assert!(batch.seq_len <= PLAN.max_length);
                for i in 0..batch.input_ids.len() {
                    if batch.segment_ids[i] == 0 {
                        // Padding: no loss, the pad token, and nothing but padding to its right.
                        prop_assert_eq!((batch.loss_weights[i], batch.input_ids[i]), (0.0, 99));
                        let last = i % batch.seq_len + 1 == batch.seq_len;
                        prop_assert!(last || batch.segment_ids[i + 1] == 0);
                    }
                }
            }
            let mut found: Vec<_> = epoch_batches.iter().flat_map(tokens).collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn order_is_pure_in_seed_and_epoch(n in 1usize..80, packing: bool, seed: u64, epoch in 0usize..5) {
            let plan = BatchPlan { packing, shuffle: true, seed, ..PLAN };
            let lengths: Vec<_> = (0..n).map(|i| 1 + i * 7 % 40).collect();
            let one = Batches::new(rows(&lengths), plan).unwrap();
            let other = Batches::new(rows(&lengths), plan).unwrap();
            let last = one.len() - 1;
            for wander in [0, 3, 1] {
                let _ = other.batch(wander, last);
            }
            prop_assert_eq!(one.batch(epoch, last), other.batch(epoch, last));
        }
    }
}
