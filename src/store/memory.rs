//! A [`Store`] in memory: for tests, and for files handed over as bytes in a browser.

use super::Store;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values by key, in memory. Every operation completes at once.
#[derive(Debug, Default)]
pub struct MemoryStore {
    values: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The store with `bytes` under `key` as well.
    pub fn with(self, key: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.values().insert(key.into(), bytes.into());
        self
    }

    fn values(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        // No operation leaves the map half changed, so a panic elsewhere does not spoil it.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(key: &str) -> Error {
    Error::input(key, "no such file", "an existing file")
}

impl Store for MemoryStore {
    async fn size(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.values().get(key).map(|bytes| bytes.len() as u64))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let values = self.values();
        let bytes = values.get(key).ok_or_else(|| missing(key))?;
        let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        bounds.and_then(|(start, end)| bytes.get(start..end)).map(<[u8]>::to_vec).ok_or_else(|| {
            let problem = format!("bytes {}..{} asked for", range.start, range.end);
            Error::input(key, problem, format!("a range within its {} bytes", bytes.len()))
        })
    }

    async fn write(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.values().insert(key.to_owned(), bytes.to_vec());
        Ok(())
    }

    async fn append(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.values().entry(key.to_owned()).or_default().extend_from_slice(bytes);
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut values = self.values();
        let bytes = values.remove(from).ok_or_else(|| missing(from))?;
        values.insert(to.to_owned(), bytes);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.values().keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.values().remove(key);
        Ok(())
    }
}

/// Runs a future that never waits, such as one over a [`MemoryStore`], to its end in one poll.
#[cfg(test)]
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    use std::task::{Context, Poll, Waker};
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future waited"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keeps_appends_renames_and_removes() {
        ready(async {
            let store = MemoryStore::new().with("a/x", *b"12").with("b", *b"");
            store.append("a/x", b"345").await.unwrap();
            assert_eq!(store.read("a/x", 1..4).await.unwrap(), b"234");
            assert_eq!(store.read_all("a/x", 5).await.unwrap(), b"12345");
            assert_eq!(store.list("a/").await.unwrap(), ["a/x"]);
            store.rename("a/x", "b").await.unwrap();
            assert_eq!((store.size("a/x").await.unwrap(), store.size("b").await.unwrap()), (None, Some(5)));
            store.remove("b").await.unwrap();
            assert_eq!(store.size("b").await.unwrap(), None);
        });
    }

    #[test]
    fn refuses_ranges_past_the_end_and_values_over_the_limit() {
        ready(async {
            let store = MemoryStore::new().with("x", *b"123");
            let range = store.read("x", 2..u64::MAX).await.unwrap_err().to_string();
            assert!(range.contains("x: bytes 2..18446744073709551615"), "{range}");
            assert!(store.read("y", 0..0).await.is_err());
            assert!(store.read_all("x", 2).await.is_err());
        });
    }
}
