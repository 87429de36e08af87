//! Row loops, several rows a task.

use super::tasks;

/// Elements below which handing work to another thread costs more than it saves.
const MIN_ELEMENTS_PER_TASK: usize = 16 * 1024;

fn rows_per_task(row_len: usize) -> usize {
    (MIN_ELEMENTS_PER_TASK / row_len.max(1)).max(1)
}

/// Calls `f(row_index, row)` for rows of which the first has this number.
#[inline(always)]
fn one_by_one(rows: &mut [f32], row_len: usize, first: usize, f: &impl Fn(usize, &mut [f32])) {
    // A loop of our own: the iterator's would be a function that knows of no vector unit.
    for (i, row) in rows.chunks_exact_mut(row_len).enumerate() {
        f(first + i, row);
    }
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
        |task, rows| one_by_one(rows, row_len, task * n_rows, &f),
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
        |task, rows| one_by_one(rows, row_len, task * n_rows, &f),
    )
}

/// Calls `f(row_index, rows)` for the rows of several outputs side by side, of `lens` elements each.
///
/// `f` as of [`for_each`].
pub(in crate::ops) fn for_each_of<const N: usize>(
    outs: [&mut [f32]; N],
    lens: [usize; N],
    f: impl Fn(usize, [&mut [f32]; N]) + Sync,
) {
    let n_rows = rows_per_task(lens.into_iter().max().unwrap_or(1));
    tasks::for_each_chunks(
        outs,
        lens.map(|len| n_rows * len),
        #[inline(always)]
        |task, outs: [&mut [f32]; N]| {
            let mut lens = lens.into_iter();
            let mut rows = outs.map(|out| out.chunks_exact_mut(lens.next().unwrap_or(1)));
            let n = rows.iter().map(ExactSizeIterator::len).min().unwrap_or(0);
            for i in 0..n {
                f(task * n_rows + i, rows.each_mut().map(|rows| rows.next().unwrap_or_default()));
            }
        },
    );
}
