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
    let (held_out, train): (Vec<_>, Vec<_>) =
        rows.into_iter().zip(is_held_out).partition(|(_, held_out)| *held_out);
    let rows_of = |part: Vec<(Row, bool)>| part.into_iter().map(|(row, _)| row).collect();
    Ok(Split { train: rows_of(train), held_out: rows_of(held_out) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::{Place, RowContent};

    fn rows(texts: impl IntoIterator<Item = usize>) -> Vec<Row> {
        let row = |(line, text): (usize, usize)| Row {
            place: Place { file: "f".into(), line: line + 1 },
            content: RowContent::Text(text.to_string()),
        };
        texts.into_iter().enumerate().map(row).collect()
    }

    #[test]
    fn every_row_is_on_one_side_and_the_seed_decides() {
        let split = holdout(rows(0..100), 0.2, 1).unwrap();
        assert_eq!((split.train.len(), split.held_out.len()), (80, 20));
        let lines = |rows: &[Row]| rows.iter().map(|r| r.place.line).collect::<Vec<_>>();
        assert!(lines(&split.train).is_sorted() && lines(&split.held_out).is_sorted());
        let mut all = [lines(&split.train), lines(&split.held_out)].concat();
        all.sort_unstable();
        assert_eq!(all, (1..=100).collect::<Vec<_>>());
        assert_eq!(holdout(rows(0..100), 0.2, 1).unwrap(), split);
        assert_ne!(holdout(rows(0..100), 0.2, 2).unwrap(), split);
    }

    #[test]
    fn the_choice_for_a_seed_is_pinned() {
        // A change here changes which rows every user's runs are evaluated on.
        let split = holdout(rows(0..10), 0.3, 42).unwrap();
        let lines: Vec<_> = split.held_out.iter().map(|r| r.place.line).collect();
        assert_eq!(lines, [2, 6, 8]);
    }

    #[test]
    fn duplicates_stay_together() {
        let split = holdout(rows((0..100).map(|i| i % 10)), 0.3, 5).unwrap();
        assert!(split.held_out.iter().all(|h| split.train.iter().all(|t| t.content != h.content)));
        assert_eq!(split.held_out.len(), 30);
    }

    #[test]
    fn bounds() {
        assert!(holdout(rows(0..3), 0.0, 0).unwrap().held_out.is_empty());
        assert_eq!(holdout(rows(0..3), 0.01, 0).unwrap().held_out.len(), 1);
        assert_eq!(holdout(rows(0..3), 0.99, 0).unwrap().train.len(), 1);
        assert!(holdout(rows([7, 7]), 0.5, 0).is_err());
        for fraction in [1.0, -0.1, f64::NAN] {
            assert_eq!(holdout(rows(0..3), fraction, 0).unwrap_err().exit_code(), 2);
        }
    }
}
