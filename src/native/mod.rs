//! What needs an operating system: files, locks, downloads and the models' cache. Not in wasm.

mod archive;
mod atomic;
mod block_on;
mod catalog;
mod cores;
mod download;
mod files;
mod heap;
mod http;
mod hub;
mod index;
mod lock;
mod models;
mod pip_config;
mod reviews;
#[cfg(test)]
mod test_server;

pub use crate::hub::HubId;
pub use atomic::{AtomicFile, write_atomically};
pub use block_on::block_on;
pub use catalog::{CachedFile, ModelEntry, list_models, model_info};
pub use cores::share_this_thread;
pub use files::FileStore;
pub use heap::keep_freed_memory;
pub use hub::{Check, Hub};
pub use lock::FolderLock;
pub use models::{ALIASES, Alias, folder_store, local_model, resolve_model};
pub use reviews::{MovieReviews, Review, movie_reviews};

use crate::hub::hex;
use crate::protocol::Event;
use crate::store::human_bytes;
use crate::{Error, Result};
use std::path::PathBuf;

/// Where long work tells its progress. It is called on the thread that does the work.
pub type Events<'a> = &'a mut dyn FnMut(Event);

/// Folder of everything fetched: `ATTUNE_CACHE`, else `attune` in the platform's cache folder.
///
/// # Errors
/// [`Error::Input`] where the platform names no cache folder and `ATTUNE_CACHE` is not set.
pub fn cache_dir() -> Result<PathBuf> {
    let folder = match environment("ATTUNE_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => dirs::cache_dir().map(|folder| folder.join("attune")).ok_or_else(|| {
            Error::input(
                "ATTUNE_CACHE",
                "is not set, and the system names no cache folder",
                "a folder for downloads",
            )
        })?,
    };
    std::path::absolute(&folder).map_err(|source| Error::io("find", &folder, source))
}

/// An environment variable; set to nothing is not set.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}
