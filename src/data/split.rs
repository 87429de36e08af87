//! A held-out part of the rows, chosen by seed.

use super::Row;
use super::check::content_hash;
use crate::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;

/// Whether each row is held out: about `fraction` of them, at least one on either side. A pure function of its
/// arguments.
///
/// Rows with the same content stay together, so that no held-out row is also trained on; many duplicates can
/// make the held-out part differ from `fraction`.
///
/// # Errors
/// `fraction` outside [0, 1), or fewer than two different rows to split.
pub fn holdout(rows: &[Row], fraction: f64, seed: u64) -> Result<Vec<bool>> {
    if !(0.0..1.0).contains(&fraction) {
        return Err(Error::input("eval_fraction", format!("is {fraction}"), "0 or more, and less than 1"));
    }
    if fraction == 0.0 {
        return Ok(vec![false; rows.len()]);
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
    Ok(is_held_out)
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

    /// Indices of the rows held out.
    fn held_out(rows: &[Row], fraction: f64, seed: u64) -> Vec<usize> {
        let mask = holdout(rows, fraction, seed).unwrap();
        assert_eq!(mask.len(), rows.len());
        (0..rows.len()).filter(|&row| mask[row]).collect()
    }

    #[test]
    fn the_seed_decides() {
        let rows = rows(0..100);
        assert_eq!(held_out(&rows, 0.2, 1).len(), 20);
        assert_eq!(held_out(&rows, 0.2, 1), held_out(&rows, 0.2, 1));
        assert_ne!(held_out(&rows, 0.2, 1), held_out(&rows, 0.2, 2));
    }

    #[test]
    fn the_choice_for_a_seed_is_pinned() {
        // A change here changes which rows every user's runs are evaluated on.
        assert_eq!(held_out(&rows(0..10), 0.3, 42), [1, 5, 7]);
    }

    #[test]
    fn duplicates_stay_together() {
        let held_out = held_out(&rows((0..100).map(|i| i % 10)), 0.3, 5);
        assert_eq!(held_out.len(), 30);
        let last_digits: std::collections::BTreeSet<_> = held_out.iter().map(|row| row % 10).collect();
        assert_eq!(last_digits.len(), 3, "{held_out:?}");
    }

    #[test]
    fn bounds() {
        assert!(held_out(&rows(0..3), 0.0, 0).is_empty());
        assert_eq!(held_out(&rows(0..3), 0.01, 0).len(), 1);
        assert_eq!(held_out(&rows(0..3), 0.99, 0).len(), 2);
        assert!(holdout(&rows([7, 7]), 0.5, 0).is_err());
        for fraction in [1.0, -0.1, f64::NAN] {
            assert_eq!(holdout(&rows(0..3), fraction, 0).unwrap_err().exit_code(), 2);
        }
    }
}
