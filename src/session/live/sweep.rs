//! What a page that was closed in the middle of something left in the store, and nothing leads to any more.

use super::stored::{RUNS, SOURCES_KEY, Sources, folders};
use crate::Result;
use crate::session::RUN_FILE;
use crate::store::folder::Folder;
use crate::store::{Store, join};

/// Folder of all rows. What a page takes in lies in a folder named after the moment.
const DATA: &str = "data";

/// Removes halves of data files, folders of runs that never began, and rows that no run learned from. Halves of models
/// stay: they are gone on with. For a time when nothing is open.
///
/// # Errors
/// What the store reports.
pub async fn sweep(store: &impl Store) -> Result<()> {
    let mut sources = Vec::new();
    let mut is_known = true;
    for (out, keys) in folders(store, RUNS).await? {
        if !keys.contains(&join(&out, RUN_FILE)) {
            for key in keys {
                store.remove(&key).await?;
            }
        } else if keys.contains(&join(&out, SOURCES_KEY)) {
            let read = Sources::read(&Folder::new(store, out)).await;
            is_known &= read.is_some();
            sources.extend(read.map(|sources| sources.data));
        }
    }
    for (folder, keys) in folders(store, DATA).await? {
        let is_of_a_moment = folder.rsplit('/').next().is_some_and(|name| name.parse::<u64>().is_ok());
        for key in keys {
            // Where a run does not say what it learned from, it may be this.
            let is_unused = is_known && is_of_a_moment && !sources.contains(&key);
            if is_unused || key.ends_with(".partial") {
                store.remove(&key).await?;
            }
        }
    }
    Ok(())
}
