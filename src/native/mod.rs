//! What needs an operating system: files, locks, downloads and the models' cache. Not in wasm.

mod archive;
mod atomic;
mod block_on;
mod catalog;
mod download;
mod files;
mod git_blob;
mod http;
mod hub;
mod index;
mod lock;
mod models;
mod pip_config;
mod reviews;
#[cfg(test)]
mod test_server;

pub use atomic::{AtomicFile, write_atomically};
pub use block_on::block_on;
pub use catalog::{CachedFile, ModelEntry, list_models, model_info};
pub use files::FileStore;
pub use hub::{Check, Hub, HubId};
pub use lock::FolderLock;
pub use models::{ALIASES, Alias, folder_store, local_model, resolve_model};
pub use reviews::{MovieReviews, Review, movie_reviews};

use crate::protocol::Event;
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

/// A size as people write it: "98.4 MB".
fn human_bytes(n_bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n_bytes as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n_bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Lower-case hexadecimal digits of a digest.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let sizes = [0, 999, 1000, 98_362_432, 999_960_000, 5_000_000_000_000_000];
        assert_eq!(
            sizes.map(human_bytes),
            ["0 B", "999 B", "1.0 kB", "98.4 MB", "1.0 GB", "5000.0 TB"].map(str::to_owned)
        );
    }

    #[test]
    fn digests_keep_leading_zeros() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
