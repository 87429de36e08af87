//! Files that the user chose or dropped, copied into the store: a later visit finds them there.

use crate::opfs::{Opfs, read_blob};
use crate::{post, room};
use attune::protocol::{Event, Reply, Update};
use attune::store::Store;
use attune::{Error, Result};
use web_sys::File;

/// Bytes that are in memory at a time.
const CHUNK: u64 = 4 << 20;

/// Copies `files` to `folder/NAME`, in place of what was there.
///
/// # Errors
/// A file that changed or vanished since it was chosen; a store that is full. What was there is then still there.
pub async fn import(store: &Opfs, folder: &str, files: &[File]) -> Result<()> {
    let total = files.iter().map(|file| file.size() as u64).sum();
    let mut done = 0;
    let names: Vec<String> = files.iter().map(File::name).collect();
    room::check(&names.join(", "), total).await?;
    for (file, name) in files.iter().zip(names) {
        let key = format!("{folder}/{name}");
        let partial = format!("{key}.partial");
        if let Err(error) = copy(store, file, &name, &partial, &mut done, total).await {
            store.remove(&partial).await?;
            return Err(match error {
                Error::Io { action, source, .. } => Error::io(action, &name, source),
                other => other,
            });
        }
        store.rename(&partial, &key).await?;
    }
    Ok(())
}

async fn copy(store: &Opfs, file: &File, name: &str, to: &str, done: &mut u64, total: u64) -> Result<()> {
    store.write(to, &[]).await?;
    let n_bytes = file.size() as u64;
    let mut at = 0;
    while at < n_bytes {
        let end = n_bytes.min(at + CHUNK);
        store.append(to, &read_blob(file.as_ref(), name, at..end).await?).await?;
        (*done, at) = (*done + end - at, end);
        let task = format!("copying {name}");
        post::reply(&Reply::Update(Update::Event(Event::Progress { task, done: *done, total })));
    }
    Ok(())
}
