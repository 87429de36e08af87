//! Files that the user chose or dropped, copied into the store: a later visit finds them there.

use crate::opfs::read_blob;
use crate::post;
use attune::Result;
use attune::protocol::{Event, Reply, Update};
use attune::store::Store;
use web_sys::File;

/// Bytes that are in memory at a time.
const CHUNK: u64 = 4 << 20;

/// Copies `files` to `folder/NAME`, in place of what was there.
///
/// # Errors
/// A file that changed or vanished since it was chosen; a store that is full. What was there is then still there.
pub async fn import(store: &impl Store, folder: &str, files: &[File]) -> Result<()> {
    let total = files.iter().map(|file| file.size() as u64).sum();
    let mut done = 0;
    for file in files {
        let name = file.name();
        let key = format!("{folder}/{name}");
        let partial = format!("{key}.partial");
        store.write(&partial, &[]).await?;
        let n_bytes = file.size() as u64;
        let mut at = 0;
        while at < n_bytes {
            let end = n_bytes.min(at + CHUNK);
            let copied = match read_blob(file.as_ref(), &name, at..end).await {
                Ok(bytes) => store.append(&partial, &bytes).await,
                Err(error) => Err(error),
            };
            if let Err(error) = copied {
                store.remove(&partial).await?;
                return Err(error);
            }
            (done, at) = (done + end - at, end);
            let task = format!("copying {name}");
            post::reply(&Reply::Update(Update::Event(Event::Progress { task, done, total })));
        }
        store.rename(&partial, &key).await?;
    }
    Ok(())
}
