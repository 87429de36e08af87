//! Whether bytes are those that were published.

use serde::{Deserialize, Serialize};

/// What the publisher says about a file's bytes, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Checksum<'a> {
    /// SHA-256 of the bytes.
    Sha256(&'a str),
    /// git's name of them; for files that fit into memory.
    GitBlob(&'a str),
}

impl Checksum<'_> {
    /// What is wrong with bytes whose checksum of the same kind is `found`; nothing where they are right.
    pub fn mismatch(&self, found: &str) -> Option<String> {
        let (kind, expected) = match self {
            Self::Sha256(expected) => ("SHA-256", expected),
            Self::GitBlob(expected) => ("git blob", expected),
        };
        (!expected.eq_ignore_ascii_case(found))
            .then(|| format!("the checksum ({kind}) is {found}; expected {expected}"))
    }
}
