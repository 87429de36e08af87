//! Files that somebody handed over, readable beside a store.

use super::Store;
use crate::{Error, Result};
use std::ops::Range;

/// Keys of the files handed over begin with this.
pub const ATTACHED: &str = "attached/";

/// A store in which the keys under [`ATTACHED`] are those of another, which is only read.
#[derive(Debug)]
pub struct Overlay<F, S> {
    /// The files handed over, by the part of the key behind [`ATTACHED`].
    pub attached: F,
    /// Everything else.
    pub stored: S,
}

fn read_only(key: &str) -> Error {
    Error::input(key, "a file handed over is only read", "a key outside attached/")
}

impl<F: Store, S: Store> Store for Overlay<F, S> {
    async fn size(&self, key: &str) -> Result<Option<u64>> {
        match key.strip_prefix(ATTACHED) {
            Some(key) => self.attached.size(key).await,
            None => self.stored.size(key).await,
        }
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        match key.strip_prefix(ATTACHED) {
            Some(key) => self.attached.read(key, range).await,
            None => self.stored.read(key, range).await,
        }
    }

    async fn write(&self, key: &str, bytes: &[u8]) -> Result<()> {
        if key.starts_with(ATTACHED) { Err(read_only(key)) } else { self.stored.write(key, bytes).await }
    }

    async fn append(&self, key: &str, bytes: &[u8]) -> Result<()> {
        if key.starts_with(ATTACHED) { Err(read_only(key)) } else { self.stored.append(key, bytes).await }
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        match [from, to].into_iter().find(|key| key.starts_with(ATTACHED)) {
            Some(key) => Err(read_only(key)),
            None => self.stored.rename(from, to).await,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        if let Some(prefix) = prefix.strip_prefix(ATTACHED) {
            let keys = self.attached.list(prefix).await?;
            return Ok(keys.into_iter().map(|key| format!("{ATTACHED}{key}")).collect());
        }
        self.stored.list(prefix).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        if key.starts_with(ATTACHED) { Err(read_only(key)) } else { self.stored.remove(key).await }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::memory::{MemoryStore, ready};

    #[test]
    fn attached_files_are_read_and_never_written() {
        ready(async {
            let store = Overlay {
                attached: MemoryStore::new().with("1/rows.jsonl", *b"rows"),
                stored: MemoryStore::new().with("1/rows.jsonl", *b"mine"),
            };
            assert_eq!(store.read("attached/1/rows.jsonl", 0..4).await.unwrap(), b"rows");
            assert_eq!(store.read("1/rows.jsonl", 0..4).await.unwrap(), b"mine");
            assert_eq!(store.list("attached/").await.unwrap(), ["attached/1/rows.jsonl"]);
            let refused = [
                store.write("attached/1/rows.jsonl", b"").await,
                store.append("attached/x", b"").await,
                store.rename("1/rows.jsonl", "attached/x").await,
                store.remove("attached/1/rows.jsonl").await,
            ];
            assert!(refused.iter().all(|outcome| outcome.is_err()), "{refused:?}");
            assert_eq!(store.size("attached/1/rows.jsonl").await.unwrap(), Some(4));
        });
    }
}
