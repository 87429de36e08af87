//! Row loops, several rows a task.

use super::tasks;

/// Elements below which handing work to another thread costs more than it saves.
const MIN_ELEMENTS_PER_TASK: usize = 16 * 1024;

fn rows_per_task(row_len: usize) -> usize {
    (MIN_ELEMENTS_PER_TASK / row_len.max(1)).max(1)
}

/// Calls `f(row_index, row)` for each row of `out`.
///
/// `f` should be `#[inline(always)]`, so that it is compiled with the machine's vector extensions.
pub(in crate::ops) fn for_each(out: &mut [f32], row_len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let n_rows = rows_per_task(row_len);
    tasks::for_each_chunk(
        out,
        n_rows * row_len,
        #[inline(always)]
        |task, rows| {
            let rows = rows.chunks_exact_mut(row_len).enumerate();
            rows.for_each(|(i, row)| f(task * n_rows + i, row));
        },
    );
}

/// `len` values, made by `f(row_index, row)`, which finds zeros.
///
/// `f` as of [`for_each`].
pub(in crate::ops) fn make(len: usize, row_len: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let n_rows = rows_per_task(row_len);
    tasks::make(
        len,
        n_rows * row_len,
        #[inline(always)]
        |task, rows| {
            let rows = rows.chunks_exact_mut(row_len).enumerate();
            rows.for_each(|(i, row)| f(task * n_rows + i, row));
        },
    )
}

/// As [`make`], of two results of one shape.
pub(in crate::ops) fn make_pair(
    len: usize,
    row_len: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> [Vec<f32>; 2] {
    let n_rows = rows_per_task(row_len);
    tasks::make_pair(
        [len; 2],
        [n_rows * row_len; 2],
        #[inline(always)]
        |task, a, b| {
            let pairs = a.chunks_exact_mut(row_len).zip(b.chunks_exact_mut(row_len)).enumerate();
            pairs.for_each(|(i, (a, b))| f(task * n_rows + i, a, b));
        },
    )
}

/// Calls `f(row_index, row_of_a, row_of_b)` for the rows of two outputs side by side.
pub(in crate::ops) fn for_each_pair(
    a: &mut [f32],
    a_len: usize,
    b: &mut [f32],
    b_len: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let n_rows = rows_per_task(a_len.max(b_len));
    tasks::for_each_chunk_pair(
        a,
        n_rows * a_len,
        b,
        n_rows * b_len,
        #[inline(always)]
        |task, a, b| {
            let pairs = a.chunks_exact_mut(a_len).zip(b.chunks_exact_mut(b_len)).enumerate();
            pairs.for_each(|(i, (a, b))| f(task * n_rows + i, a, b));
        },
    );
}
