//! Requests over the network: what may be tried again, and what a refusal means for the user.

use crate::{js, post};
use attune::hub::{Advice, Refusal, refusal, without_secrets};
use attune::{Error, Result};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortSignal, Headers, ReadableStreamDefaultReader, RequestCache, RequestCredentials, RequestInit,
    Response,
};

/// Pauses before the second and third attempt without progress.
pub const PAUSES_MS: [i32; 2] = [500, 2000];
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
    /// Ends it at once, even while nothing comes.
    pub signal: Option<AbortSignal>,
}

/// Why an attempt failed.
pub enum Failure {
    /// Another attempt may succeed.
    Transient(Error),
    /// The same would happen again.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Get<'_> {
    /// What went wrong with this request.
    pub fn failed(&self, problem: impl Into<String>) -> Error {
        Error::Network { url: without_secrets(self.url), problem: problem.into() }
    }

    /// Whether a stop was asked for.
    pub fn is_stopped(&self) -> bool {
        self.signal.as_ref().is_some_and(AbortSignal::aborted)
    }

    /// One attempt; `from` asks for the bytes from there on.
    pub async fn send(&self, from: u64) -> Result<Response, Failure> {
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
        options.set_signal(self.signal.as_ref());
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
    /// The server refuses or cannot be reached; an answer of more than `limit` bytes; [`Error::Interrupted`] where a
    /// stop was asked for.
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
                Failure::Transient(_) if self.is_stopped() => {
                    return Err(Error::Interrupted(format!("fetching {}", without_secrets(self.url))));
                }
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

/// A body's pieces, one after the other.
pub fn reader(response: &Response) -> Option<ReadableStreamDefaultReader> {
    Some(response.body()?.get_reader().unchecked_into())
}

/// The next piece of a body; nothing at its end.
pub async fn next(reader: &ReadableStreamDefaultReader) -> Result<Option<js_sys::Uint8Array>, String> {
    let next = JsFuture::from(reader.read()).await;
    let next = next.map_err(|error| format!("the connection broke: {}", js::text(&error)))?;
    let next: js_sys::IteratorNext = next.unchecked_into();
    Ok((!next.done()).then(|| next.value().unchecked_into()))
}
