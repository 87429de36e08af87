//! Models from the Hugging Face Hub, or from a server that speaks its interface.
//!
//! A snapshot lies in `models/hub/owner--name/COMMIT/` of the cache. A file gets its name there when it is whole
//! and verified, and `.attune.json` lists the files when all are; so a broken fetch is never taken for a model.

use super::atomic::write_atomically;
use super::download::Download;
use super::files::check_key;
use super::http::{Client, Get, is_switched_on};
use super::models::wait_for;
use super::{CachedFile, Events, ModelEntry, cache_dir, environment};
use crate::protocol::Event;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
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
const CONFIG: &str = "config.json";
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
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
const WHEN_DENIED: &str = "an existing public model, or, for a private or gated one, its licence accepted on its page \
                           and a token in HF_TOKEN; check owner and name too";
const WHEN_MISSING: &str = "an existing model, file and revision; check owner, name and revision \
                            (a local folder of that name does not exist either)";

/// Judges a model by its `config.json`, before its weights are fetched.
pub type Check<'a> = &'a dyn Fn(&Value) -> Result<()>;

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
    /// [`Error::Network`], [`Error::Io`], and what `check` says of a model that is not in the cache.
    pub fn fetch(&self, id: &HubId, check: Check, events: Events) -> Result<PathBuf> {
        let home = id.folder(&self.cache);
        // A commit never changes, and without a connection what was fetched last is all there is.
        if (is_commit(&id.revision) || self.is_offline)
            && let Some(path) = id.cached(&self.cache)
        {
            return Ok(path);
        }
        let description = match self.describe(id, events) {
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
            None => self.fetch_files(id, &description, &home.join(&description.sha), check, events)?,
        };
        write_atomically(&reference(&home, &id.revision), description.sha.as_bytes())?;
        Ok(path)
    }

    /// What fetching would bring, and the `config.json` of a model that is a folder; its weights stay there.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub(super) fn peek(&self, id: &HubId, events: Events) -> Result<ModelEntry> {
        let description = self.describe(id, events)?;
        let home = id.folder(&self.cache);
        let _lock = wait_for(&home, events)?;
        let mut config = None;
        let files = self.choose(
            id,
            &description,
            &home.join(&description.sha),
            &mut |found| {
                config = Some(found);
                Ok(())
            },
            events,
        )?;
        let file = |file: RemoteFile| CachedFile { n_bytes: file.size.unwrap_or(0), name: file.name };
        let files: Vec<CachedFile> = files.into_iter().map(file).collect();
        Ok(ModelEntry {
            name: id.to_string(),
            description: None,
            license: None,
            path: None,
            n_bytes: files.iter().map(|file| file.n_bytes).sum(),
            files,
            config,
        })
    }

    fn describe(&self, id: &HubId, events: Events) -> Result<Description> {
        if self.is_offline {
            return Err(Error::Network {
                url: self.endpoint.clone(),
                problem: format!("HF_HUB_OFFLINE is set, and {}/{} is not in the cache", id.owner, id.name),
            });
        }
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
        check: Check,
        events: Events,
    ) -> Result<PathBuf> {
        let chosen = self.choose(id, description, folder, &mut |config| check(&config), events)?;
        for file in &chosen {
            self.fetch_file(id, &description.sha, file, folder, events)?;
        }
        if let Some(name) = &id.gguf {
            return Ok(folder.join(name));
        }
        let text = serde_json::to_vec_pretty(&Manifest { files: chosen })
            .map_err(|error| Error::Internal(error.to_string()))?;
        write_atomically(&folder.join(MANIFEST), &text)?;
        Ok(folder.to_owned())
    }

    /// The files to fetch. Of a folder that takes its `config.json`, which `judge` is given, and the index of its
    /// weights: both are fetched here.
    fn choose(
        &self,
        id: &HubId,
        description: &Description,
        folder: &Path,
        judge: &mut dyn FnMut(Value) -> Result<()>,
        events: Events,
    ) -> Result<Vec<RemoteFile>> {
        let files = description.files();
        if let Some(name) = &id.gguf {
            let file = files
                .get(name.as_str())
                .ok_or_else(|| missing(id, &files, &format!("no {name}"), ".gguf"))?;
            return Ok(vec![file.clone()]);
        }
        let config = files.get(CONFIG).ok_or_else(|| missing(id, &files, "no config.json", ".gguf"))?;
        self.fetch_file(id, &description.sha, config, folder, events)?;
        judge(read_json(&folder.join(CONFIG), "a model's configuration")?)?;
        let mut chosen: Vec<&RemoteFile> = SIDE_FILES.iter().filter_map(|name| files.get(name)).collect();
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
        Ok(chosen.into_iter().cloned().collect())
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
    let index: Index = read_json(index, "a weight_map of tensors to files")?;
    Ok(index.weight_map.into_values().collect())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path, expected: &str) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::input(path.display().to_string(), error.to_string(), expected))
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
