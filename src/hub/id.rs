//! The names of the hub's models.

use crate::store::check_key;
use crate::{Error, Result};

const DEFAULT_REVISION: &str = "main";

/// `owner/name[@revision][:file.gguf]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// User or organisation.
    pub owner: String,
    /// Repository.
    pub name: String,
    /// Branch, tag or commit; `main` unless given.
    pub revision: String,
    /// One GGUF file of the repository, instead of its safetensors.
    pub gguf: Option<String>,
}

impl HubId {
    /// Reads a model's name; `None` where it has not the form of a repository of the hub.
    ///
    /// # Errors
    /// [`Error::Input`] where owner and name have that form and what follows has not.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let (head, gguf) = text.split_once(':').map_or((text, None), |(head, file)| (head, Some(file)));
        let (id, revision) =
            head.split_once('@').map_or((head, DEFAULT_REVISION), |(id, revision)| (id, revision));
        let Some((owner, name)) = id.split_once('/') else { return Ok(None) };
        // A path to a file that is not there, rather than a repository.
        if ![owner, name].into_iter().all(is_repository_word) || name.to_lowercase().ends_with(".gguf") {
            return Ok(None);
        }
        let is_plain = |char: char| char.is_ascii_alphanumeric() || "._-/+".contains(char);
        if check_key(revision).is_err() || !revision.chars().all(is_plain) || revision.contains("..") {
            return Err(Error::input(
                format!("model {text:?}"),
                format!("revision {revision:?}"),
                "a branch, tag or commit",
            ));
        }
        if let Some(file) = gguf
            && (check_key(file).is_err() || !file.to_lowercase().ends_with(".gguf"))
        {
            return Err(Error::input(
                format!("model {text:?}"),
                format!("file {file:?}"),
                "a .gguf file of the repository",
            ));
        }
        let owned = |text: &str| text.to_owned();
        Ok(Some(Self {
            owner: owned(owner),
            name: owned(name),
            revision: owned(revision),
            gguf: gguf.map(owned),
        }))
    }
}

impl std::fmt::Display for HubId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if self.revision != DEFAULT_REVISION {
            write!(f, "@{}", self.revision)?;
        }
        self.gguf.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

/// The hub's own rule: letters, digits, `-`, `_` and `.`, without `--` or `..`, not at an end.
fn is_repository_word(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 96
        && word.chars().all(|char| char.is_ascii_alphanumeric() || "._-".contains(char))
        && !word.contains("--")
        && !word.contains("..")
        && !word.starts_with(['.', '-'])
        && !word.ends_with(['.', '-'])
}
