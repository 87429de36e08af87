//! One file from the network into the store: streamed, resumed after a break, verified, renamed last.

use crate::opfs::Opfs;
use crate::{js, post, work};
use attune::hub::{Advice, Checksum, Refusal, content_range, git_blob_id, hex, refusal, without_secrets};
use attune::protocol::{Event, Reply, Update};
use attune::store::{Store, human_bytes};
use attune::{Error, Result};
use sha2::{Digest, Sha256};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Headers, ReadableStreamDefaultReader, RequestCache, RequestCredentials, RequestInit, Response,
};

/// Bytes gathered before they are written: opening a file costs more than writing to it.
const CHUNK: usize = 4 << 20;
/// Pauses before the second and third attempt without progress.
const PAUSES_MS: [i32; 2] = [500, 2000];
/// Bytes of an error's body that are looked at.
const ERROR_BODY_LIMIT: u64 = 4096;

/// A request.
pub struct Get<'a> {
    /// Where.
    pub url: &'a str,
    /// Sent to the host of `url` alone: a browser drops it when it is redirected to another origin.
    pub token: Option<&'a str>,
    /// What the user can do where the server refuses.
    pub advice: Advice,
}

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

/// Why an attempt failed.
enum Failure {
    /// Another attempt may succeed.
    Transient(Error),
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Get<'_> {
    fn failed(&self, problem: impl Into<String>) -> Error {
        Error::Network { url: without_secrets(self.url), problem: problem.into() }
    }

    /// One attempt; `from` asks for the bytes from there on.
    async fn send(&self, from: u64) -> Result<Response, Failure> {
        let unusable = |error: JsValue| Failure::Final(self.failed(js::text(&error)));
        let headers = Headers::new().map_err(unusable)?;
        if let Some(token) = self.token {
            headers.set("Authorization", &format!("Bearer {token}")).map_err(unusable)?;
        }
        if from > 0 {
            headers.set("Range", &format!("bytes={from}-")).map_err(unusable)?;
        }
        let options = RequestInit::new();
        options.set_headers(&headers);
        options.set_credentials(RequestCredentials::Omit);
        // Who serves this page is nobody's affair.
        options.set_referrer_policy(web_sys::ReferrerPolicy::NoReferrer);
        // It is kept once, where the page keeps its models.
        options.set_cache(RequestCache::NoStore);
        let answer = JsFuture::from(post::scope().fetch_with_str_and_init(self.url, &options)).await;
        let response: Response = match answer {
            Ok(response) => response.unchecked_into(),
            Err(error) => {
                let problem = match post::scope().navigator().on_line() {
                    false => "this machine is offline; connect it and try again".to_owned(),
                    true => format!(
                        "no answer ({}); check the connection, and what stands between this page and the server",
                        js::text(&error)
                    ),
                };
                return Err(Failure::Transient(self.failed(problem)));
            }
        };
        let code = response.status();
        // The ranges of a resumed transfer are its own affair.
        if response.ok() || code == 416 {
            return Ok(response);
        }
        let body = read_whole(&response, ERROR_BODY_LIMIT).await.unwrap_or_default();
        let status = format!("{code} {}", response.status_text());
        match refusal(self.url, code, status.trim_end(), &String::from_utf8_lossy(&body), self.advice) {
            Refusal::Transient(problem) => Err(Failure::Transient(self.failed(problem))),
            Refusal::Final(error) => Err(Failure::Final(error)),
        }
    }

    /// A short answer's body.
    ///
    /// # Errors
    /// The server refuses or cannot be reached; an answer of more than `limit` bytes.
    pub async fn read(&self, limit: u64) -> Result<Vec<u8>> {
        let mut pauses = PAUSES_MS.into_iter();
        loop {
            let failure = match self.send(0).await {
                Ok(response) => match read_whole(&response, limit).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(problem) => Failure::Transient(self.failed(problem)),
                },
                Err(failure) => failure,
            };
            match failure {
                Failure::Final(error) => return Err(error),
                Failure::Transient(error) => match pauses.next() {
                    Some(pause) => js::sleep(pause).await,
                    None => return Err(error),
                },
            }
        }
    }
}

async fn read_whole(response: &Response, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let Some(reader) = reader(response) else { return Ok(bytes) };
    while let Some(chunk) = next(&reader).await? {
        bytes.extend(chunk.to_vec());
        if bytes.len() as u64 > limit {
            _ = reader.cancel();
            return Err(format!("the answer is longer than {limit} bytes"));
        }
    }
    Ok(bytes)
}

fn reader(response: &Response) -> Option<ReadableStreamDefaultReader> {
    Some(response.body()?.get_reader().unchecked_into())
}

/// The next piece of a body; nothing at its end.
async fn next(reader: &ReadableStreamDefaultReader) -> Result<Option<js_sys::Uint8Array>, String> {
    let next = JsFuture::from(reader.read()).await;
    let next = next.map_err(|error| format!("the connection broke: {}", js::text(&error)))?;
    let next: js_sys::IteratorNext = next.unchecked_into();
    Ok((!next.done()).then(|| next.value().unchecked_into()))
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
    let mut n_failed = 0;
    let mut was_restarted = false;
    loop {
        let before = part.len;
        match attempt(transfer, &mut part).await {
            Ok(()) => {}
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Transient(error)) => {
                n_failed = if part.len > before { 0 } else { n_failed + 1 };
                let Some(pause) = PAUSES_MS.get(n_failed) else { return Err(kept(error, &part)) };
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
        let is_stopped = work::is_stop_asked();
        if gathered.len() >= CHUNK || !matches!(piece, Ok(Some(_))) || is_stopped {
            part.append(&gathered).await?;
            gathered.clear();
            let task = format!("fetching {}", transfer.name);
            let event = Event::Progress { task, done: part.len, total: total.unwrap_or(0) };
            post::reply(&Reply::Update(Update::Event(event)));
        }
        if is_stopped {
            _ = reader.cancel();
            return Err(Error::Interrupted(format!("fetching {}", transfer.name)).into());
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
