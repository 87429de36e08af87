//! Models of the hub as a page asks for them and sees them.

use serde::{Deserialize, Serialize};

/// Which hub, and as whom.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubAccess {
    /// Address without a slash at its end.
    pub endpoint: String,
    /// Sent to the endpoint alone.
    pub token: Option<String>,
}

impl std::fmt::Debug for HubAccess {
    /// The token is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HubAccess({})", self.endpoint)
    }
}

/// A model that a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundModel {
    /// `owner/name`
    pub id: String,
    /// Downloads in the last month.
    pub downloads: u64,
    /// Who likes it.
    pub likes: u64,
    /// As the model card states it.
    pub license: Option<String>,
    /// Parameters in all, where the hub knows.
    pub n_params: Option<u64>,
    /// Whether it is GGUF files, one of which has to be chosen.
    pub is_gguf: bool,
    /// Whether its licence has to be accepted first, and a token given.
    pub is_gated: bool,
}
