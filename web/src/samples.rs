//! What the server offers beside the page; a host that offers nothing is fine too.

use leptos::prelude::*;
use serde::Deserialize;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;

/// The server's list.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Samples {
    pub models: Vec<Sample>,
    pub data: Vec<Sample>,
}

/// A file that can be fetched.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Sample {
    /// File name under `samples/`.
    pub file: String,
    /// What run files call it.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// One sentence.
    pub about: String,
    pub n_bytes: u64,
}

/// Asks once; an answer that is no list counts as an empty one.
pub fn list() -> RwSignal<Samples> {
    let samples = RwSignal::new(Samples::default());
    leptos::task::spawn_local(async move {
        if let Some(found) = fetch().await {
            samples.set(found);
        }
    });
    samples
}

async fn fetch() -> Option<Samples> {
    let response = JsFuture::from(window().fetch_with_str("./samples/index.json")).await.ok()?;
    let response: web_sys::Response = response.unchecked_into();
    if !response.ok() {
        return None;
    }
    let text = JsFuture::from(response.text().ok()?).await.ok()?.as_string()?;
    serde_json::from_str(&text).ok()
}
