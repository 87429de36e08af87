//! Which rows share a sequence.

use std::collections::BTreeSet;

/// Packs rows of the given lengths into sequences of at most `capacity` tokens: best-fit decreasing, as in Ding
/// et al. 2404.10830 and TRL's `bfd` strategy. The longest row goes first, each into the fullest sequence that
/// still has room; O(n log n).
///
/// Returns the row indices of each sequence, ascending, sequences ordered by their first row: a pure function of
/// the lengths. Every row appears exactly once, whole. A row longer than `capacity` gets a sequence of its own.
pub fn best_fit_decreasing(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&row| std::cmp::Reverse(lengths[row])); // stable: ties stay in file order

    let mut packs: Vec<Vec<usize>> = Vec::new();
    let mut room = BTreeSet::new(); // (free tokens, pack)
    for row in order {
        let length = lengths[row];
        let best = room.range((length, 0)..).next().copied();
        let (free, pack) = best.unwrap_or((capacity.max(length), packs.len()));
        match packs.get_mut(pack) {
            Some(rows) => {
                room.remove(&(free, pack));
                rows.push(row);
            }
            None => packs.push(vec![row]),
        }
        if free > length {
            room.insert((free - length, pack));
        }
    }
    packs.iter_mut().for_each(|rows| rows.sort_unstable());
    packs.sort_unstable_by_key(|rows| rows[0]);
    packs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fills_the_fullest_sequence_with_room() {
        // 6 and 5 open two sequences of 10; 4 fits the first exactly, 5 the second.
        assert_eq!(best_fit_decreasing(&[4, 5, 6, 5], 10), [vec![0, 2], vec![1, 3]]);
        // A row of 3 prefers 7 + 3 over the emptier 6.
        assert_eq!(best_fit_decreasing(&[6, 7, 3], 10), [vec![0], vec![1, 2]]);
    }

    #[test]
    fn nothing_to_pack_is_no_sequence() {
        assert!(best_fit_decreasing(&[], 10).is_empty());
    }

    proptest! {
        #[test]
        fn every_row_once_and_within_capacity(lengths in prop::collection::vec(1usize..=64, 0..200)) {
            let packs = best_fit_decreasing(&lengths, 64);
            for pack in &packs {
                prop_assert!(pack.iter().map(|&r| lengths[r]).sum::<usize>() <= 64);
            }
            let mut rows: Vec<_> = packs.concat();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            // No two sequences are so empty that best fit should have joined them.
            let short = packs.iter().filter(|p| p.iter().map(|&r| lengths[r]).sum::<usize>() <= 32).count();
            prop_assert!(short <= 1);
        }
    }
}
