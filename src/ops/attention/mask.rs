//! Which keys each query sees.

use super::flash;
use super::ranges::Ranges;
use crate::ops::cpu::attention::Seen;
use burn::tensor::{Device, Tensor, TensorData};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// What a token must not see, in a form that stays finite in f32 softmax.
pub(in crate::ops) const BLOCKED: f32 = -1e30;

/// Who sees whom in a batch, in the form that the device's attention reads.
#[derive(Clone, Debug)]
pub struct Mask {
    dims: [usize; 3],
    pub(super) form: Form,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one a batch
pub(super) enum Form {
    /// For each query the keys, one after the other; and the other form, once it was asked for.
    Ranges(Ranges, Arc<OnceLock<Tensor<3>>>),
    /// Added to scores: 0 where the query may look, a very negative number elsewhere; `[batch, queries, keys]`
    Added(Tensor<3>),
}

impl Mask {
    /// A query at `q` sees a key at `k` when both lie in the same segment, `k` is not later than `q`, and, with a sliding
    /// window, less than `window` positions back. Padding (segment 0) sees itself.
    ///
    /// # Shapes
    /// `positions`, `segments`: `[batch, seq]`, row-major
    pub fn causal(
        positions: &[i32],
        segments: &[i32],
        batch: usize,
        window: Option<usize>,
        device: &Device,
    ) -> Self {
        let seq = positions.len() / batch.max(1);
        Self::new([batch, seq, seq], device, |b, q, k| {
            let (p, s) = (&positions[b * seq..][..seq], &segments[b * seq..][..seq]);
            let near = || window.is_none_or(|w| ((p[q] - p[k]).unsigned_abs() as usize) < w);
            k == q || (k < q && s[q] == s[k] && s[q] != 0 && near())
        })
    }

    /// The mask of the next `n_new` columns of sequences that end together, `past` columns of which are cached. Sequence
    /// `b` begins at column `starts[b]`; what stands before it sees itself.
    pub fn continuation(
        past: usize,
        n_new: usize,
        starts: &[usize],
        window: Option<usize>,
        device: &Device,
    ) -> Self {
        Self::new([starts.len(), n_new, past + n_new], device, |b, q, k| {
            let q = past + q;
            k == q || ((starts[b]..q).contains(&k) && window.is_none_or(|w| q - k < w))
        })
    }

    fn new(dims: [usize; 3], device: &Device, sees: impl Fn(usize, usize, usize) -> bool) -> Self {
        let [batch, queries, keys] = dims;
        let rows = || (0..batch).flat_map(|b| (0..queries).map(move |q| (b, q)));
        if flash::serves_device(device, queries) {
            let ranges = rows().map(|(b, q)| {
                let start = (0..keys).find(|&k| sees(b, q, k))?;
                let end = (start..keys).find(|&k| !sees(b, q, k)).unwrap_or(keys);
                (!(end..keys).any(|k| sees(b, q, k))).then_some(start..end)
            });
            if let Some(ranges) = ranges.collect::<Option<Vec<_>>>() {
                let ranges = Ranges::new(Seen(ranges), dims, device);
                return Self { dims, form: Form::Ranges(ranges, Arc::default()) };
            }
        }
        let added = rows().flat_map(|(b, q)| (0..keys).map(move |k| (b, q, k)));
        let added = added.map(|(b, q, k)| if sees(b, q, k) { 0.0 } else { BLOCKED }).collect();
        Self { dims, form: Form::Added(Tensor::from_data(TensorData::new(added, dims), device)) }
    }

    /// `[batch, queries, keys]`
    pub fn dims(&self) -> [usize; 3] {
        self.dims
    }

    /// What is added to scores, `[batch, queries, keys]`.
    pub(super) fn added(&self, device: &Device) -> Tensor<3> {
        match &self.form {
            Form::Added(mask) => mask.clone(),
            Form::Ranges(ranges, added) => added.get_or_init(|| self.spread(&ranges.seen, device)).clone(),
        }
    }

    fn spread(&self, seen: &Seen, device: &Device) -> Tensor<3> {
        let keys = self.dims[2];
        let row = |range: &Range<usize>| {
            let range = range.clone();
            (0..keys).map(move |k| if range.contains(&k) { 0.0 } else { BLOCKED })
        };
        let added = seen.0.iter().flat_map(row).collect();
        Tensor::from_data(TensorData::new(added, self.dims), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_rows_do_not_see_each_other() {
        let (y, n) = (true, false);
        let expected = [y, n, n, n, y, y, n, n, n, n, y, n, n, n, y, y];
        let mask = Mask::causal(&[0, 1, 0, 1], &[1, 1, 2, 2], 1, None, &Device::flex());
        assert_eq!(open(&mask), expected);
    }

    #[test]
    fn both_forms_say_the_same() {
        let (positions, segments) = ([0, 1, 2, 3, 4, 0, 1, 2, 0, 0], [1, 1, 1, 1, 1, 2, 2, 2, 0, 0]);
        for window in [None, Some(2)] {
            let mask = Mask::causal(&positions, &segments, 1, window, &Device::flex());
            assert!(matches!(mask.form, Form::Ranges(..)));
            let near = |q: usize, k: usize| window.is_none_or(|w| q - k < w);
            let sees = |q: usize, k: usize| {
                k == q || (k < q && segments[q] == segments[k] && segments[q] != 0 && near(q, k))
            };
            let expected: Vec<bool> = (0..100).map(|i| sees(i / 10, i % 10)).collect();
            assert_eq!(open(&mask), expected);
        }
    }

    #[test]
    fn a_continuation_does_not_see_what_stands_before_its_beginning() {
        let (y, n) = (true, false);
        let first = Mask::continuation(0, 3, &[0, 1], None, &Device::flex());
        assert_eq!(open(&first), [y, n, n, y, y, n, y, y, y, y, n, n, n, y, n, n, y, y]);
        let next = Mask::continuation(3, 1, &[0, 1], None, &Device::flex());
        assert_eq!(open(&next), [y, y, y, y, n, y, y, y]);
        let near = Mask::continuation(3, 1, &[0, 1], Some(2), &Device::flex());
        assert_eq!(open(&near), [n, n, y, y, n, n, y, y]);
    }

    fn open(mask: &Mask) -> Vec<bool> {
        let added = mask.added(&Device::flex()).into_data().try_into_vec_as::<f32>().expect("f32");
        added.iter().map(|&m| m == 0.0).collect()
    }
}
