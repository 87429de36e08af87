//! A folder of a store, seen as a store.

use super::{Store, join};
use crate::Result;
use std::ops::Range;

/// What stands under `folder/` in another store, by the keys behind it.
#[derive(Clone, Debug)]
pub struct Folder<'s, S> {
    store: &'s S,
    folder: String,
}

impl<'s, S> Folder<'s, S> {
    /// The folder `folder` of `store`; it need not exist.
    pub fn new(store: &'s S, folder: impl Into<String>) -> Self {
        Self { store, folder: folder.into() }
    }
}

impl<S: Store> Store for Folder<'_, S> {
    async fn size(&self, key: &str) -> Result<Option<u64>> {
        self.store.size(&join(&self.folder, key)).await
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.store.read(&join(&self.folder, key), range).await
    }

    async fn write(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.store.write(&join(&self.folder, key), bytes).await
    }

    async fn append(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.store.append(&join(&self.folder, key), bytes).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.store.rename(&join(&self.folder, from), &join(&self.folder, to)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let root = join(&self.folder, "");
        let keys = self.store.list(&format!("{root}{prefix}")).await?;
        Ok(keys.into_iter().filter_map(|key| key.strip_prefix(&root).map(str::to_string)).collect())
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.store.remove(&join(&self.folder, key)).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::memory::{MemoryStore, ready};

    #[test]
    fn sees_and_touches_nothing_beside_itself() {
        ready(async {
            let store = MemoryStore::new().with("runs/1/a", *b"1").with("runs/10/a", *b"2").with("a", *b"3");
            let folder = Folder::new(&store, "runs/1");
            folder.append("a", b"1").await.unwrap();
            folder.write("b/c", b"").await.unwrap();
            assert_eq!(folder.read("a", 0..2).await.unwrap(), b"11");
            assert_eq!(folder.list("").await.unwrap(), ["a", "b/c"]);
            assert_eq!(folder.list("b/").await.unwrap(), ["b/c"]);
            folder.rename("b/c", "a").await.unwrap();
            folder.remove("nothing").await.unwrap();
            assert_eq!(store.list("").await.unwrap(), ["a", "runs/1/a", "runs/10/a"]);
            assert_eq!(store.read("a", 0..1).await.unwrap(), b"3");
        });
    }
}
