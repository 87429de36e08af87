//! Work on the one thread the browser's worker has.

/// Calls `f(0, out)`: here all chunks are one.
pub(super) fn for_each_chunk(out: &mut [f32], _len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    f(0, out);
}

/// Calls `f(0, a, b)`.
pub(super) fn for_each_chunk_pair(
    a: &mut [f32],
    _a_len: usize,
    b: &mut [f32],
    _b_len: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    f(0, a, b);
}

/// The one thread.
pub(super) fn n_cores() -> usize {
    1
}

/// Calls `f(part)` for each part, one after the other.
pub(super) fn for_each_part(n_parts: usize, f: impl Fn(usize) + Send + Sync) {
    (0..n_parts).for_each(f);
}

/// Calls `f`.
pub(super) fn vectorised(mut f: impl FnMut()) {
    f();
}
