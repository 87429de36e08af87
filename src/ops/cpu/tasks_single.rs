//! Work on the one thread the browser's worker has.

/// Calls `f(0, out)`: here all chunks are one.
pub(super) fn for_each_chunk(out: &mut [f32], _len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    f(0, out);
}

/// Calls `f(0, outs)`.
pub(super) fn for_each_chunks<const N: usize>(
    outs: [&mut [f32]; N],
    _lens: [usize; N],
    f: impl Fn(usize, [&mut [f32]; N]) + Sync,
) {
    f(0, outs);
}

/// `len` values, made by `f(0, values)`, which finds zeros.
pub(super) fn make(len: usize, _part: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut out = vec![0.0; len];
    f(0, &mut out);
    out
}

/// Calls `f`.
pub(in crate::ops) fn vectorised(mut f: impl FnMut()) {
    f();
}

/// `f` of each, one after the other.
pub(in crate::ops) fn map_each<T, R>(items: Vec<T>, f: impl Fn(T) -> R) -> Vec<R> {
    items.into_iter().map(f).collect()
}

/// The one thread.
pub(super) fn n_cores() -> usize {
    1
}

/// Calls `f(task)` for each task, one after the other.
pub(super) fn for_each_task(_n_cores: usize, n_tasks: usize, f: impl Fn(usize) + Send + Sync) {
    (0..n_tasks).for_each(f);
}
