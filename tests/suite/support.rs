//! What several modules of the suite use.

use std::task::{Context, Poll, Waker};

/// Runs a future that never waits, such as one over a memory store, to its end in one poll.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future waited"),
    }
}
