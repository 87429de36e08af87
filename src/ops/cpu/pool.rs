//! Threads between which the tasks of one piece of work after the other are shared out.
//!
//! A training step is thousands of pieces of some ten or hundred microseconds. A thread that slept would often wake when
//! a piece is done, so these stay awake for a while, as OpenMP's do; rayon's fall asleep after some microseconds.
#![expect(unsafe_code, reason = "threads that outlive the work are lent what it borrows")]

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a thread without work stays awake.
const AWAKE: Duration = Duration::from_micros(200);
/// Looks before others may have the core, and between two glances at the clock.
const LOOKS: u32 = 64;

/// Threads that work side by side, the one that asks included: what `RAYON_NUM_THREADS` says, or as many as there are
/// cores.
pub(super) fn n_threads() -> usize {
    static N: LazyLock<usize> = LazyLock::new(|| {
        let asked =
            std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|&n| n > 0);
        asked.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
    });
    *N
}

/// Calls `task` with each number below `n_tasks`, on all threads, and returns when all calls have. Within a task, and
/// while another thread's work is under way, they stay on this thread, in order.
///
/// # Panics
/// As `task` does.
pub(super) fn share_out(n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
    if n_tasks > 1 && n_threads() > 1 {
        let pool = POOL.get_or_init(Pool::start);
        if pool.is_taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return pool.share_out(n_tasks, task);
        }
    }
    (0..n_tasks).for_each(task);
}

static POOL: OnceLock<&'static Pool> = OnceLock::new();

/// A piece of work.
#[derive(Clone, Copy)]
struct Work {
    task: &'static (dyn Fn(usize) + Sync),
    n_tasks: usize,
}

struct Pool {
    /// Whether somebody's work is under way.
    is_taken: AtomicBool,
    /// The work's number, how many helpers are at it, and whether more may join: see [`State`].
    state: AtomicU64,
    work: UnsafeCell<Option<Work>>,
    /// The next task's number.
    next: AtomicUsize,
    has_panicked: AtomicBool,
    helpers: Vec<Helper>,
}

// SAFETY: `work` is written by who has taken the pool, while it is closed and no helper is at work.
unsafe impl Sync for Pool {}

#[derive(Default)]
struct Helper {
    sleeps: AtomicBool,
    thread: OnceLock<Thread>,
}

const OPEN: u64 = 1;
const HELPER: u64 = 2;
const HELPERS: u64 = (1 << 16) - 1 - OPEN;
const NUMBER: u64 = 1 << 16;

impl Pool {
    fn start() -> &'static Self {
        let helpers = (1..n_threads()).map(|_| Helper::default()).collect();
        let pool: &Self = Box::leak(Box::new(Self {
            is_taken: AtomicBool::new(false),
            state: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            has_panicked: AtomicBool::new(false),
            helpers,
        }));
        for (i, helper) in pool.helpers.iter().enumerate() {
            // Where no thread is to be had, those that are there do the work.
            if let Ok(thread) = thread::Builder::new().name(format!("attune-{i}")).spawn(|| pool.help(helper))
            {
                _ = helper.thread.set(thread.thread().clone());
            }
        }
        pool
    }

    /// Of who has taken the pool.
    fn share_out(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes, and the task is called only before this returns.
        let task =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task) };
        let work = Work { task, n_tasks };
        // SAFETY: the pool is closed and no helper is at work, so nobody reads it.
        unsafe { *self.work.get() = Some(work) };
        self.next.store(0, Ordering::Relaxed);
        let number = (self.state.load(Ordering::Relaxed) / NUMBER).wrapping_add(1);
        // In one order with a helper's word that it sleeps: one of both sees the other's.
        self.state.store(number.wrapping_mul(NUMBER) | OPEN, Ordering::SeqCst);
        let sleeping = self.helpers.iter().filter(|helper| helper.sleeps.load(Ordering::SeqCst));
        for helper in sleeping.take(n_tasks - 1) {
            helper.thread.get().inspect(|thread| thread.unpark());
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work(work)));
        self.state.fetch_and(!OPEN, Ordering::Relaxed);
        let mut looks = 0u32;
        while self.state.load(Ordering::Acquire) & HELPERS > 0 {
            looks += 1;
            if looks.is_multiple_of(LOOKS) { thread::yield_now() } else { spin_loop() }
        }
        let has_panicked = self.has_panicked.swap(false, Ordering::Relaxed);
        self.is_taken.store(false, Ordering::Release);
        match outcome {
            Err(panic) => resume_unwind(panic),
            Ok(()) => assert!(!has_panicked, "a task panicked on another thread, which tells why"),
        }
    }

    fn work(&self, Work { task, n_tasks }: Work) {
        loop {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            if next >= n_tasks {
                return;
            }
            task(next);
        }
    }

    /// What a helper does all its life.
    fn help(&self, helper: &Helper) {
        let mut done = 0;
        loop {
            let state = self.wait(helper, done);
            let joined =
                self.state.compare_exchange(state, state + HELPER, Ordering::Acquire, Ordering::Relaxed);
            if joined.is_err() {
                continue;
            }
            done = state / NUMBER;
            // SAFETY: it was written before the pool was opened, and is not again before this helper has left.
            let work = unsafe { *self.work.get() };
            let outcome = catch_unwind(AssertUnwindSafe(|| work.map(|work| self.work(work))));
            if outcome.is_err() {
                self.next.fetch_max(usize::MAX / 2, Ordering::Relaxed);
                self.has_panicked.store(true, Ordering::Relaxed);
            }
            self.state.fetch_sub(HELPER, Ordering::Release);
        }
    }

    /// Waits for work with another number; gives the state in which it was open.
    fn wait(&self, helper: &Helper, done: u64) -> u64 {
        let mut since = None;
        loop {
            for _ in 0..LOOKS {
                let state = self.state.load(Ordering::SeqCst);
                if state & OPEN > 0 && state / NUMBER != done {
                    helper.sleeps.store(false, Ordering::Relaxed);
                    return state;
                }
                spin_loop();
            }
            thread::yield_now();
            if since.get_or_insert_with(Instant::now).elapsed() > AWAKE {
                // Who opens the pool after this wakes the helper; work that was there before is seen above.
                if helper.sleeps.swap(true, Ordering::SeqCst) {
                    thread::park();
                    helper.sleeps.store(false, Ordering::Relaxed);
                    since = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{n_threads, share_out};
    use std::collections::HashSet;
    use std::panic::catch_unwind;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    fn counts(n: usize) -> Vec<AtomicUsize> {
        (0..n).map(|_| AtomicUsize::new(0)).collect()
    }

    #[test]
    fn each_task_is_done_once_whoever_asks_at_the_same_time() {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2_000 {
                        let done = counts(1 + round % 7);
                        let within = AtomicUsize::new(0);
                        share_out(done.len(), &|i| {
                            done[i].fetch_add(1, Ordering::Relaxed);
                            share_out(3, &|j| _ = within.fetch_add(j, Ordering::Relaxed));
                        });
                        assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
                        assert_eq!(within.into_inner(), 3 * done.len());
                    }
                });
            }
        });
    }

    #[test]
    fn helpers_that_fell_asleep_wake() {
        // Other tests may have the helpers for themselves for a while.
        let works_together = (0..2_000).any(|_| {
            thread::sleep(Duration::from_millis(2));
            let threads = Mutex::new(HashSet::new());
            share_out(16, &|_| {
                thread::sleep(Duration::from_micros(200));
                threads.lock().expect("nobody panicked").insert(thread::current().id());
            });
            threads.into_inner().expect("nobody panicked").len() == n_threads()
        });
        assert!(works_together, "{} threads never worked together", n_threads());
    }

    #[test]
    fn a_panic_reaches_who_asked_and_leaves_the_threads_at_work() {
        for round in 0..50 {
            let found = catch_unwind(|| share_out(8, &|i| assert_ne!(i, round % 8, "as the test wants it")));
            assert!(found.is_err());
            let done = counts(8);
            share_out(8, &|i| _ = done[i].fetch_add(1, Ordering::Relaxed));
            assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
        }
    }
}
