//! The worker's parts where they run: in a dedicated worker of a headless Chromium, on the fixtures and the pinned
//! numbers that the native tests have. `cargo xtask test --only wasm` runs them.

#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used)] // a test may fail

#[path = "in_browser/curves.rs"]
mod curves;
#[path = "in_browser/runs.rs"]
mod runs;
#[path = "in_browser/store.rs"]
mod store;
#[path = "in_browser/text.rs"]
mod text;

// Private files can be written in a dedicated worker only.
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

use attune::store::memory::MemoryStore;

/// A file of `tests/fixtures`.
macro_rules! fixture {
    ($path:literal) => {
        &include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/", $path))[..]
    };
}
pub(crate) use fixture;

/// The tiny Llama with its tokenizer, as the files of a folder.
pub fn tiny_llama() -> [(&'static str, &'static [u8]); 6] {
    [
        ("config.json", fixture!("models/llama/config.json")),
        ("generation_config.json", fixture!("models/llama/generation_config.json")),
        ("model.safetensors", fixture!("models/llama/model.safetensors")),
        ("tokenizer.json", fixture!("tokenizer/tokenizer.json")),
        ("tokenizer_config.json", fixture!("tokenizer/tokenizer_config.json")),
        ("chat_template.jinja", fixture!("tokenizer/chat_template.jinja")),
    ]
}

/// Files as a store.
pub fn in_memory(files: &[(&str, &[u8])]) -> MemoryStore {
    files.iter().fold(MemoryStore::new(), |store, (key, bytes)| store.with(*key, *bytes))
}
