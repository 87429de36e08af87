//! A panic is a fault of attune: one line like every other error, and exit code 1.

use attune::{Error, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// Where the last panic happened.
static PLACE: Mutex<Option<String>> = Mutex::new(None);

/// Panics are not printed where they happen: a library's may be caught and told in better words.
pub fn install_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }));
}

/// Does `work`; its panic becomes [`Error::Internal`].
pub fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
    // Nothing that the panic may have left half done is used after it.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner).take();
        let at = place.map_or(String::new(), |place| format!(" at {place}"));
        Err(Error::Internal(format!("{}{at}; this is worth a report", message(&*payload))))
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_internal_error_with_exit_code_1() {
        let error = caught(|| panic!("the sum of {} and {}", 1, 2)).unwrap_err();
        assert!(error.to_string().starts_with("internal error: the sum of 1 and 2"), "{error}");
        assert_eq!(error.exit_code(), 1);
        assert!(caught(|| Ok(())).is_ok());
    }
}
