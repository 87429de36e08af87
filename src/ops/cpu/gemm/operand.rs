//! The two sides of a product, `[outer, inner]` each, as the kernel reads them: rows one value at a time, panels a
//! vector at a time.

use super::Matrix;
use super::kernel::{panel_width, turned_block};
use crate::ops::cpu::packed::{PackedMatrix, Way};
use pulp::Simd;
use std::ops::Range;

/// Columns of a group of panels are a multiple of this: whole panels of any machine, and whole blocks of a packed
/// matrix.
pub(super) const GROUP_STEP: usize = 96;
/// Columns of a group, at most.
pub(super) const MOST_COLUMNS: usize = 16 * GROUP_STEP;

/// One side of a product, `[outer, inner]`.
#[derive(Clone, Copy)]
pub(super) enum Operand<'a> {
    Dense(Matrix<'a>),
    /// [`Way::Turned`]: its rows are the outer side; [`Way::AsIs`]: its columns.
    Packed(PackedMatrix<'a>, Way),
}

impl<'a> Operand<'a> {
    pub fn n_outer(&self) -> usize {
        match self {
            Self::Dense(matrix) => matrix.rows,
            Self::Packed(matrix, Way::Turned) => matrix.n_rows(),
            Self::Packed(matrix, Way::AsIs) => matrix.n_columns(),
        }
    }

    pub fn n_inner(&self) -> usize {
        match self {
            Self::Dense(matrix) => matrix.columns,
            Self::Packed(matrix, Way::Turned) => matrix.n_columns(),
            Self::Packed(matrix, Way::AsIs) => matrix.n_rows(),
        }
    }

    /// Whether values of one outer index lie side by side.
    pub fn has_rows(&self) -> bool {
        match self {
            Self::Dense(matrix) => matrix.column_step == 1,
            Self::Packed(_, way) => *way == Way::Turned,
        }
    }

    /// Whether values of one inner index lie side by side.
    pub fn has_columns(&self) -> bool {
        match self {
            Self::Dense(matrix) => matrix.row_step == 1,
            Self::Packed(_, way) => *way == Way::AsIs,
        }
    }

    pub fn is_packed(&self) -> bool {
        matches!(self, Self::Packed(..))
    }

    /// The values of an outer index from an inner one on, where they lie side by side in f32.
    pub fn row(&self, outer: usize, inner: usize) -> Option<&'a [f32]> {
        match self {
            Self::Dense(matrix) if self.has_rows() => Some(&matrix.values[outer * matrix.row_step + inner..]),
            _ => None,
        }
    }

    /// The values of an inner index from an outer one on, where they lie side by side in f32, and how far the next
    /// inner index's are from them.
    pub fn columns(&self, outer: usize, inner: usize) -> Option<(&'a [f32], usize)> {
        match self {
            Self::Dense(matrix) if self.has_columns() => {
                Some((&matrix.values[inner * matrix.column_step + outer..], matrix.column_step))
            }
            _ => None,
        }
    }

    /// The values of `len` inner indices for some outer ones, those of an inner index side by side; and how far the next
    /// inner index's are from them. They lie in `room`, `width` apart, where they do not lie so already.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[inline(always)]
    pub fn lines<'b>(
        &self,
        outer: Range<usize>,
        inner: usize,
        len: usize,
        room: &'b mut [f32],
        width: usize,
    ) -> (&'b [f32], usize)
    where
        'a: 'b,
    {
        if let Some(lines) = self.columns(outer.start, inner) {
            return lines;
        }
        match self {
            Self::Dense(matrix) => {
                let from = outer.start * matrix.row_step + inner * matrix.column_step;
                let steps = [matrix.row_step, matrix.column_step];
                turn(&matrix.values[from..], steps, [outer.len(), len], room, width);
            }
            Self::Packed(matrix, Way::AsIs) => {
                for (l, line) in room.chunks_exact_mut(width).take(len).enumerate() {
                    matrix.unpack(inner + l, outer.start, &mut line[..outer.len()]);
                }
            }
            Self::Packed(_, Way::Turned) => unreachable!("{READ_AS_IT_LIES}"),
        }
        (room, width)
    }

    /// Copies a row's values.
    #[inline(always)]
    pub fn copy_row(&self, outer: usize, inner: usize, out: &mut [f32]) {
        match self {
            Self::Dense(matrix) => {
                let values = &matrix.values[outer * matrix.row_step + inner * matrix.column_step..];
                for (out, value) in out.iter_mut().zip(values.iter().step_by(matrix.column_step.max(1))) {
                    *out = *value;
                }
            }
            Self::Packed(matrix, Way::Turned) => matrix.unpack(outer, inner, out),
            Self::Packed(_, Way::AsIs) => unreachable!("{READ_AS_IT_LIES}"),
        }
    }

    /// Copies `len` inner indices of some outer ones into panels, one after the other; the last is filled up with
    /// zeros.
    #[inline(always)]
    pub fn copy_panels<S: Simd>(&self, _: S, outer: Range<usize>, inner: usize, len: usize, out: &mut [f32]) {
        let width = panel_width::<S>();
        let n_whole = outer.len() / width;
        if !outer.len().is_multiple_of(width) {
            out[n_whole * len * width..][..len * width].fill(0.0);
        }
        match self {
            Self::Dense(matrix) if self.has_columns() => {
                for l in 0..len {
                    let row = &matrix.values[(inner + l) * matrix.column_step + outer.start..][..outer.len()];
                    spread::<S>(row, l, len, out);
                }
            }
            Self::Dense(matrix) => {
                for (first, panel) in outer.clone().step_by(width).zip(out.chunks_exact_mut(len * width)) {
                    let from = first * matrix.row_step + inner * matrix.column_step;
                    let n = width.min(outer.end - first);
                    let steps = [matrix.row_step, matrix.column_step];
                    turn(&matrix.values[from..], steps, [n, len], panel, width);
                }
            }
            Self::Packed(matrix, Way::AsIs) => {
                let mut row = [0.0; MOST_COLUMNS];
                let row = &mut row[..outer.len()];
                for l in 0..len {
                    matrix.unpack(inner + l, outer.start, row);
                    spread::<S>(row, l, len, out);
                }
            }
            Self::Packed(_, Way::Turned) => unreachable!("{READ_AS_IT_LIES}"),
        }
    }
}

const READ_AS_IT_LIES: &str = "a packed matrix takes part as it lies";

/// Shares the values of one inner index out between panels.
#[inline(always)]
fn spread<S: Simd>(row: &[f32], l: usize, len: usize, out: &mut [f32]) {
    let width = panel_width::<S>();
    for (values, panel) in row.chunks(width).zip(out.chunks_exact_mut(len * width)) {
        let place = &mut panel[l * width..][..width];
        if values.len() == width {
            // A copy whose length is known takes a load and a store a vector.
            let (from, _) = S::as_simd_f32s(values);
            let (to, _) = S::as_mut_simd_f32s(place);
            to.copy_from_slice(from);
        } else {
            place[..values.len()].copy_from_slice(values);
        }
    }
}

/// Rows become columns: `n` rows of `len` values, whose steps are `[row, column]`, into rows of `width`.
#[inline(always)]
pub(in crate::ops::cpu) fn turn(
    values: &[f32],
    [row_step, column_step]: [usize; 2],
    [n, len]: [usize; 2],
    out: &mut [f32],
    width: usize,
) {
    let (whole_n, whole_len) = if column_step == 1 { (n - n % 4, len - len % 4) } else { (0, 0) };
    for l in (0..whole_len).step_by(4) {
        for i in (0..whole_n).step_by(4) {
            let mut block = [[0.0f32; 4]; 4];
            for (j, block) in block.iter_mut().enumerate() {
                block.copy_from_slice(&values[(i + j) * row_step + l..][..4]);
            }
            for (j, column) in turned_block(block).into_iter().enumerate() {
                out[(l + j) * width + i..][..4].copy_from_slice(&column);
            }
        }
    }
    for i in 0..n {
        let done = if i < whole_n { whole_len } else { 0 };
        for l in done..len {
            out[l * width + i] = values[i * row_step + l * column_step];
        }
    }
}
