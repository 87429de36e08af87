//! What the hub says about a repository, and which of its files make a model.

use super::{Checksum, HubId};
use crate::store::check_key;
use crate::{Error, Result};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
/// What is fetched besides the weights, where it exists.
const SIDE_FILES: [&str; 8] = [
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// A revision of a repository.
#[derive(Debug)]
pub struct Listing {
    /// The commit that the revision means.
    pub commit: String,
    /// The licence that the model card states.
    pub license: Option<String>,
    files: IndexMap<String, RemoteFile>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// Path in the repository.
    pub name: String,
    /// Bytes.
    pub size: Option<u64>,
    /// SHA-256 in hexadecimal: of files outside git, which all weights are.
    pub sha256: Option<String>,
    /// git's name of the bytes, of files in git.
    pub git_blob: Option<String>,
}

impl RemoteFile {
    /// The checksum that the hub tells.
    pub fn checksum(&self) -> Option<Checksum<'_>> {
        let git_blob = || self.git_blob.as_deref().map(Checksum::GitBlob);
        self.sha256.as_deref().map(Checksum::Sha256).or_else(git_blob)
    }

    /// Where it is fetched.
    ///
    /// # Errors
    /// A name that could lead out of the folder it is stored in: it comes from the hub.
    pub fn url(&self, endpoint: &str, id: &HubId, commit: &str) -> Result<String> {
        check_key(&self.name)?;
        let name = percent_encoded(&self.name, "/");
        Ok(format!("{endpoint}/{}/{}/resolve/{commit}/{name}", id.owner, id.name))
    }
}

#[derive(Deserialize)]
struct Description {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Where a revision's description is.
    pub fn url(endpoint: &str, id: &HubId) -> String {
        let revision = percent_encoded(&id.revision, "");
        format!("{endpoint}/api/models/{}/{}/revision/{revision}?blobs=true", id.owner, id.name)
    }

    /// Reads the description.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Description { sha, siblings, tags } = serde_json::from_slice(bytes)
            .map_err(|error| format!("the answer does not describe a model: {error}"))?;
        // It becomes a folder's name.
        if !is_commit(&sha) {
            return Err(format!("{sha:?} is no commit"));
        }
        let file = |Sibling { rfilename, size, blob_id, lfs }: Sibling| {
            let file = RemoteFile {
                name: rfilename.clone(),
                size: lfs.as_ref().map(|lfs| lfs.size).or(size),
                // That of a file outside git names its pointer, not its bytes.
                git_blob: blob_id.filter(|_| lfs.is_none()),
                sha256: lfs.map(|lfs| lfs.sha256),
            };
            (rfilename, file)
        };
        let license = license_of(&tags);
        Ok(Self { commit: sha, license, files: siblings.into_iter().map(file).collect() })
    }

    /// The settings of a model that is a folder: fetched first, to be judged before anything else is.
    ///
    /// # Errors
    /// There are none; the error lists the GGUF files, which can be named.
    pub fn config(&self, id: &HubId) -> Result<&RemoteFile> {
        self.files.get(CONFIG).ok_or_else(|| self.missing(id, "no config.json", ".gguf"))
    }

    /// The index of weights in several files, which has to be read to name them.
    pub fn index(&self) -> Option<&RemoteFile> {
        self.files.get(WEIGHTS_INDEX)
    }

    /// Whether there is a folder of safetensors to load.
    pub fn is_folder(&self) -> bool {
        let has = |name| self.files.contains_key(name);
        has(CONFIG) && (has(WEIGHTS) || has(WEIGHTS_INDEX))
    }

    /// The GGUF file that `id` names.
    ///
    /// # Errors
    /// There is no such file.
    pub fn gguf(&self, id: &HubId, name: &str) -> Result<&RemoteFile> {
        self.files.get(name).ok_or_else(|| self.missing(id, &format!("no {name}"), ".gguf"))
    }

    /// GGUF files that are whole models, the smallest first: no parts of a split one, no projectors of images.
    pub fn gguf_models(&self) -> Vec<&RemoteFile> {
        let is_model = |file: &&RemoteFile| {
            let name = file.name.to_ascii_lowercase();
            name.ends_with(".gguf") && !name.contains("-of-0") && !name.contains("mmproj")
        };
        let mut files: Vec<_> = self.files.values().filter(is_model).collect();
        files.sort_by_key(|file| (file.size, &file.name));
        files
    }

    /// The files of a model that is a folder; `index` is the content of [`index`](Self::index), where there is one.
    ///
    /// # Errors
    /// Weights that are not there, or not as safetensors.
    pub fn of_folder(&self, id: &HubId, index: Option<&[u8]>) -> Result<Vec<RemoteFile>> {
        let mut chosen: Vec<&RemoteFile> =
            SIDE_FILES.iter().filter_map(|name| self.files.get(*name)).collect();
        match index.zip(self.index()) {
            Some((bytes, file)) => {
                chosen.push(file);
                for shard in shards(id, bytes)? {
                    let file = self.files.get(shard.as_str());
                    let missing = || format!("no {shard}, which its index names");
                    chosen.push(file.ok_or_else(|| self.missing(id, &missing(), ".safetensors"))?);
                }
            }
            None => {
                let weights = self.files.get(WEIGHTS);
                chosen.push(weights.ok_or_else(|| self.missing(id, &format!("no {WEIGHTS}"), ".gguf"))?);
            }
        }
        Ok(chosen.into_iter().cloned().collect())
    }

    fn missing(&self, id: &HubId, problem: &str, suffix: &str) -> Error {
        let mut others: Vec<_> =
            self.files.keys().filter(|name| name.ends_with(suffix)).map(String::as_str).collect();
        others.sort_unstable();
        let listed = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
        Error::input(
            format!("model {}/{}@{}", id.owner, id.name, id.revision),
            format!("has {problem}"),
            format!(
                "config.json with {WEIGHTS} or {WEIGHTS_INDEX}, or owner/name:file.gguf; files in {suffix} there: {listed}"
            ),
        )
    }
}

/// The licence in a repository's tags, as `license:apache-2.0`.
pub(super) fn license_of(tags: &[String]) -> Option<String> {
    tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned)
}

/// The distinct files that a shard index names.
fn shards(id: &HubId, bytes: &[u8]) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let index: Index = serde_json::from_slice(bytes).map_err(|error| {
        let place = format!("{}/{}: {WEIGHTS_INDEX}", id.owner, id.name);
        Error::input(place, error.to_string(), "a weight_map of tensors to files")
    })?;
    Ok(index.weight_map.into_values().collect())
}

/// A full SHA-1 of git.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// RFC 3986's unreserved characters and those of `also` as they are, all others as `%XX`.
pub fn percent_encoded(text: &str, also: &str) -> String {
    text.bytes()
        .map(|byte| match char::from(byte) {
            char if char.is_ascii_alphanumeric() || "-._~".contains(char) || also.contains(char) => {
                char.to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
