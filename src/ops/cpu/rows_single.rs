//! Row loops on the one thread the browser's worker has.

/// Calls `f(row_index, row)` for each row of `out`.
pub(in crate::ops) fn for_each(out: &mut [f32], row_len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    out.chunks_exact_mut(row_len).enumerate().for_each(|(i, row)| f(i, row));
}

/// Calls `f(row_index, row_of_a, row_of_b)` for the rows of two outputs side by side.
pub(in crate::ops) fn for_each_pair(
    a: &mut [f32],
    a_len: usize,
    b: &mut [f32],
    b_len: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let pairs = a.chunks_exact_mut(a_len).zip(b.chunks_exact_mut(b_len));
    pairs.enumerate().for_each(|(i, (a_row, b_row))| f(i, a_row, b_row));
}
