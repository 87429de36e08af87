//! The browser's errors and promises as the core's.

use attune::{Error, Result};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// A failed browser call on the file `path`.
pub fn io(action: &'static str, path: &str, error: &JsValue) -> Error {
    Error::io(action, path, std::io::Error::other(text(error)))
}

/// What to do where the browser keeps no more.
pub const WHEN_FULL: &str = "delete models or runs that are kept here, or free disk space";

/// Waits for so many milliseconds.
pub async fn sleep(millis: i32) {
    let promise = js_sys::Promise::new(&mut |done, _| {
        // Without a timer there is no pause.
        if crate::post::scope().set_timeout_with_callback_and_timeout_and_arguments_0(&done, millis).is_err()
        {
            _ = done.call0(&JsValue::NULL);
        }
    });
    _ = JsFuture::from(promise).await;
}

/// What a person can read of an error.
pub fn text(error: &JsValue) -> String {
    let named = error.dyn_ref::<web_sys::DomException>().map(|error| (error.name(), error.message()));
    match named {
        Some((name, _)) if name == "QuotaExceededError" => {
            format!("the browser's storage for this page is full; {WHEN_FULL}")
        }
        Some((_, message)) => message,
        None => match error.dyn_ref::<js_sys::Error>() {
            Some(error) => error.message().into(),
            None => error.as_string().unwrap_or_else(|| format!("{error:?}")),
        },
    }
}

/// Waits for a promise whose value is a `T`.
pub async fn wait<T: JsCast>(promise: js_sys::Promise, action: &'static str, path: &str) -> Result<T> {
    let value = JsFuture::from(promise).await.map_err(|error| io(action, path, &error))?;
    Ok(value.unchecked_into())
}

/// A text that `worker.js` left in the worker's global object.
pub fn global(name: &str) -> Option<String> {
    js_sys::Reflect::get(&js_sys::global(), &name.into()).ok()?.as_string()
}
