//! Products of a few rows, as when several texts are continued together: each value of a packed right factor is unpacked
//! once for up to eight of them.

use super::operand::Operand;
use super::{MIN_DOTS, Sides};
use crate::ops::cpu::packed::MOST_TOGETHER;
use crate::ops::cpu::{Out, math, tasks};

/// Whether this is the way: a packed factor takes part, and each is unpacked into registers.
fn serves(sides: &[Sides], m: usize) -> bool {
    let is_packed = |sides: &Sides| matches!(sides.rhs, Operand::Packed(..));
    let is_read = |sides: &Sides| {
        let is_wide = !matches!(sides.rhs, Operand::Packed(matrix, _) if !matrix.has_wide_dots());
        is_wide && sides.lhs.has_rows() && sides.rhs.has_rows()
    };
    m <= MOST_TOGETHER && sides.iter().any(is_packed) && sides.iter().all(is_read)
}

/// The product, where this is the way to make it.
pub(super) fn product(sides: &[Sides], [m, n]: [usize; 2]) -> Option<Vec<f32>> {
    if !serves(sides, m) {
        return None;
    }
    let mut result = Vec::with_capacity(m * n);
    let out = Out::of(&mut result);
    let inner: usize = sides.iter().map(|sides| sides.lhs.n_inner()).sum();
    let n_parts = (n * inner * m / MIN_DOTS).clamp(1, 2 * tasks::n_cores());
    let length = n.div_ceil(n_parts);
    tasks::for_each_task(n_parts.min(tasks::n_cores()), n.div_ceil(length), |part| {
        for j in part * length..((part + 1) * length).min(n) {
            let mut sums = [0.0; MOST_TOGETHER];
            for sides in sides {
                add(sides, j, &mut sums[..m]);
            }
            for (i, sum) in sums[..m].iter().enumerate() {
                // SAFETY: this column of the result is this task's alone.
                unsafe { out.at(i * n + j).write(*sum) };
            }
        }
    });
    // SAFETY: each place was written.
    unsafe { result.set_len(m * n) };
    Some(result)
}

/// Adds the products of the left factor's rows with column `j` of the right one.
fn add(sides: &Sides, j: usize, sums: &mut [f32]) {
    let inner = sides.lhs.n_inner();
    let row = |i: usize| sides.lhs.row(i, 0).map_or(&[][..], |row| &row[..inner]);
    match sides.rhs {
        Operand::Packed(matrix, _) => matrix.add_dots(j, row, sums),
        Operand::Dense(matrix) => {
            let column = &matrix.values[j * matrix.row_step..][..inner];
            sums.iter_mut().enumerate().for_each(|(i, sum)| *sum += math::dot(row(i), column));
        }
    }
}
