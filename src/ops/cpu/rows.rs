//! Row loops on all cores, compiled for the widest vector unit the machine has.

use rayon::prelude::*;

/// Elements below which handing work to another thread costs more than it saves.
const MIN_ELEMENTS_PER_TASK: usize = 16 * 1024;

/// Calls `f(row_index, row)` for each row of `out`.
///
/// `f` should be `#[inline(always)]`, so that it is compiled with the machine's vector extensions.
pub(in crate::ops) fn for_each(out: &mut [f32], row_len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let arch = pulp::Arch::new();
    let rows_per_task = (MIN_ELEMENTS_PER_TASK / row_len.max(1)).max(1);
    if out.len() <= rows_per_task * row_len {
        arch.dispatch(|| out.chunks_exact_mut(row_len).enumerate().for_each(|(i, row)| f(i, row)));
        return;
    }
    out.par_chunks_mut(rows_per_task * row_len).enumerate().for_each(|(task, rows)| {
        let first = task * rows_per_task;
        arch.dispatch(|| rows.chunks_exact_mut(row_len).enumerate().for_each(|(i, row)| f(first + i, row)));
    });
}

/// Calls `f(row_index, row_of_a, row_of_b)` for the rows of two outputs side by side.
pub(in crate::ops) fn for_each_pair(
    a: &mut [f32],
    a_len: usize,
    b: &mut [f32],
    b_len: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let arch = pulp::Arch::new();
    let rows_per_task = (MIN_ELEMENTS_PER_TASK / a_len.max(b_len).max(1)).max(1);
    a.par_chunks_mut(rows_per_task * a_len)
        .zip(b.par_chunks_mut(rows_per_task * b_len))
        .enumerate()
        .for_each(|(task, (a_rows, b_rows))| {
            let first = task * rows_per_task;
            arch.dispatch(|| {
                let pairs = a_rows.chunks_exact_mut(a_len).zip(b_rows.chunks_exact_mut(b_len));
                pairs.enumerate().for_each(|(i, (a_row, b_row))| f(first + i, a_row, b_row));
            });
        });
}
