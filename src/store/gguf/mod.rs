//! The GGUF format, versions 2 and 3: metadata, then name, shape, type and offset of each tensor,
//! then their bytes.
//!
//! Layout: `docs/gguf.md` of ggml. What is refused is what ggml's reader refuses
//! (`ggml/src/gguf.cpp`): other versions, nested arrays, more than four dimensions, an alignment that
//! is no power of two, tensors that do not lie one after another; and lengths and counts are held
//! against the file's size before anything is allocated for them.

mod cursor;
mod header;
mod metadata;

pub use super::Entry;
pub use header::{Header, read_header};
pub use metadata::{Array, Metadata, Numbers, Scalar, Value};

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
