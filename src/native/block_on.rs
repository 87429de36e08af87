//! Waiting for a future on the current thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// Wakes a parked thread; an unpark that comes before the park is remembered by the thread itself.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` to its end on this thread, which sleeps while there is nothing to do.
///
/// Native stores and device reads finish without an executor, so none is carried along.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    #[test]
    fn ready_future_returns_its_output() {
        assert_eq!(block_on(async { 6 * 7 }), 42);
    }

    #[test]
    fn sleeps_until_another_thread_wakes_it() {
        let ready = Arc::new(AtomicBool::new(false));
        let mut polls = 0;
        let mut started = false;
        let output = block_on(std::future::poll_fn(|context| {
            polls += 1;
            if ready.load(Ordering::SeqCst) {
                return Poll::Ready("woken");
            }
            if !started {
                started = true;
                let (waker, ready) = (context.waker().clone(), Arc::clone(&ready));
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(20));
                    ready.store(true, Ordering::SeqCst);
                    waker.wake();
                });
            }
            Poll::Pending
        }));
        assert_eq!(output, "woken");
        assert!(polls < 10, "parked between polls, yet polled {polls} times");
    }
}
