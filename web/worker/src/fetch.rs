//! Files served beside the page, copied into the store.

use crate::get::Get;
use crate::opfs::Opfs;
use crate::transfer::{Transfer, transfer};
use crate::work;
use attune::Result;
use attune::hub::Advice;
use attune::store::Store;

const ADVICE: Advice = Advice {
    when_denied: "a page that serves its samples to everybody",
    when_missing: "a sample that is served beside the page",
};

/// Copies `url` to `key`, unless it is there. What is there is whole: it gets its name last.
///
/// # Errors
/// The file is not served, the connection breaks, the store is full.
pub async fn fetch(store: &Opfs, url: &str, key: &str) -> Result<()> {
    if store.size(key).await?.is_some() {
        return Ok(());
    }
    let name = key.rsplit('/').next().unwrap_or(key);
    let get = Get { url, token: None, advice: ADVICE, signal: work::stop_signal() };
    let outcome = transfer(store, &Transfer { get, key, name, size: None, checksum: None }).await;
    if outcome.is_err() {
        // Without a checksum nothing goes on from a part.
        store.remove(&format!("{key}.partial")).await?;
    }
    outcome
}
