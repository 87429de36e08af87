//! How a store without folders of its own kind, such as a browser's, keeps models of the hub.

use super::{HubId, RemoteFile, percent_encoded};
use serde::{Deserialize, Serialize};

/// What stands beside a fetched model: where it is from. Written last, so that a broken fetch is never taken for
/// a model; until then the same stands in the mark of a fetch under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name on the hub.
    pub id: String,
    /// The commit that was fetched.
    pub commit: String,
    /// The licence that the model card states.
    pub license: Option<String>,
    /// Its files.
    pub files: Vec<RemoteFile>,
}

impl Kept {
    /// Ending of the note beside a fetched model.
    pub const NOTE: &str = ".attune.json";
    /// Ending of the mark of a fetch under way.
    pub const MARK: &str = ".attune.partial";

    /// The key of a model's note or mark: within a folder, beside a GGUF file.
    pub fn key(model: &str, ending: &str) -> String {
        let is_file = model.to_ascii_lowercase().ends_with(".gguf");
        if is_file { format!("{model}{ending}") } else { format!("{model}/{ending}") }
    }

    /// Reads a note or a mark; what is none is as if it were not there.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl HubId {
    /// Name of the folder or GGUF file that keeps this model: one for each repository, revision and file.
    pub fn kept_as(&self) -> String {
        let plain = Self { gguf: None, ..self.clone() }.to_string();
        let (repository, revision) = plain.split_once('@').map_or((&*plain, ""), |(id, rest)| (id, rest));
        let mut name = repository.replace('/', "--");
        if !revision.is_empty() {
            name = format!("{name}@{}", percent_encoded(revision, ""));
        }
        self.gguf.iter().fold(name, |name, file| format!("{name}--{}", percent_encoded(file, "")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::check_key;

    #[test]
    fn names_differ_where_models_do_and_stay_in_their_folder() {
        let name = |id: &str| HubId::parse(id).unwrap().unwrap().kept_as();
        assert_eq!(name("o/n"), "o--n");
        assert_eq!(name("o/n@refs/pr/1"), "o--n@refs%2Fpr%2F1");
        assert_eq!(name("o/n:a/b.Q4.gguf"), "o--n--a%2Fb.Q4.gguf");
        for id in ["o/n", "o/n@refs/pr/1", "o/n@v1:a/b c.gguf"] {
            check_key(&name(id)).unwrap();
            assert!(!name(id).contains('/'), "{id}");
        }
        assert_eq!(Kept::key("models/o--n", Kept::NOTE), "models/o--n/.attune.json");
        assert_eq!(Kept::key("models/x.gguf", Kept::MARK), "models/x.gguf.attune.partial");
    }
}
