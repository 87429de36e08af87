//! Files served beside the page, streamed into the store.

use crate::js;
use crate::post;
use attune::protocol::{Event, Reply, Update};
use attune::store::Store;
use attune::{Error, Result};
use wasm_bindgen::JsCast;
use web_sys::{ReadableStreamDefaultReader, Response};

/// Bytes gathered before they are written: opening a file costs more than writing to it.
const CHUNK: usize = 4 << 20;

/// Copies `url` to `key`, unless it is there. What is there is whole: it gets its name last.
///
/// # Errors
/// [`Error::Network`] where the file is not served or the connection breaks.
pub async fn fetch(store: &impl Store, url: &str, key: &str) -> Result<()> {
    if store.size(key).await?.is_some() {
        return Ok(());
    }
    let failed = |problem: String| Error::Network { url: url.into(), problem };
    let promise = post::scope().fetch_with_str(url);
    let response = wasm_bindgen_futures::JsFuture::from(promise).await;
    let response: Response = response.map_err(|error| failed(js::text(&error)))?.unchecked_into();
    if !response.ok() {
        return Err(failed(format!("status {}", response.status())));
    }
    let length = response.headers().get("content-length").ok().flatten();
    let total = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    let body = response.body().ok_or_else(|| failed("no content".into()))?;
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    let partial = format!("{key}.partial");
    store.write(&partial, &[]).await?;
    let name = key.rsplit('/').next().unwrap_or(key);
    let (mut done, mut gathered) = (0, Vec::with_capacity(CHUNK));
    loop {
        let next = wasm_bindgen_futures::JsFuture::from(reader.read()).await;
        let next: js_sys::IteratorNext = next.map_err(|error| failed(js::text(&error)))?.unchecked_into();
        if !next.done() {
            let chunk: js_sys::Uint8Array = next.value().unchecked_into();
            done += u64::from(chunk.length());
            gathered.extend(chunk.to_vec());
        }
        if gathered.len() >= CHUNK || next.done() {
            store.append(&partial, &gathered).await?;
            gathered.clear();
            let task = format!("fetching {name}");
            post::reply(&Reply::Update(Update::Event(Event::Progress { task, done, total })));
        }
        if next.done() {
            break;
        }
    }
    if total > 0 && done != total {
        return Err(failed(format!("{done} of {total} bytes came")));
    }
    store.rename(&partial, key).await
}
