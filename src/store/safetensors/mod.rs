//! The safetensors format: a JSON header with name, type, shape and byte range of each tensor, then
//! the bytes.
//!
//! What is refused is what the reference implementation refuses (safetensors 0.8, `src/tensor.rs`:
//! header over 100 MB, ranges that overlap, leave gaps or do not end with the file, shapes that do
//! not fit their ranges), and besides duplicate or empty names and more than 64 dimensions. All of it
//! is checked against the file's size before anything is allocated for tensors.

mod header;
mod write;

pub use super::Entry;
pub use header::{Header, read_header};
pub use write::{pytorch_metadata, to_bytes, write_streaming};

use super::HostTensor;
use crate::Result;
use indexmap::IndexMap;

/// All tensors, as f32, and the metadata of a file in memory; `place` names it in messages.
pub fn from_bytes(
    bytes: &[u8],
    place: &str,
) -> Result<(IndexMap<String, HostTensor>, IndexMap<String, String>)> {
    let size = bytes.len() as u64;
    let json = header::header_range(bytes.get(..8).unwrap_or(bytes), size, place)?;
    let Header { tensors, metadata } = header::parse(within(bytes, &json), size, place)?;
    let decode = |(name, entry): (String, Entry)| {
        let tensor = entry.info.decode(within(bytes, &entry.bytes), place, &name)?;
        Ok((name, tensor))
    };
    Ok((tensors.into_iter().map(decode).collect::<Result<_>>()?, metadata))
}

/// The bytes of a range, or none where it is not within.
fn within<'a>(bytes: &'a [u8], range: &std::ops::Range<u64>) -> &'a [u8] {
    let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
    bounds.and_then(|(start, end)| bytes.get(start..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
