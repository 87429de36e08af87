//! A held-out part of the rows, chosen by seed.

use super::Row;
use super::check::content_hash;
use crate::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;

/// Rows for training and rows that training never sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Rows to train on, in file order.
    pub train: Vec<Row>,
    /// Rows to evaluate on, in file order; empty for a fraction of 0.
    pub held_out: Vec<Row>,
}

/// Holds out about `fraction` of the rows, at least one on either side. A pure function of its arguments.
///
/// Rows with the same content stay together, so that no held-out row is also trained on; many duplicates can
/// make the held-out part differ from `fraction`.
///
/// # Errors
/// `fraction` outside [0, 1), or fewer than two different rows to split.
pub fn holdout(rows: Vec<Row>, fraction: f64, seed: u64) -> Result<Split> {
    if !(0.0..1.0).contains(&fraction) {
        return Err(Error::input("eval_fraction", format!("is {fraction}"), "0 or more, and less than 1"));
    }
    if fraction == 0.0 {
        return Ok(Split { train: rows, held_out: Vec::new() });
    }
    // Groups in order of first appearance: a hash map's own order would differ from run to run.
    let mut group_of = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let group = *group_of.entry(content_hash(&row.content)).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        groups[group].push(index);
    }
    if groups.len() < 2 {
        let problem = format!("asks to split {} different row(s)", groups.len());
        return Err(Error::input("eval_fraction", problem, "at least 2 different rows, or 0"));
    }
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));

    let wanted = ((rows.len() as f64 * fraction).round() as usize).max(1);
    let mut is_held_out = vec![false; rows.len()];
    let mut n_held_out = 0;
    // The last group stays: training needs a row, too.
    for group in &groups[..groups.len() - 1] {
        if n_held_out >= wanted {
            break;
        }
        n_held_out += group.len();
        group.iter().for_each(|&index| is_held_out[index] = true);
    }
    let (held_out, train): (Vec<_>, Vec<_>) = rows.into_iter().zip(is_held_out).partition(|(_, held_out)| *held_out);
    let rows_of = |part: Vec<(Row, bool)>| part.into_iter().map(|(row, _)| row).collect();
    Ok(Split { train: rows_of(train), held_out: rows_of(held_out) })
}
