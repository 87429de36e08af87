//! Zip archives in a store (PKWARE's APPNOTE 6.3.10): written without compression, read with care.

mod read;
mod write;

pub use read::{Member, extract, members};
pub use write::write;

/// Stands where 32 bits cannot tell a number; the number itself is in the member's zip64 field.
const IN_ZIP64: u32 = u32::MAX;
/// Bytes that are in memory at a time.
const CHUNK: u64 = 4 << 20;
/// Kind of the extra field that holds 64-bit numbers.
const ZIP64_FIELD: u16 = 1;

const LOCAL: &[u8; 4] = b"PK\x03\x04";
const CENTRAL: &[u8; 4] = b"PK\x01\x02";
const END: &[u8; 4] = b"PK\x05\x06";
const END_ZIP64: &[u8; 4] = b"PK\x06\x06";
const LOCATOR_ZIP64: &[u8; 4] = b"PK\x06\x07";

#[cfg(test)]
mod tests;
