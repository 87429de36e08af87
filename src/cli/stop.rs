//! Ctrl-C and termination: the first asks the work at hand to end early, the second ends the program.

use attune::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Whether there is work that could end early.
static AT_WORK: AtomicBool = AtomicBool::new(true);

/// What a shell reports for a program ended by Ctrl-C: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Takes over Ctrl-C, and SIGTERM and SIGHUP where they exist. `message` says what the first one does.
pub fn listen(message: &'static str) -> Result<()> {
    ctrlc::set_handler(move || {
        if !AT_WORK.load(Ordering::SeqCst) || REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED);
        }
        eprintln!("\n{message}; once more to quit at once");
    })
    .map_err(|error| Error::Internal(format!("signal handler: {error}")))
}

/// Whether the user asked to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Waits for the user: from here on Ctrl-C ends the program.
pub fn rest() {
    AT_WORK.store(false, Ordering::SeqCst);
}

/// Goes back to work, which Ctrl-C only ends early.
pub fn work() {
    REQUESTED.store(false, Ordering::SeqCst);
    AT_WORK.store(true, Ordering::SeqCst);
}
