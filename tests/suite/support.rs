//! What several modules of the suite use.

#![allow(clippy::unwrap_used)] // a test may fail

use attune::store::memory::MemoryStore;
use attune::store::{HostTensor, safetensors};
use burn::tensor::Device;
use indexmap::IndexMap;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, Waker};

/// Runs a future that never waits, such as one over a memory store, to its end in one poll.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future waited"),
    }
}

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

pub fn golden(path: &str) -> IndexMap<String, HostTensor> {
    safetensors::from_bytes(&std::fs::read(fixtures().join(path)).unwrap(), path).unwrap().0
}

/// A JSON file among the fixtures.
pub fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join(path)).unwrap()).unwrap()
}

/// The device under test.
pub fn device() -> Device {
    attune::device::open(&device_name()).unwrap()
}

/// Name of the device under test: `ATTUNE_TEST_DEVICE`, else the CPU.
pub fn device_name() -> String {
    std::env::var("ATTUNE_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}
