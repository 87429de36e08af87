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

/// `len` values, made by `f(0, values)`, which finds zeros.
pub(super) fn make(len: usize, _part: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut out = vec![0.0; len];
    f(0, &mut out);
    out
}

/// As [`make`], of two results side by side.
pub(super) fn make_pair(
    len: [usize; 2],
    _part: [usize; 2],
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> [Vec<f32>; 2] {
    let [mut a, mut b] = len.map(|len| vec![0.0; len]);
    f(0, &mut a, &mut b);
    [a, b]
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
