//! What ends the worker: a panic, a lost GPU, a kernel that failed. A GPU's fault is only logged, and stale values
//! come back: the log is where it shows.

use crate::post;
use attune::protocol::Reply;
use std::cell::{Cell, RefCell};

thread_local! {
    static FAULT: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    static HAS_ENDED: Cell<bool> = const { Cell::new(false) };
}

struct Listener;

impl log::Log for Listener {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Error
    }

    fn log(&self, record: &log::Record<'_>) {
        let from_gpu =
            ["wgpu", "cubecl", "burn", "naga"].iter().any(|part| record.target().starts_with(part));
        if !self.enabled(record.metadata()) || !from_gpu {
            return;
        }
        let fault = record.args().to_string();
        if IS_WATCHED.get() {
            end(&fault);
        } else {
            FAULT.with_borrow_mut(|first| _ = first.get_or_insert(fault));
        }
    }

    fn flush(&self) {}
}

/// Begins to listen. A panic ends the worker at any time, other faults once [`watch`] was called.
pub fn listen() {
    // Fails only where somebody else listens already, and nobody does.
    if log::set_logger(&Listener).is_ok() {
        log::set_max_level(log::LevelFilter::Error);
    }
    std::panic::set_hook(Box::new(|info| {
        console_error_panic_hook::hook(info);
        let said = info.payload_as_str().unwrap_or("no reason is known");
        match (said.strip_prefix("wgpu error: "), info.location()) {
            (None, Some(place)) => end(&format!("{said} ({}:{})", place.file(), place.line())),
            (fault, _) => end(fault.unwrap_or(said)),
        }
    }));
}

/// The first fault of the GPU since [`listen`].
pub fn take() -> Option<String> {
    FAULT.take()
}

/// From now on values are at stake: the next fault of the GPU ends the worker.
pub fn watch() {
    IS_WATCHED.set(true);
}

/// Whether no more work may be done: its values would be wrong, and a checkpoint of them would replace a right one.
pub fn has_ended() -> bool {
    HAS_ENDED.get()
}

/// Tells the page, once: what follows from the first fault says less.
fn end(fault: &str) {
    if !HAS_ENDED.replace(true) {
        post::reply(&Reply::Gone { message: words(fault) });
    }
}

/// A fault with what to do about it.
fn words(fault: &str) -> String {
    let lower = fault.to_lowercase();
    let (what, advice) = if lower.contains("out of memory") || lower.contains("outofmemory") {
        ("memory ran out", "a smaller batch_size or max_length needs less")
    } else if lower.contains("was lost") {
        ("the GPU was lost", "another program may have needed it, or its driver was restarted")
    } else {
        ("something failed", "if it happens again, compute on the CPU")
    };
    format!("{what} ({}); {advice}", fault.trim())
}
