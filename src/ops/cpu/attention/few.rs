//! Few queries, as when a text is continued token by token: each key and value is read once, as it lies.

use super::{Head, room};
use crate::ops::cpu::gemm::narrow::{COLUMNS, dots};
use crate::ops::cpu::math::{exp, max, sum};
use pulp::{Simd, WithSimd};

/// Queries below which this is faster than panels, of which they would fill a small part.
pub(super) const FEW: usize = 8;
/// Values of a head that are added up in registers.
const WIDTH: usize = 64;

pub(super) struct Few<'a, 'b> {
    pub head: Head<'a>,
    pub y: *mut f32,
    /// From one query's values to the next's.
    pub step: usize,
    pub log_sum: &'b mut [f32],
    pub scratch: &'b mut Vec<f32>,
}

impl WithSimd for Few<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { head: Head { shape, q, k, v, seen, scale }, y, step, log_sum, scratch } = self;
        let d = shape.d;
        for (i, (range, log_sum)) in seen.iter().zip(log_sum).enumerate() {
            let (q, p) = (q.row(i, d), room(scratch, range.len()));
            for (part, p) in p.chunks_mut(COLUMNS).enumerate() {
                // The last key stands in for those that are not there.
                let key = |j: usize| k.row((range.start + part * COLUMNS + j).min(range.end - 1), d);
                let [products] = dots(simd, [q], std::array::from_fn(key));
                p.iter_mut().zip(products).for_each(|(p, product)| *p = scale * product);
            }
            let largest = max(p);
            p.iter_mut().for_each(|p| *p = exp(*p - largest));
            let total = sum(p);
            *log_sum = largest + total.ln();
            // SAFETY: the place has this head's values of each query.
            let y = unsafe { std::slice::from_raw_parts_mut(y.add(i * step), d) };
            for (part, y) in y.chunks_mut(WIDTH).enumerate() {
                let first = part * WIDTH;
                let mut sums = [0.0; WIDTH];
                for (&p, key) in p.iter().zip(range.clone()) {
                    let v = &v.row(key, d)[first..][..y.len()];
                    if let Some(v) = v.first_chunk::<WIDTH>() {
                        sums.iter_mut().zip(v).for_each(|(sum, v)| *sum += p * v);
                    } else {
                        sums.iter_mut().zip(v).for_each(|(sum, v)| *sum += p * v);
                    }
                }
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum / total);
            }
        }
    }
}
