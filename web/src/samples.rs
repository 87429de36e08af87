//! What the server offers beside the page; a host that offers nothing is fine too.

use crate::served;
use leptos::prelude::*;
use serde::Deserialize;

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
        if let Some(found) = served::json("./samples/index.json").await {
            samples.set(found);
        }
    });
    samples
}
