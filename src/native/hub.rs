//! Models from the Hugging Face Hub, or from a server that speaks its interface.
//!
//! A snapshot lies in `models/hub/owner--name/COMMIT/` of the cache. A file gets its name there when it is whole
//! and verified, and `.attune.json` lists the files when all are; so a broken fetch is never taken for a model.

use super::atomic::write_atomically;
use super::download::Download;
use super::http::{Client, Get, is_switched_on};
use super::models::wait_for;
use super::{CachedFile, Events, ModelEntry, cache_dir, environment};
use crate::hub::{
    Advice, DEFAULT_ENDPOINT, DESCRIPTION_LIMIT, HubId, Listing, RemoteFile, is_commit, without_secrets,
};
use crate::protocol::Event;
use crate::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

mod snapshot;
mod token;

use snapshot::{MANIFEST, Manifest, complete, is_whole, reference};
pub(super) use snapshot::{hub_folder, read_manifest};
use token::token;

const ADVICE: Advice = Advice {
    when_denied: "an existing public model, or, for a private or gated one, its licence accepted on its page and a \
                  token in HF_TOKEN; check owner and name too",
    when_missing: "an existing model, file and revision; check owner, name and revision (a local folder of that name \
                   does not exist either)",
};

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
        let path = match complete(&home, &description.commit, id) {
            Some(path) => path,
            None => self.fetch_files(id, &description, &home.join(&description.commit), check, events)?,
        };
        write_atomically(&reference(&home, &id.revision), description.commit.as_bytes())?;
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
            &home.join(&description.commit),
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

    fn describe(&self, id: &HubId, events: Events) -> Result<Listing> {
        if self.is_offline {
            return Err(Error::Network {
                url: self.endpoint.clone(),
                problem: format!("HF_HUB_OFFLINE is set, and {}/{} is not in the cache", id.owner, id.name),
            });
        }
        let url = Listing::url(&self.endpoint, id);
        let reply = self.client.get(&self.get(&url), DESCRIPTION_LIMIT, events)?;
        Listing::parse(&reply.bytes).map_err(|problem| Error::Network { url: without_secrets(&url), problem })
    }

    fn fetch_files(
        &self,
        id: &HubId,
        listing: &Listing,
        folder: &Path,
        check: Check,
        events: Events,
    ) -> Result<PathBuf> {
        let chosen = self.choose(id, listing, folder, &mut |config| check(&config), events)?;
        for file in &chosen {
            self.fetch_file(id, &listing.commit, file, folder, events)?;
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
        listing: &Listing,
        folder: &Path,
        judge: &mut dyn FnMut(Value) -> Result<()>,
        events: Events,
    ) -> Result<Vec<RemoteFile>> {
        if let Some(name) = &id.gguf {
            return Ok(vec![listing.gguf(id, name)?.clone()]);
        }
        let config = listing.config(id)?;
        self.fetch_file(id, &listing.commit, config, folder, events)?;
        judge(read_json(&folder.join(&config.name), "a model's configuration")?)?;
        let mut index = None;
        if let Some(file) = listing.index() {
            self.fetch_file(id, &listing.commit, file, folder, events)?;
            let path = folder.join(&file.name);
            index = Some(std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?);
        }
        listing.of_folder(id, index.as_deref())
    }

    fn fetch_file(
        &self,
        id: &HubId,
        commit: &str,
        file: &RemoteFile,
        folder: &Path,
        events: Events,
    ) -> Result<()> {
        let url = file.url(&self.endpoint, id, commit)?;
        let to = folder.join(&file.name);
        if is_whole(&to, file.size) {
            return Ok(());
        }
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
        Get { url, headers: authorization.collect(), advice: ADVICE }
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path, expected: &str) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::input(path.display().to_string(), error.to_string(), expected))
}

#[cfg(test)]
mod tests;
