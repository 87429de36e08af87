//! Work on all cores, compiled for the widest vector unit the machine has.

use rayon::prelude::*;

/// A call that is inlined into the code for a vector unit. A closure called by value goes through a function that the
/// compiler adds and does not inline where it is large.
struct Vectorised<F>(F);

impl<F: FnMut()> pulp::WithSimd for Vectorised<F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(mut self, _: S) {
        (self.0)();
    }
}

/// Calls `f(chunk_index, chunk)` for each chunk of `len` elements; a single one stays on this thread.
#[inline(always)]
pub(super) fn for_each_chunk(out: &mut [f32], len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if out.len() <= len {
        return vectorised(
            #[inline(always)]
            || f(0, out),
        );
    }
    out.par_chunks_mut(len).enumerate().for_each(|(i, chunk)| {
        vectorised(
            #[inline(always)]
            || f(i, chunk),
        );
    });
}

/// Calls `f(chunk_index, chunk_of_a, chunk_of_b)` for the chunks of two outputs side by side.
#[inline(always)]
pub(super) fn for_each_chunk_pair(
    a: &mut [f32],
    a_len: usize,
    b: &mut [f32],
    b_len: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let pairs = a.par_chunks_mut(a_len).zip(b.par_chunks_mut(b_len)).enumerate();
    pairs.for_each(|(i, (a, b))| {
        vectorised(
            #[inline(always)]
            || f(i, a, b),
        );
    });
}

/// Calls `f`, compiled for the widest vector unit.
#[inline(always)]
pub(in crate::ops) fn vectorised(f: impl FnMut()) {
    pulp::Arch::new().dispatch(Vectorised(f));
}

/// `f` of each.
pub(in crate::ops) fn map_each<T: Send, R: Send>(items: Vec<T>, f: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
    items.into_par_iter().map(f).collect()
}

/// Cores that work side by side.
pub(super) fn n_cores() -> usize {
    rayon::current_num_threads()
}

/// Calls `f(task)` for each task; on one core they stay on this thread, one after the other.
pub(super) fn for_each_task(n_cores: usize, n_tasks: usize, f: impl Fn(usize) + Send + Sync) {
    if n_cores <= 1 || n_tasks <= 1 {
        (0..n_tasks).for_each(f);
    } else {
        (0..n_tasks).into_par_iter().with_max_len(1).for_each(f);
    }
}
