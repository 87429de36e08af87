//! One file from the network into the store: streamed, resumed after a break, verified, renamed last.

use crate::get::{Failure, Get, PAUSES_MS, next, reader};
use crate::opfs::Opfs;
use crate::{js, post};
use attune::hub::{Checksum, content_range, git_blob_id, hex};
use attune::protocol::{Event, Reply, Update};
use attune::store::{Store, human_bytes};
use attune::{Error, Result};
use sha2::{Digest, Sha256};

/// Bytes gathered before they are written: opening a file costs more than writing to it.
const CHUNK: usize = 4 << 20;

/// A file to fetch.
pub struct Transfer<'a> {
    /// The request.
    pub get: Get<'a>,
    /// Key it gets once it is whole; until then it is `KEY.partial`.
    pub key: &'a str,
    /// What people call it.
    pub name: &'a str,
    /// Bytes it must have, where known.
    pub size: Option<u64>,
    /// Its checksum, where known. Without one a broken transfer begins anew: nothing would tell whether old and new
    /// bytes fit.
    pub checksum: Option<Checksum<'a>>,
}

impl Transfer<'_> {
    fn interrupted(&self) -> Error {
        Error::Interrupted(format!("fetching {}", self.name))
    }
}

/// What came so far.
struct Part<'s> {
    store: &'s Opfs,
    key: String,
    len: u64,
    hash: Sha256,
    /// Whether some of it came before this call.
    is_resumed: bool,
}

impl<'s> Part<'s> {
    async fn open(store: &'s Opfs, transfer: &Transfer<'_>) -> Result<Self> {
        let key = format!("{}.partial", transfer.key);
        let mut part = Self { store, key, len: 0, hash: Sha256::new(), is_resumed: false };
        let size = store.size(&part.key).await?.filter(|_| transfer.checksum.is_some()).unwrap_or(0);
        while part.len < size {
            let end = size.min(part.len + CHUNK as u64);
            part.hash.update(store.read(&part.key, part.len..end).await?);
            part.len = end;
            part.is_resumed = true;
        }
        if size == 0 {
            part.clear().await?;
        }
        Ok(part)
    }

    async fn clear(&mut self) -> Result<()> {
        (self.len, self.hash, self.is_resumed) = (0, Sha256::new(), false);
        self.store.write(&self.key, &[]).await
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.store.append(&self.key, bytes).await?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// What about the bytes is not as expected.
    async fn difference(&self, transfer: &Transfer<'_>) -> Result<Option<String>> {
        if let Some(size) = transfer.size.filter(|size| *size != self.len) {
            return Ok(Some(format!("{} bytes came; expected {size}", self.len)));
        }
        let Some(checksum) = transfer.checksum else { return Ok(None) };
        let found = match checksum {
            Checksum::Sha256(_) => hex(&self.hash.clone().finalize()),
            Checksum::GitBlob(_) => git_blob_id(&self.store.read(&self.key, 0..self.len).await?),
        };
        Ok(checksum.mismatch(&found))
    }
}

/// Fetches a file, going on where an earlier call broke off.
///
/// # Errors
/// [`Error::Network`] where the connection fails for good (what came is kept) or the bytes are not those expected
/// (they are discarded); [`Error::Input`] where the server refuses; [`Error::Interrupted`] where a stop was asked
/// for; [`Error::Io`] where the store is full: nothing of the file is left then.
pub async fn transfer(store: &Opfs, transfer: &Transfer<'_>) -> Result<()> {
    let partial = format!("{}.partial", transfer.key);
    let outcome = attempts(store, transfer).await;
    if let Err(Error::Io { .. }) = &outcome {
        store.remove(&partial).await?;
    }
    outcome.map_err(|error| match error {
        Error::Io { action, source, .. } => Error::io(action, transfer.name, source),
        other => other,
    })
}

async fn attempts(store: &Opfs, transfer: &Transfer<'_>) -> Result<()> {
    let mut part = Part::open(store, transfer).await?;
    let mut n_failed = 0usize;
    let mut was_restarted = false;
    loop {
        let before = part.len;
        match attempt(transfer, &mut part).await {
            Ok(()) => {}
            Err(Failure::Final(error)) => return Err(error),
            // A stop breaks the connection, and looks like a break.
            Err(Failure::Transient(_)) if transfer.get.is_stopped() => return Err(transfer.interrupted()),
            Err(Failure::Transient(error)) => {
                n_failed = if part.len > before { 0 } else { n_failed + 1 };
                let Some(pause) = PAUSES_MS.get(n_failed.saturating_sub(1)) else {
                    return Err(kept(error, &part));
                };
                js::sleep(*pause).await;
                continue;
            }
        }
        match part.difference(transfer).await? {
            None => return store.rename(&part.key, transfer.key).await,
            // Bytes of an earlier call may be damaged: start over, once.
            Some(_) if part.is_resumed && !was_restarted => {
                part.clear().await?;
                was_restarted = true;
            }
            Some(problem) => {
                store.remove(&part.key).await?;
                return Err(transfer.get.failed(format!("{problem}; what came was discarded")));
            }
        }
    }
}

fn kept(error: Error, part: &Part<'_>) -> Error {
    match error {
        Error::Network { url, problem } if part.len > 0 => {
            let kept = human_bytes(part.len);
            Error::Network {
                url,
                problem: format!("{problem}; {kept} are kept, try again to go on from there"),
            }
        }
        other => other,
    }
}

async fn attempt(transfer: &Transfer<'_>, part: &mut Part<'_>) -> Result<(), Failure> {
    let broken = |problem: String| Failure::Transient(transfer.get.failed(problem));
    if transfer.size.is_some_and(|size| part.len > size) || transfer.checksum.is_none() {
        part.clear().await?;
    }
    if part.len > 0 && transfer.size == Some(part.len) {
        return Ok(());
    }
    let response = transfer.get.send(part.len).await?;
    let header = |name: &str| response.headers().get(name).ok().flatten();
    match response.status() {
        // A server need not let a page see which part it sends; the checksum tells.
        206 => {
            let range = header("content-range").and_then(|text| content_range(&text));
            if range.is_some_and(|(start, _)| start != part.len) {
                part.clear().await?;
                return Err(broken("the server sent another part than asked for".into()));
            }
        }
        416 => {
            part.clear().await?;
            return Err(broken("the server's file is shorter than what came so far".into()));
        }
        _ if part.len > 0 => part.clear().await?,
        _ => {}
    }
    // The length of compressed bytes says nothing about what is read.
    let length = header("content-length").filter(|_| header("content-encoding").is_none());
    let coming = length.and_then(|text| text.trim().parse::<u64>().ok());
    let total = transfer.size.or(coming.map(|n| n + part.len));
    if let Some(total) = total {
        crate::room::check(transfer.name, total.saturating_sub(part.len)).await?;
    }
    let Some(reader) = reader(&response) else { return Err(broken("no content came".into())) };
    let mut gathered = Vec::with_capacity(CHUNK);
    loop {
        let piece = next(&reader).await;
        if let Ok(Some(chunk)) = &piece {
            gathered.extend(chunk.to_vec());
        }
        let is_stopped = transfer.get.is_stopped();
        if gathered.len() >= CHUNK || !matches!(piece, Ok(Some(_))) || is_stopped {
            part.append(&gathered).await?;
            gathered.clear();
            let task = format!("fetching {}", transfer.name);
            let event = Event::Progress { task, done: part.len, total: total.unwrap_or(0) };
            post::reply(&Reply::Update(Update::Event(event)));
        }
        if is_stopped {
            return Err(transfer.interrupted().into());
        }
        match piece {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(problem) => return Err(broken(problem)),
        }
    }
    match total {
        Some(total) if part.len < total => {
            Err(broken(format!("the connection closed after {} of {total} bytes", part.len)))
        }
        _ => Ok(()),
    }
}
