//! Models from the Hugging Face Hub, or from a server that speaks its interface.
//!
//! A snapshot lies in `models/hub/owner--name/COMMIT/` of the cache. A file gets its name there when it is whole
//! and verified, and `.attune.json` lists the files when all are; so a broken fetch is never taken for a model.

use super::atomic::write_atomically;
use super::download::Download;
use super::files::check_key;
use super::http::{Client, Get, is_switched_on};
use super::models::wait_for;
use super::{Events, cache_dir, environment};
use crate::protocol::Event;
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

mod id;
mod snapshot;
mod token;

pub use id::HubId;
use snapshot::{MANIFEST, Manifest, RemoteFile, complete, is_whole, percent_encoded, reference};
pub(super) use snapshot::{hub_folder, is_commit, read_manifest};
use token::token;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Longest description of a repository, and longest shard index.
const DESCRIPTION_LIMIT: u64 = 64 << 20;
/// What is fetched besides the weights, where it exists.
const SIDE_FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
const WHEN_DENIED: &str = "an existing public model, or, for a private or gated one, its licence accepted on its page \
                           and a token in HF_TOKEN; check owner and name too";
const WHEN_MISSING: &str = "an existing model, file and revision; check owner, name and revision \
                            (a local folder of that name does not exist either)";

/// A hub and this machine's copy of some of it.
pub struct Hub {
    client: Client,
    endpoint: String,
    token: Option<String>,
    cache: PathBuf,
    is_offline: bool,
}

impl Hub {
    /// Endpoint from `HF_ENDPOINT`; token from `HF_TOKEN`, or the file that `HF_TOKEN_PATH` names, or `token` in
    /// `HF_HOME` (`~/.cache/huggingface`); the cache alone where `HF_HUB_OFFLINE` is set.
    ///
    /// # Errors
    /// [`Error::Input`] where the token cannot be one, or there is no folder for the cache.
    pub fn from_environment() -> Result<Self> {
        let endpoint = environment("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        Ok(Self {
            client: Client::from_environment(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token(&environment)?,
            cache: cache_dir()?,
            is_offline: is_switched_on("HF_HUB_OFFLINE"),
        })
    }

    /// Fetches a model, or takes it from the cache: its folder, or its GGUF file.
    ///
    /// A branch is looked up each time; where the hub cannot be reached, the copy fetched last is used.
    ///
    /// # Errors
    /// [`Error::Input`] where the hub refuses or the repository has no weights that can be read,
    /// [`Error::Network`], [`Error::Io`].
    pub fn fetch(&self, id: &HubId, events: Events) -> Result<PathBuf> {
        let home = id.folder(&self.cache);
        // A commit never changes, and without a connection what was fetched last is all there is.
        if (is_commit(&id.revision) || self.is_offline)
            && let Some(path) = id.cached(&self.cache)
        {
            return Ok(path);
        }
        let described = match self.is_offline {
            true => Err(Error::Network {
                url: self.endpoint.clone(),
                problem: format!("HF_HUB_OFFLINE is set, and {}/{} is not in the cache", id.owner, id.name),
            }),
            false => self.describe(id, events),
        };
        let description = match described {
            Ok(description) => description,
            Err(error @ Error::Network { .. }) => {
                let Some(path) = id.cached(&self.cache) else { return Err(error) };
                events(Event::Note { message: format!("{error}; using the copy fetched before") });
                return Ok(path);
            }
            Err(error) => return Err(error),
        };
        let _lock = wait_for(&home, events)?;
        let path = match complete(&home, &description.sha, id) {
            Some(path) => path,
            None => self.fetch_files(id, &description, &home.join(&description.sha), events)?,
        };
        write_atomically(&reference(&home, &id.revision), description.sha.as_bytes())?;
        Ok(path)
    }

    fn describe(&self, id: &HubId, events: Events) -> Result<Description> {
        let revision = percent_encoded(&id.revision, "");
        let url =
            format!("{}/api/models/{}/{}/revision/{revision}?blobs=true", self.endpoint, id.owner, id.name);
        let reply = self.client.get(&self.get(&url), DESCRIPTION_LIMIT, events)?;
        let malformed = |problem: String| Error::Network { url: super::http::without_secrets(&url), problem };
        let description: Description = serde_json::from_slice(&reply.bytes)
            .map_err(|error| malformed(format!("the answer does not describe a model: {error}")))?;
        // It becomes a folder's name.
        match is_commit(&description.sha) {
            true => Ok(description),
            false => Err(malformed(format!("{:?} is no commit", description.sha))),
        }
    }

    fn fetch_files(
        &self,
        id: &HubId,
        description: &Description,
        folder: &Path,
        events: Events,
    ) -> Result<PathBuf> {
        let files = description.files();
        if let Some(name) = &id.gguf {
            let file = files
                .get(name.as_str())
                .ok_or_else(|| missing(id, &files, &format!("no {name}"), ".gguf"))?;
            self.fetch_file(id, &description.sha, file, folder, events)?;
            return Ok(folder.join(name));
        }
        let mut chosen: Vec<&RemoteFile> = SIDE_FILES.iter().filter_map(|name| files.get(name)).collect();
        if !files.contains_key("config.json") {
            return Err(missing(id, &files, "no config.json", ".gguf"));
        }
        if let Some(index) = files.get(WEIGHTS_INDEX) {
            self.fetch_file(id, &description.sha, index, folder, events)?;
            chosen.push(index);
            for shard in shards(&folder.join(WEIGHTS_INDEX))? {
                let file = files.get(shard.as_str());
                chosen.push(file.ok_or_else(|| {
                    missing(id, &files, &format!("no {shard}, which its index names"), ".safetensors")
                })?);
            }
        } else {
            let weights = files.get(WEIGHTS);
            chosen.push(weights.ok_or_else(|| missing(id, &files, &format!("no {WEIGHTS}"), ".gguf"))?);
        }
        for file in &chosen {
            self.fetch_file(id, &description.sha, file, folder, events)?;
        }
        let manifest = Manifest { files: chosen.into_iter().cloned().collect() };
        let text =
            serde_json::to_vec_pretty(&manifest).map_err(|error| Error::Internal(error.to_string()))?;
        write_atomically(&folder.join(MANIFEST), &text)?;
        Ok(folder.to_owned())
    }

    fn fetch_file(
        &self,
        id: &HubId,
        commit: &str,
        file: &RemoteFile,
        folder: &Path,
        events: Events,
    ) -> Result<()> {
        // The name comes from the hub: it must not lead out of the folder.
        check_key(&file.name)?;
        let to = folder.join(&file.name);
        if is_whole(&to, file.size) {
            return Ok(());
        }
        let name = percent_encoded(&file.name, "/");
        let url = format!("{}/{}/{}/resolve/{commit}/{name}", self.endpoint, id.owner, id.name);
        let download = Download {
            get: self.get(&url),
            to: &to,
            size: file.size,
            checksum: file.checksum(),
            task: format!("fetching {}", file.name),
        };
        self.client.download(&download, events)
    }

    fn get<'a>(&self, url: &'a str) -> Get<'a> {
        let authorization = self.token.iter().map(|token| ("authorization", format!("Bearer {token}")));
        Get { url, headers: authorization.collect(), when_denied: WHEN_DENIED, when_missing: WHEN_MISSING }
    }
}

/// What the hub says about a revision.
#[derive(Deserialize)]
struct Description {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
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

impl Description {
    fn files(&self) -> HashMap<&str, RemoteFile> {
        let file = |sibling: &Sibling| RemoteFile {
            name: sibling.rfilename.clone(),
            size: sibling.lfs.as_ref().map(|lfs| lfs.size).or(sibling.size),
            sha256: sibling.lfs.as_ref().map(|lfs| lfs.sha256.clone()),
            // That of a file outside git names its pointer, not its bytes.
            git_blob: sibling.blob_id.clone().filter(|_| sibling.lfs.is_none()),
        };
        self.siblings.iter().map(|sibling| (sibling.rfilename.as_str(), file(sibling))).collect()
    }
}

/// The distinct files that a shard index names.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let bytes = std::fs::read(index).map_err(|source| Error::io("read", index, source))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| {
        Error::input(index.display().to_string(), error.to_string(), "a weight_map of tensors to files")
    })?;
    Ok(index.weight_map.into_values().collect())
}

fn missing(id: &HubId, files: &HashMap<&str, RemoteFile>, problem: &str, suffix: &str) -> Error {
    let mut others: Vec<_> = files.keys().filter(|name| name.ends_with(suffix)).copied().collect();
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

#[cfg(test)]
mod tests;
