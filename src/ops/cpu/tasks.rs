//! Work on all cores, compiled for the widest vector unit the machine has.

use super::{Out, arch, pool};
use std::sync::Mutex;

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
    let chunks = Chunks::of(out, len);
    pool::share_out(chunks.n(), &|i| {
        vectorised(
            #[inline(always)]
            || f(i, chunks.at(i)),
        );
    });
}

/// Calls `f(chunk_index, chunks)` for the chunks of several outputs side by side, of `lens` elements each.
#[inline(always)]
pub(super) fn for_each_chunks<const N: usize>(
    outs: [&mut [f32]; N],
    lens: [usize; N],
    f: impl Fn(usize, [&mut [f32]; N]) + Sync,
) {
    let mut lens = lens.into_iter();
    let chunks = outs.map(|out| Chunks::of(out, lens.next().unwrap_or(1)));
    let n = chunks.iter().map(Chunks::n).min().unwrap_or(0);
    pool::share_out(n, &|i| {
        vectorised(
            #[inline(always)]
            || f(i, chunks.each_ref().map(|chunks| chunks.at(i))),
        );
    });
}

/// `len` values, made in chunks of `part` by `f(chunk_index, chunk)`, which finds zeros.
#[inline(always)]
pub(super) fn make(len: usize, part: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut out = Vec::with_capacity(len);
    let chunks = Chunks { values: Out::of(&mut out), len, part };
    pool::share_out(chunks.n(), &|i| {
        vectorised(
            #[inline(always)]
            || f(i, chunks.cleared(i)),
        );
    });
    // SAFETY: each chunk was cleared.
    unsafe { out.set_len(len) };
    out
}

/// Parts of a slice, each a task's own.
struct Chunks {
    values: Out,
    len: usize,
    /// Values of a part, but of the last.
    part: usize,
}

impl Chunks {
    fn of(values: &mut [f32], part: usize) -> Self {
        Self { len: values.len(), values: Out(values.as_mut_ptr()), part }
    }

    fn n(&self) -> usize {
        self.len.div_ceil(self.part)
    }

    /// A part. Each is asked for once: by its task.
    #[expect(clippy::mut_from_ref, reason = "as of `Out`")]
    #[inline(always)]
    fn at(&self, i: usize) -> &mut [f32] {
        let start = i * self.part;
        // SAFETY: parts lie in the slice and apart from each other.
        unsafe { std::slice::from_raw_parts_mut(self.values.at(start), self.part.min(self.len - start)) }
    }

    /// A part that nobody has written yet, as zeros: its task clears it, not the one thread that asks for all, and finds
    /// it in its cache.
    #[expect(clippy::mut_from_ref, reason = "as of `Out`")]
    #[inline(always)]
    fn cleared(&self, i: usize) -> &mut [f32] {
        let start = i * self.part;
        // SAFETY: parts lie in the vector's room and apart from each other; the bytes of zeros are a zero's.
        unsafe { self.values.at(start).write_bytes(0, self.part.min(self.len - start)) };
        self.at(i)
    }
}

/// Calls `f`, compiled for the widest vector unit.
#[inline(always)]
pub(in crate::ops) fn vectorised(f: impl FnMut()) {
    arch().dispatch(Vectorised(f));
}

/// `f` of each.
pub(in crate::ops) fn map_each<T: Send, R: Send>(items: Vec<T>, f: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
    enum Slot<T, R> {
        Waits(T),
        Taken,
        Done(R),
    }
    let slots: Vec<_> = items.into_iter().map(|item| Mutex::new(Slot::Waits(item))).collect();
    pool::share_out(slots.len(), &|i| {
        let Ok(mut slot) = slots[i].lock() else { unreachable!("a slot is one task's") };
        if let Slot::Waits(item) = std::mem::replace(&mut *slot, Slot::Taken) {
            *slot = Slot::Done(f(item));
        }
    });
    let done = slots.into_iter().map(|slot| match slot.into_inner() {
        Ok(Slot::Done(result)) => result,
        _ => unreachable!("each task ran to its end"),
    });
    done.collect()
}

/// Cores that work side by side.
pub(super) fn n_cores() -> usize {
    pool::n_threads()
}

/// Calls `f(task)` for each task; on one core they stay on this thread, one after the other.
pub(super) fn for_each_task(n_cores: usize, n_tasks: usize, f: impl Fn(usize) + Send + Sync) {
    if n_cores <= 1 || n_tasks <= 1 {
        (0..n_tasks).for_each(f);
    } else {
        pool::share_out(n_tasks, &f);
    }
}
