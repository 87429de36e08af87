//! Products with few columns, as those with a low-rank factor are: both factors are read along the inner dimension, a
//! vector at a time, and no panel is copied.

use super::kernel::{MOST_ROWS, mul_add, rows_of_a_tile};
use super::operand::{Operand, turn};
use super::{Matrix, Sides};
use crate::ops::cpu::{arch, tasks};
use pulp::{Simd, WithSimd};

/// Columns, at most.
const MOST_COLUMNS: usize = 16;
/// Inner indices, at least: sums across vectors must not weigh.
const MIN_INNER: usize = 128;
/// Inner indices that are read for all rows of a block before the next ones: they stay in the first cache.
const INNER: usize = 768;
/// Multiply-adds of a task, at least.
const MIN_TASK: usize = 1 << 17;
/// Rows that share what is read of the columns, at most, and columns that share what is read of the rows.
const ROWS: usize = 4;
pub(in crate::ops::cpu) const COLUMNS: usize = 4;

/// The product, where this is the way to make it.
pub(super) fn product(sides: &[Sides]) -> Option<Vec<f32>> {
    let [Sides { lhs, rhs: Operand::Dense(rhs) }] = sides else { return None };
    let [m, n, k] = [lhs.n_outer(), rhs.rows, lhs.n_inner()];
    if n > MOST_COLUMNS || n >= m || k < MIN_INNER || !lhs.has_rows() {
        return None;
    }
    let mut room = Vec::new();
    let columns = Columns::of(rhs, &mut room);
    let n_tasks = (m * n * k / MIN_TASK).clamp(1, 2 * tasks::n_cores());
    let length = m.div_ceil(n_tasks).next_multiple_of(ROWS);
    Some(tasks::make(m * n, length * n, |task, out| {
        let rows = |i: usize| lhs.row(task * length + i, 0).map_or(&[][..], |row| &row[..k]);
        arch().dispatch(Dots { rows, columns, out });
    }))
}

/// Columns whose inner indices lie side by side.
#[derive(Clone, Copy)]
struct Columns<'a> {
    values: &'a [f32],
    step: usize,
    n: usize,
    n_inner: usize,
}

impl<'a> Columns<'a> {
    /// Where `matrix`, `[outer, inner]`, has them, or a copy.
    fn of(matrix: &Matrix<'a>, room: &'a mut Vec<f32>) -> Self {
        let Matrix { values, rows: n, columns: n_inner, .. } = *matrix;
        if matrix.column_step == 1 {
            return Self { values, step: matrix.row_step, n, n_inner };
        }
        room.resize(n * n_inner, 0.0);
        turn(values, [matrix.column_step, matrix.row_step], [n_inner, n], room, n_inner);
        Self { values: room, step: n_inner, n, n_inner }
    }

    fn column(&self, j: usize) -> &'a [f32] {
        &self.values[j * self.step..][..self.n_inner]
    }
}

/// Writes the dot products of rows with columns, `[rows, columns]`.
struct Dots<'a, 'b, F> {
    rows: F,
    columns: Columns<'a>,
    out: &'b mut [f32],
}

impl<'a, F: Fn(usize) -> &'a [f32]> WithSimd for Dots<'a, '_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if rows_of_a_tile::<S>() == MOST_ROWS {
            self.write::<S, ROWS>(simd)
        } else {
            self.write::<S, 2>(simd)
        }
    }
}

impl<'a, F: Fn(usize) -> &'a [f32]> Dots<'a, '_, F> {
    #[inline(always)]
    fn write<S: Simd, const R: usize>(self, simd: S) {
        let Self { rows, columns, out } = self;
        let n = columns.n;
        for (block, out) in out.chunks_mut(R * n).enumerate() {
            let n_rows = out.len() / n;
            // The last row stands in for those that are not there.
            let x: [&[f32]; R] = std::array::from_fn(|i| rows(block * R + i.min(n_rows - 1)));
            for start in (0..columns.n_inner).step_by(INNER) {
                let part = start..(start + INNER).min(columns.n_inner);
                let x = x.map(|x| &x[part.clone()]);
                for first in (0..n).step_by(COLUMNS) {
                    let column = |j: usize| &columns.column((first + j).min(n - 1))[part.clone()];
                    let sums = dots(simd, x, std::array::from_fn(column));
                    for (out, sums) in out.chunks_exact_mut(n).zip(sums) {
                        out[first..].iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                    }
                }
            }
        }
    }
}

/// The dot product of each with each.
#[inline(always)]
pub(in crate::ops::cpu) fn dots<S: Simd, const R: usize>(
    simd: S,
    x: [&[f32]; R],
    y: [&[f32]; COLUMNS],
) -> [[f32; COLUMNS]; R] {
    simd.vectorize(Block { simd, x, y })
}

/// A function of its own: its loop has all registers for itself.
struct Block<'a, S, const R: usize> {
    simd: S,
    x: [&'a [f32]; R],
    y: [&'a [f32]; COLUMNS],
}

impl<S: Simd, const R: usize> pulp::NullaryFnOnce for Block<'_, S, R> {
    type Output = [[f32; COLUMNS]; R];

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Self { simd, x, y } = self;
        let mut sums = [[simd.splat_f32s(0.0); COLUMNS]; R];
        let (x, x_rest): ([&[S::f32s]; R], [&[f32]; R]) = split_all::<S, R>(x);
        let (y, y_rest): ([&[S::f32s]; COLUMNS], [&[f32]; COLUMNS]) = split_all::<S, COLUMNS>(y);
        let n = x[0].len();
        let (x, y) = (x.map(|x| &x[..n]), y.map(|y| &y[..n]));
        for l in 0..n {
            for i in 0..R {
                for j in 0..COLUMNS {
                    sums[i][j] = mul_add(simd, x[i][l], y[j][l], sums[i][j]);
                }
            }
        }
        let mut out = [[0.0; COLUMNS]; R];
        for i in 0..R {
            for j in 0..COLUMNS {
                let rest: f32 = x_rest[i].iter().zip(y_rest[j]).map(|(x, y)| x * y).sum();
                out[i][j] = simd.reduce_sum_f32s(sums[i][j]) + rest;
            }
        }
        out
    }
}

#[inline(always)]
fn split_all<S: Simd, const N: usize>(rows: [&[f32]; N]) -> ([&[S::f32s]; N], [&[f32]; N]) {
    let halves = rows.map(|row| S::as_simd_f32s(row));
    (halves.map(|(body, _)| body), halves.map(|(_, rest)| rest))
}
