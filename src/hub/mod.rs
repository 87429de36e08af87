//! The Hugging Face Hub's interface without its transport: how models are called, where their files lie, which of
//! them a model needs, and whether bytes are those that were published. `native` and a page's worker carry the bytes.

mod git_blob;
mod id;
mod kept;
mod listing;
mod refusal;
mod search;
mod verify;

pub use git_blob::git_blob_id;
pub use id::HubId;
pub use kept::Kept;
pub use listing::{Listing, RemoteFile, is_commit, percent_encoded};
pub use refusal::{Advice, Refusal, content_range, explanation, refusal, without_secrets};
pub use search::{found, search_url};
pub use verify::Checksum;

/// Where the hub is, unless something else is said.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Longest description of a repository, longest shard index, and longest list of search results, in bytes.
pub const DESCRIPTION_LIMIT: u64 = 64 << 20;

/// Lower-case hexadecimal digits of a digest.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_keep_leading_zeros() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
