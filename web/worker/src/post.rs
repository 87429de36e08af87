//! Messages to the page.

use attune::protocol::Reply;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::DedicatedWorkerGlobalScope;

/// The worker's global object.
pub fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Tells the page.
pub fn reply(reply: &Reply) {
    send(reply, &[]);
}

/// Tells the page and hands it files.
pub fn send(reply: &Reply, files: &[JsValue]) {
    let json = match serde_json::to_string(reply) {
        Ok(json) => json,
        // Only a number that JSON cannot write gets here.
        Err(error) => format!(r#"{{"reply":"failed","message":"internal error: {error}","is_stop":false}}"#),
    };
    let message = js_sys::Array::of1(&json.into());
    files.iter().for_each(|file| _ = message.push(file));
    // A string and file handles can always be cloned.
    _ = scope().post_message(&message);
}
