//! How much the browser keeps for this page, and whether it promises to.

use js_sys::{Function, Promise, Reflect};
use leptos::prelude::*;
use std::cell::Cell;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

thread_local! {
    /// Whether the promise was asked for in this visit.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// What the browser says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// Bytes kept.
    pub used: u64,
    /// Bytes that may still come.
    pub left: u64,
    /// Whether what is kept stays until the user deletes it.
    pub is_promised: bool,
}

/// Looks again; with `ask`, asks for the promise first, once a visit: some browsers put it to the user.
pub fn look(room: RwSignal<Option<Room>>, ask: bool) {
    leptos::task::spawn_local(async move {
        if ask && !ASKED.replace(true) {
            _ = call("persist").await;
        }
        let is_promised = call("persisted").await.is_some_and(|value| value.is_truthy());
        let Some(estimate) = call("estimate").await else { return };
        let number = |name: &str| Reflect::get(&estimate, &name.into()).ok().and_then(|value| value.as_f64());
        if let (Some(used), Some(quota)) = (number("usage"), number("quota")) {
            room.set(Some(Room { used: used as u64, left: (quota - used).max(0.0) as u64, is_promised }));
        }
    });
}

/// `navigator.storage.NAME()`; nothing where a browser lacks it or refuses.
async fn call(name: &str) -> Option<JsValue> {
    let storage = Reflect::get(&window().navigator(), &"storage".into()).ok()?;
    let method: Function = Reflect::get(&storage, &name.into()).ok()?.dyn_into().ok()?;
    let promise: Promise = method.call0(&storage).ok()?.dyn_into().ok()?;
    JsFuture::from(promise).await.ok()
}
