//! Bytes in and out: where they lie ([`Store`]), and the formats they are in.

mod entry;
pub mod folder;
pub mod gguf;
pub mod gguf_model;
mod hf_folder;
mod key;
pub mod memory;
pub mod model_files;
mod packed;
pub mod quants;
pub mod safetensors;
pub mod tokenizer_files;
pub mod zip;

pub use entry::Entry;
pub use key::{check_key, human_bytes};
pub use packed::{Form, HostPacked};

use crate::Result;
pub(crate) use entry::shortened;
use entry::tensor_place;
pub use hf_folder::join;
use std::ops::Range;

/// Bytes by key. Keys are relative paths with forward slashes.
///
/// Implementations: the file system (`native`), memory, and the browser's private file system.
/// Asynchronous because the browser's is; native implementations return at once.
#[allow(async_fn_in_trait)]
pub trait Store {
    /// Size in bytes, or `None` where there is no such key.
    async fn size(&self, key: &str) -> Result<Option<u64>>;
    /// The bytes of `range`; a range past the end is an error.
    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>>;
    /// Replaces the whole value at once: a reader, or a crash, sees the old bytes or the new, never a mixture.
    async fn write(&self, key: &str, bytes: &[u8]) -> Result<()>;
    /// Appends to the value, creating it; for downloads and logs.
    async fn append(&self, key: &str, bytes: &[u8]) -> Result<()>;
    /// Gives `from`'s bytes the name `to`, replacing what was there, at once.
    async fn rename(&self, from: &str, to: &str) -> Result<()>;
    /// Keys that begin with `prefix`, sorted.
    async fn list(&self, prefix: &str) -> Result<Vec<String>>;
    /// Removes a key; no error where there is none.
    async fn remove(&self, key: &str) -> Result<()>;

    /// The whole value, refused when it is larger than `limit` bytes.
    async fn read_all(&self, key: &str, limit: u64) -> Result<Vec<u8>> {
        let size = self
            .size(key)
            .await?
            .ok_or_else(|| crate::Error::input(key, "no such file", "an existing file"))?;
        if size > limit {
            return Err(crate::Error::input(key, format!("{size} bytes"), format!("at most {limit} bytes")));
        }
        self.read(key, 0..size).await
    }
}

/// Element types as stored. Quantised kinds are dequantised on load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the formats' own
pub enum StoredType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// What a file says about one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Dimensions, slowest first (row-major), as PyTorch has them.
    pub shape: Vec<usize>,
    /// Element type in the file.
    pub stored: StoredType,
    /// Bytes it takes in the file.
    pub n_bytes: u64,
}

/// A tensor in host memory, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Values as f32, whatever they were stored as.
    pub values: Vec<f32>,
}
