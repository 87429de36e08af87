//! Who sees whom where each query sees keys that follow one another: on the host, and as a GPU's kernels read it.

use crate::ops::cpu::attention::{Seen, Shape as Dims};
use burn::backend::tensor::IntTensor;
use burn::backend::{Backend, Dispatch, ExtensionType};
use burn::tensor::{Device, Int, Shape, Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;

/// Queries, or keys, of a tile.
pub(in crate::ops) const EDGE: usize = 64;

/// The ranges of a batch's queries.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Ranges {
    pub seen: Arc<Seen>,
    /// [`tiles`] on a GPU; on the CPU one number that means nothing.
    tiles: Tensor<1, Int>,
}

impl Ranges {
    pub fn new(seen: Seen, dims: [usize; 3], device: &Device) -> Self {
        let numbers = if crate::ops::is_cpu(device) { vec![0] } else { tiles(&seen, dims) };
        let n = numbers.len();
        Self { seen: Arc::new(seen), tiles: Tensor::from_data(TensorData::new(numbers, [n]), device) }
    }

    /// As operations take them.
    pub fn visible(&self) -> Visible<Dispatch> {
        Visible { seen: self.seen.clone(), tiles: self.tiles.clone().into_dispatch() }
    }
}

/// [`Ranges`] as a backend has them.
#[derive(Clone, Debug, ExtensionType)]
#[cfg_attr(feature = "gpu", extension_type(fusion))]
pub(in crate::ops) struct Visible<B: Backend> {
    /// As the CPU's kernels read them.
    pub seen: Arc<Seen>,
    /// As a GPU's do.
    pub tiles: IntTensor<B>,
}

impl<B: Backend> Visible<B> {
    /// The dimensions of an attention, of which the ranges state one.
    pub fn dims(&self, q: &Shape, k: &Shape) -> Dims {
        dims(self.seen.n_queries(), q, k)
    }
}

/// The dimensions of an attention with so many queries in all rows of its batch.
pub(super) fn dims(n_queries: usize, q: &Shape, k: &Shape) -> Dims {
    let [batch, kv_heads, rows, d] = q.dims();
    let [_, _, keys, _] = k.dims();
    let queries = n_queries / batch;
    Dims { batch, kv_heads, group: rows / queries, queries, keys, d }
}

/// The ranges as numbers, start and end; after them, for each tile of queries, the first tile of keys that one of them
/// sees, the one after the last, and the start and end of the keys that all of them see; after these, for each tile of
/// keys, the first tile of queries that sees one of them, and the one after the last.
///
/// Kernels pass over the tiles between these, and mask none that all see.
fn tiles(seen: &Seen, [batch, queries, keys]: [usize; 3]) -> Vec<i32> {
    let rows = || seen.0.chunks(queries.max(1)).take(batch);
    let mut numbers: Vec<usize> = seen.0.iter().flat_map(|range| [range.start, range.end]).collect();
    let mut of_keys = Vec::new();
    for row in rows() {
        let seen_tiles: Vec<Range<usize>> = row.chunks(EDGE).map(tiles_of).collect();
        for (ranges, tiles) in row.chunks(EDGE).zip(&seen_tiles) {
            let start = ranges.iter().map(|range| range.start).max().unwrap_or(0);
            let end = ranges.iter().map(|range| range.end).min().unwrap_or(0);
            numbers.extend([tiles.start, tiles.end, start, end]);
        }
        for tile in 0..keys.div_ceil(EDGE) {
            let sees = |tiles: &Range<usize>| tiles.contains(&tile);
            let first = seen_tiles.iter().position(sees).unwrap_or(0);
            of_keys.extend([first, seen_tiles.iter().rposition(sees).map_or(first, |last| last + 1)]);
        }
    }
    numbers.extend(of_keys);
    numbers.into_iter().map(|n| n as i32).collect()
}

/// From the first tile of keys that one of the queries sees to the last.
fn tiles_of(queries: &[Range<usize>]) -> Range<usize> {
    let some = || queries.iter().filter(|range| !range.is_empty());
    let start = some().map(|range| range.start).min().unwrap_or(0);
    let end = some().map(|range| range.end).max().unwrap_or(0);
    start / EDGE..end.div_ceil(EDGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_name_all_that_is_seen_and_no_others() {
        // A window of 70 over 130 queries.
        let ranges = (0..130usize).map(|q| q.saturating_sub(69)..q + 1);
        let numbers = tiles(&Seen(ranges.collect()), [1, 130, 130]);
        assert_eq!(numbers[2 * 100..][..2], [31, 101]);
        // Query 64 sees all up to itself, 127 begins at 58; the last tile has two queries.
        assert_eq!(numbers[2 * 130..][..12], [0, 1, 0, 1, 0, 2, 58, 65, 0, 3, 60, 129]);
        assert_eq!(numbers[2 * 130 + 12..], [0, 3, 1, 3, 2, 3]);
    }
}
