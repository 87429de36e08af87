//! What several modules of the suite use.

#![allow(clippy::unwrap_used)] // a test may fail

use attune::store::memory::MemoryStore;
use attune::store::{HostTensor, safetensors};
use indexmap::IndexMap;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, Waker};

/// Runs a future that never waits, such as one over a memory store, to its end in one poll.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future waited"),
    }
}

/// Where the fixtures lie.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Every file of a folder of fixtures, under its own name.
pub fn folder(name: &str) -> MemoryStore {
    let entries = std::fs::read_dir(fixtures().join(name)).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).fold(
        MemoryStore::new(),
        |store, path| {
            let key = path.file_name().unwrap().to_str().unwrap().to_owned();
            store.with(key, std::fs::read(path).unwrap())
        },
    )
}

/// The tensors of a fixture.
pub fn golden(path: &str) -> IndexMap<String, HostTensor> {
    safetensors::from_bytes(&std::fs::read(fixtures().join(path)).unwrap(), path).unwrap().0
}
