//! How much the browser lets this page keep.

use crate::{js, post};
use attune::store::human_bytes;
use attune::{Error, Result};
use std::io::ErrorKind;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

/// Refuses what will not fit, before a byte of it is written. A browser that does not tell is asked no further.
///
/// # Errors
/// [`Error::Io`] with what is needed, what is left and what to do; `name` is what would be stored.
pub async fn check(name: &str, n_bytes: u64) -> Result<()> {
    let Ok(promise) = post::scope().navigator().storage().estimate() else { return Ok(()) };
    let Ok(estimate) = JsFuture::from(promise).await else { return Ok(()) };
    let number = |name: &str| {
        js_sys::Reflect::get(&estimate, &JsValue::from(name)).ok().and_then(|value| value.as_f64())
    };
    let (Some(quota), Some(usage)) = (number("quota"), number("usage")) else { return Ok(()) };
    let left = (quota - usage).max(0.0) as u64;
    if left >= n_bytes {
        return Ok(());
    }
    let problem = format!(
        "{} are needed, and the browser lets this page keep {} more; {}",
        human_bytes(n_bytes),
        human_bytes(left),
        js::WHEN_FULL
    );
    Err(Error::io("store", name, std::io::Error::new(ErrorKind::StorageFull, problem)))
}
