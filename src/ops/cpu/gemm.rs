//! Matrix products whose columns or rows are shared out between cores.
//!
//! gemm's own threads wait for each other several times a product: with 128 tokens two cores are no faster than one.
//! Parts that never wait are 1.7 times as fast there, and alike from a thousand tokens on (2 cores with AVX-512).
#![expect(unsafe_code, reason = "gemm takes pointers")]

use super::tasks;
use burn::backend::flex::FlexTensor;
use gemm::Parallelism;
use std::mem::MaybeUninit;

/// Multiply-adds below which handing a part to another core costs more than it saves.
pub(super) const MIN_PART: usize = 1 << 21;
/// Multiply-adds that reading one value counts for.
const READ: usize = 16;
/// A part's columns and rows are a multiple of what gemm makes at a time.
pub(super) const STEP: usize = 48;

/// A matrix in any order.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> Matrix<'a> {
    /// A view of an f32 tensor of two dimensions. None is flipped: nothing here makes strides negative.
    pub fn of(x: &'a FlexTensor) -> Self {
        let (layout, [rows, columns]) = (x.layout(), x.layout().shape().dims());
        let step = |axis: usize| usize::try_from(layout.strides()[axis]).expect("strides go forward");
        let (row_step, column_step) = (step(0), step(1));
        Self { values: &x.storage::<f32>()[layout.start_offset()..], rows, columns, row_step, column_step }
    }

    /// Dense rows, of which `values` holds all.
    pub fn dense(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values, rows, columns, row_step: columns, column_step: 1 }
    }

    /// Its rows as columns.
    pub fn turned(self) -> Self {
        let Self { values, rows, columns, row_step, column_step } = self;
        Self { values, rows: columns, columns: rows, row_step: column_step, column_step: row_step }
    }

    /// The values of a row; `None` where they do not lie side by side.
    pub fn row(&self, row: usize) -> Option<&'a [f32]> {
        (self.column_step == 1).then(|| &self.values[row * self.row_step..][..self.columns])
    }

    /// Its rows.
    pub fn n_rows(&self) -> usize {
        self.rows
    }

    /// Its columns.
    pub fn n_columns(&self) -> usize {
        self.columns
    }

    /// Some of its columns.
    fn columns_from(self, start: usize, columns: usize) -> Self {
        Self { values: self.from(start * self.column_step), columns, ..self }
    }

    /// Some of its rows.
    fn rows_from(self, start: usize, rows: usize) -> Self {
        Self { values: self.from(start * self.row_step), rows, ..self }
    }

    /// A matrix without values has any part.
    fn from(&self, start: usize) -> &'a [f32] {
        self.values.get(start..).unwrap_or_default()
    }

    fn is_within(&self) -> bool {
        let last = (self.rows.max(1) - 1) * self.row_step + (self.columns.max(1) - 1) * self.column_step;
        self.rows * self.columns == 0 || last < self.values.len()
    }
}

/// `scale · lhs · rhs`, row-major.
///
/// # Shapes
/// `lhs`: `[m, k]` · `rhs`: `[k, n]` · result: `[m, n]`
pub(in crate::ops) fn product(lhs: Matrix, rhs: Matrix, scale: f32) -> Vec<f32> {
    let len = lhs.rows * rhs.columns;
    // Without an inner dimension nothing would be written.
    if lhs.columns == 0 {
        return vec![0.0; len];
    }
    // Not made of zeros first: that was 3 % of a step of 128 tokens.
    let mut out = Vec::with_capacity(len);
    write(lhs, rhs, scale, Before::Dropped, &mut out.spare_capacity_mut()[..len]);
    // SAFETY: every element is in one of the parts, and each part was written whole.
    unsafe { out.set_len(len) };
    out
}

/// Raises the row-major `out` by `scale · lhs · rhs`.
///
/// # Shapes
/// `lhs`: `[m, k]` · `rhs`: `[k, n]` · `out`: `[m, n]`
pub(in crate::ops) fn add_product(lhs: Matrix, rhs: Matrix, scale: f32, out: &mut [f32]) {
    // SAFETY: the same memory, and what is written to it are values.
    let out = unsafe { &mut *(std::ptr::from_mut(out) as *mut [MaybeUninit<f32>]) };
    write(lhs, rhs, scale, Before::Kept, out);
}

/// What becomes of what lies in the result's place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// It is overwritten, unread.
    Dropped,
    /// The product is added to it.
    Kept,
}

fn write(lhs: Matrix, rhs: Matrix, scale: f32, before: Before, out: &mut [MaybeUninit<f32>]) {
    let (m, k, n) = (lhs.rows, lhs.columns, rhs.columns);
    assert_eq!(k, rhs.rows, "the inner dimensions of a matrix product are alike");
    assert_eq!(out.len(), m * n, "the result of a matrix product has the outer dimensions");
    assert!(lhs.is_within() && rhs.is_within(), "a matrix lies within its values");
    if out.is_empty() {
        return;
    }
    // The longer side is cut: the other one's factor is read by every core.
    let is_wide = n >= m;
    let side = if is_wide { n } else { m };
    // Reading a value that is in no cache takes as long as some multiply-adds: a single token only reads.
    let work = m * k * n + READ * k * (m + n);
    let n_parts = (work / MIN_PART).clamp(1, tasks::n_cores()).min(side.div_ceil(STEP));
    let length = side.div_ceil(n_parts).next_multiple_of(STEP);
    let out = Out(out.as_mut_ptr().cast());
    tasks::for_each_part(side.div_ceil(length), |part| {
        let start = part * length;
        let length = length.min(side - start);
        let (lhs, rhs, place) = if is_wide {
            (lhs, rhs.columns_from(start, length), start)
        } else {
            (lhs.rows_from(start, length), rhs, start * n)
        };
        // SAFETY: the asserts above hold all reads within the factors; the parts are rows or columns of `out` that
        // no other part has.
        unsafe { write_part(lhs, rhs, scale, before, out.at(place), n) };
    });
}

/// Writes `scale · lhs · rhs` into rows that are `row_step` apart, on this thread.
///
/// # Safety
/// The factors lie within their values, their inner dimensions are alike, and `out` has all those rows for this thread
/// alone.
pub(super) unsafe fn write_part(
    lhs: Matrix,
    rhs: Matrix,
    scale: f32,
    before: Before,
    out: *mut f32,
    row_step: usize,
) {
    let is_kept = before == Before::Kept;
    unsafe {
        gemm::gemm(
            lhs.rows,
            rhs.columns,
            lhs.columns,
            out,
            1,
            row_step as isize,
            is_kept,
            lhs.values.as_ptr(),
            lhs.column_step as isize,
            lhs.row_step as isize,
            rhs.values.as_ptr(),
            rhs.column_step as isize,
            rhs.row_step as isize,
            if is_kept { 1.0 } else { 0.0 },
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// The result, of which each part writes its own.
pub(super) struct Out(pub *mut f32);

// SAFETY: whoever makes one hands out parts that do not overlap.
unsafe impl Sync for Out {}

impl Out {
    /// A place in it.
    pub fn at(&self, index: usize) -> *mut f32 {
        self.0.wrapping_add(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole_product_in_any_order_of_the_factors() {
        for [m, k, n] in [[1, 1, 1], [3, 5, 7], [128, 96, 700], [700, 96, 128], [130, 0, 50]] {
            let values =
                |len: usize| (0..len).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect::<Vec<_>>();
            let (a, b) = (values(m * k), values(k * n));
            for is_turned in [false, true] {
                let lhs = Matrix { values: &a, rows: m, columns: k, row_step: k, column_step: 1 };
                let rhs = if is_turned {
                    Matrix { values: &b, rows: k, columns: n, row_step: 1, column_step: k }
                } else {
                    Matrix { values: &b, rows: k, columns: n, row_step: n, column_step: 1 }
                };
                let mut out = product(lhs, rhs, 2.0);
                add_product(lhs, rhs, 1.0, &mut out);
                for (i, &found) in out.iter().enumerate() {
                    let at = |l: usize| b[l * rhs.row_step + i % n * rhs.column_step];
                    let expected: f32 = (0..k).map(|l| 3.0 * a[i / n * k + l] * at(l)).sum();
                    assert!(
                        (found - expected).abs() <= 1e-3 * (1.0 + expected.abs()),
                        "{i}: {found} is not {expected}"
                    );
                }
            }
        }
    }
}
