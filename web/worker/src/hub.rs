//! Models of the hub: looked for, listed, and fetched file by file into the store.

use crate::get::Get;
use crate::opfs::Opfs;
use crate::transfer::{Transfer, transfer};
use crate::{post, room, work};
use attune::hub::{Advice, DESCRIPTION_LIMIT, HubId, Kept, Listing, RemoteFile, found, search_url};
use attune::models::{Spec, is_known_architecture};
use attune::protocol::{Event, HubAccess, Reply, StoredFile, Update};
use attune::store::{Store, join};
use attune::{Error, Result};
use serde_json::Value;

/// Where models are kept between visits.
const FOLDER: &str = "models";

const ADVICE: Advice = Advice {
    when_denied: "a public model, or, for a gated or private one, its licence accepted on its page at the hub and an \
                  access token entered here; check owner and name too",
    when_missing: "a model that exists; check owner, name and revision",
};

/// Looks for models and tells what was found, or why nothing could be.
pub async fn search(text: String, hub: HubAccess) {
    let url = search_url(&hub.endpoint, &text);
    // It is no part of the work under way, which alone is stopped.
    let get = Get { signal: None, ..get(&hub, &url) };
    let answer = get.read(DESCRIPTION_LIMIT).await;
    let models = answer.and_then(|bytes| {
        found(&bytes, is_known_architecture).map_err(|problem| Error::Network { url: hub.endpoint, problem })
    });
    let (models, problem) = match models {
        Ok(models) => (models, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    post::reply(&Reply::Found { text, models, problem });
}

fn get<'a>(hub: &'a HubAccess, url: &'a str) -> Get<'a> {
    Get { url, token: hub.token.as_deref(), advice: ADVICE, signal: work::stop_signal() }
}

/// Copies a model into the store, unless it is there, and tells its key; or tells which GGUF files there are to
/// choose from.
///
/// # Errors
/// What the hub refuses, what cannot be loaded (before its weights are fetched), a connection that breaks (what
/// came is kept), a store that is full (nothing of it is kept).
pub async fn open(store: &Opfs, id: &str, hub: &HubAccess) -> Result<()> {
    let Some(mut id) = HubId::parse(id)? else {
        return Err(Error::input(
            format!("model {id:?}"),
            "is no name on the hub",
            "owner/name or owner/name@revision",
        ));
    };
    let listing = match list(&id, hub).await {
        Ok(listing) => listing,
        Err(error @ Error::Network { .. }) => return kept_before(store, &id, error).await,
        Err(error) => return Err(error),
    };
    if id.gguf.is_none() && !listing.is_folder() {
        match listing.gguf_models()[..] {
            // What is missing is said when the files are chosen.
            [] => {}
            [only] => id.gguf = Some(only.name.clone()),
            ref several => return choose(&id, several),
        }
    }
    let model = Model { store, hub, listing: &listing, key: join(FOLDER, &id.kept_as()), id };
    if !model.is_kept().await {
        let outcome = model.fetch().await;
        // A full store keeps nothing half done: the space is needed to become whole elsewhere.
        if let Err(Error::Io { .. }) = &outcome {
            model.discard().await?;
        }
        outcome?;
    }
    post::reply(&Reply::Fetched { key: model.key.clone(), name: model.id.to_string() });
    Ok(())
}

async fn list(id: &HubId, hub: &HubAccess) -> Result<Listing> {
    let url = Listing::url(&hub.endpoint, id);
    let bytes = get(hub, &url).read(DESCRIPTION_LIMIT).await?;
    Listing::parse(&bytes).map_err(|problem| Error::Network { url, problem })
}

fn choose(id: &HubId, files: &[&RemoteFile]) -> Result<()> {
    let file = |file: &&RemoteFile| StoredFile {
        key: file.name.clone(),
        name: file.name.clone(),
        n_bytes: file.size.unwrap_or(0),
    };
    post::reply(&Reply::Choose { id: id.to_string(), files: files.iter().map(file).collect() });
    Ok(())
}

/// Without the hub, the copy fetched before is used.
async fn kept_before(store: &Opfs, id: &HubId, error: Error) -> Result<()> {
    let key = join(FOLDER, &id.kept_as());
    if store.size(&Kept::key(&key, Kept::NOTE)).await?.is_none() {
        return Err(error);
    }
    let message = format!("{error}; using the copy fetched before");
    post::reply(&Reply::Update(Update::Event(Event::Note { message })));
    post::reply(&Reply::Fetched { key, name: id.to_string() });
    Ok(())
}

/// A model and where it goes.
struct Model<'a> {
    store: &'a Opfs,
    hub: &'a HubAccess,
    id: HubId,
    listing: &'a Listing,
    key: String,
}

impl Model<'_> {
    fn file_key(&self, file: &RemoteFile) -> String {
        if self.id.gguf.is_some() { self.key.clone() } else { join(&self.key, &file.name) }
    }

    /// Whether all of this commit is in the store.
    async fn is_kept(&self) -> bool {
        let note = self.store.read_all(&Kept::key(&self.key, Kept::NOTE), DESCRIPTION_LIMIT).await;
        let Some(kept) = note.ok().and_then(|bytes| Kept::parse(&bytes)) else { return false };
        if kept.commit != self.listing.commit {
            return false;
        }
        for file in &kept.files {
            let size = self.store.size(&self.file_key(file)).await.ok().flatten();
            if size.is_none() || file.size.is_some_and(|expected| size != Some(expected)) {
                return false;
            }
        }
        true
    }

    async fn fetch(&self) -> Result<()> {
        let mut kept = Kept {
            id: self.id.to_string(),
            commit: self.listing.commit.clone(),
            license: self.listing.license.clone(),
            files: Vec::new(),
        };
        self.begin(&kept).await?;
        kept.files = match self.choose_files().await {
            Ok(files) => files,
            // What the hub has not or keeps shut, or what cannot be loaded, is not gone on with.
            Err(error @ (Error::Input { .. } | Error::Inputs(_) | Error::Unsupported { .. })) => {
                self.discard().await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        self.check_room(&kept.files).await?;
        for file in &kept.files {
            self.fetch_file(file).await?;
        }
        self.write(Kept::NOTE, &kept).await?;
        self.store.remove(&Kept::key(&self.key, Kept::MARK)).await
    }

    /// Marks the fetch as under way. Files of another commit go first: names do not tell their commit.
    async fn begin(&self, kept: &Kept) -> Result<()> {
        for ending in [Kept::MARK, Kept::NOTE] {
            let earlier = self.store.read_all(&Kept::key(&self.key, ending), DESCRIPTION_LIMIT).await;
            let earlier = earlier.ok().and_then(|bytes| Kept::parse(&bytes));
            if earlier.is_some_and(|earlier| earlier.commit != kept.commit) {
                self.discard().await?;
            }
        }
        self.write(Kept::MARK, kept).await
    }

    async fn write(&self, ending: &str, kept: &Kept) -> Result<()> {
        let text = serde_json::to_vec(kept).map_err(|error| Error::Internal(error.to_string()))?;
        self.store.write(&Kept::key(&self.key, ending), &text).await
    }

    /// The model's files. Of a folder that takes its settings, by which it is judged, and the index of its weights:
    /// both are fetched here.
    async fn choose_files(&self) -> Result<Vec<RemoteFile>> {
        let (id, listing) = (&self.id, self.listing);
        if let Some(name) = &id.gguf {
            return Ok(vec![listing.gguf(id, name)?.clone()]);
        }
        let config = listing.config(id)?;
        let settings = self.fetch_small(config).await?;
        let place = |problem: String| Error::input(&config.name, problem, "a model's configuration");
        let settings: Value = serde_json::from_slice(&settings).map_err(|e| place(e.to_string()))?;
        Spec::from_config(&settings)?;
        let index = match listing.index() {
            Some(index) => Some(self.fetch_small(index).await?),
            None => None,
        };
        listing.of_folder(id, index.as_deref())
    }

    /// All of it has to fit, not only the next file.
    async fn check_room(&self, files: &[RemoteFile]) -> Result<()> {
        let mut needed = 0;
        for file in files {
            let key = self.file_key(file);
            let there = self.store.size(&key).await?.or(self.store.size(&format!("{key}.partial")).await?);
            needed += file.size.unwrap_or(0).saturating_sub(there.unwrap_or(0));
        }
        room::check(&self.id.to_string(), needed).await
    }

    async fn fetch_small(&self, file: &RemoteFile) -> Result<Vec<u8>> {
        self.fetch_file(file).await?;
        self.store.read_all(&self.file_key(file), DESCRIPTION_LIMIT).await
    }

    async fn fetch_file(&self, file: &RemoteFile) -> Result<()> {
        let url = file.url(&self.hub.endpoint, &self.id, &self.listing.commit)?;
        let key = self.file_key(file);
        let size = self.store.size(&key).await?;
        if size.is_some() && file.size.is_none_or(|expected| size == Some(expected)) {
            return Ok(());
        }
        let (get, checksum) = (get(self.hub, &url), file.checksum());
        transfer(self.store, &Transfer { get, key: &key, name: &file.name, size: file.size, checksum }).await
    }

    /// Removes everything of this model.
    async fn discard(&self) -> Result<()> {
        for key in self.store.list(&self.key).await? {
            let is_ours = key[self.key.len()..].starts_with('/')
                || [Kept::NOTE, Kept::MARK, ".partial", ""].contains(&&key[self.key.len()..]);
            if is_ours {
                self.store.remove(&key).await?;
            }
        }
        Ok(())
    }
}
