//! Downloads of any size: resumed after a break, verified while streaming, in place only when whole.

use super::atomic::{create_folder, durable_rename, io_error, parent};
use super::http::{Client, Failure, Get, header};
use super::{Events, hex, human_bytes};
use crate::hub::{Checksum, content_range, git_blob_id, without_secrets};
use crate::protocol::Event;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::http::StatusCode;

/// Bytes read at once.
const CHUNK: usize = 1 << 18;
/// Shortest time between two progress events.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// A file to fetch.
pub(super) struct Download<'a> {
    /// The request.
    pub get: Get<'a>,
    /// Where the file shall lie; until it is whole its bytes lie in the same name with `.part` added.
    pub to: &'a Path,
    /// Bytes it must have, where known.
    pub size: Option<u64>,
    /// Its checksum, where known.
    pub checksum: Option<Checksum<'a>>,
    /// What progress events call it: "fetching model.safetensors".
    pub task: String,
}

impl Client {
    /// Fetches a file, continuing where an earlier call broke off. One process a file: hold a lock.
    ///
    /// # Errors
    /// [`Error::Network`] where the connection fails for good (what came is kept) or the bytes are not those
    /// expected (they are discarded); [`Error::Input`] where the server refuses; [`Error::Io`].
    pub fn download(&self, download: &Download, events: Events) -> Result<()> {
        let url = download.get.url;
        let mut part = Part::open(download.to)?;
        let mut retries = self.retries(url, usize::MAX);
        let mut restarted = false;
        loop {
            let before = part.len;
            if let Err(failure) = self.attempt(download, &mut part, events) {
                if part.len > before {
                    retries.reset();
                }
                let kept = match part.len {
                    0 => String::new(),
                    n => format!("; {} are kept, run again to continue", human_bytes(n)),
                };
                retries.pause(failure, &kept, events)?;
                continue;
            }
            match part.difference(download)? {
                None => return part.finish(download.to),
                // Bytes of an earlier call may be of another version, or damaged: start over, once.
                Some(_) if part.resumed && !restarted => {
                    part.clear()?;
                    restarted = true;
                }
                Some(problem) => {
                    part.discard();
                    let problem = format!("{problem}; what came was discarded");
                    return Err(Error::Network { url: without_secrets(url), problem });
                }
            }
        }
    }

    fn attempt(&self, download: &Download, part: &mut Part, events: Events) -> Result<(), Failure> {
        if download.size.is_some_and(|size| part.len > size) {
            part.clear()?;
        }
        if part.len > 0 && download.size == Some(part.len) {
            return Ok(());
        }
        // Without a mark of the version or a checksum nothing would tell whether old and new bytes fit.
        if part.len > 0 && part.etag.is_none() && download.checksum.is_none() {
            part.clear()?;
        }
        // Compressed on the way, the bytes would not be those that size, range and checksum are about.
        let mut headers = vec![("accept-encoding", "identity".to_owned())];
        if part.len > 0 {
            headers.push(("range", format!("bytes={}-", part.len)));
            headers.extend(part.etag.iter().map(|etag| ("if-range", etag.clone())));
        }
        let response = self.send(&download.get, &headers)?;
        let transient = |problem: &str| Failure::Transient { problem: problem.to_owned(), pause: None };
        let total = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = header(&response, "content-range").and_then(content_range);
                let Some((start, total)) = range.filter(|(start, _)| *start == part.len) else {
                    part.clear()?;
                    return Err(transient("the server sent another part than asked for"));
                };
                if start > 0 {
                    part.resumed = true;
                }
                total
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                part.clear()?;
                return Err(transient("the server's file is shorter than what came so far"));
            }
            _ => {
                part.clear()?;
                part.remember(header(&response, "etag"))?;
                header(&response, "content-length").and_then(|text| text.trim().parse().ok())
            }
        };
        if let (Some(total), Some(size)) = (total, download.size)
            && total != size
        {
            part.discard();
            let problem = format!("the server's file has {total} bytes; expected {size}");
            return Err(Failure::Fatal(Error::Network { url: without_secrets(download.get.url), problem }));
        }
        let total = total.or(download.size);
        if let Some(total) = total {
            check_space(download.to, total.saturating_sub(part.len))?;
        }
        stream(&mut response.into_body().into_reader(), download, part, total, events)
    }
}

fn stream(
    body: &mut impl Read,
    download: &Download,
    part: &mut Part,
    total: Option<u64>,
    events: Events,
) -> Result<(), Failure> {
    let mut chunk = vec![0; CHUNK];
    let mut told = Instant::now();
    let mut tell =
        |done| events(Event::Progress { task: download.task.clone(), done, total: total.unwrap_or(0) });
    tell(part.len);
    loop {
        let n = match body.read(&mut chunk) {
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Failure::Transient {
                    problem: format!("the connection broke: {error}"),
                    pause: None,
                });
            }
        };
        if n == 0 {
            break;
        }
        part.append(&chunk[..n])?;
        if total.is_some_and(|total| part.len > total) {
            break;
        }
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            tell(part.len);
        }
    }
    tell(part.len);
    match total {
        Some(total) if part.len < total => Err(Failure::Transient {
            problem: format!("the connection closed after {} of {total} bytes", part.len),
            pause: None,
        }),
        _ => Ok(()),
    }
}

/// The bytes so far, and the mark of the version that they belong to.
struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    hash: Sha256,
    etag: Option<String>,
    /// Whether some of the bytes came before this call or before a break.
    resumed: bool,
}

impl Part {
    fn open(to: &Path) -> Result<Self> {
        create_folder(&parent(to))?;
        let path = with_suffix(to, ".part");
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|source| io_error("write", &path, source))?;
        let mut hash = Sha256::new();
        let len = io::copy(&mut file, &mut HashWriter(&mut hash))
            .map_err(|source| io_error("read", &path, source))?;
        let etag = std::fs::read_to_string(with_suffix(&path, ".etag")).ok().filter(|etag| is_strong(etag));
        Ok(Self { path, file, len, hash, etag, resumed: len > 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|source| Failure::Fatal(io_error("write", &self.path, source)))?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|source| io_error("write", &self.path, source))?;
        (self.len, self.hash, self.etag, self.resumed) = (0, Sha256::new(), None, false);
        Ok(())
    }

    /// Keeps the version's mark beside the bytes. A weak one does not promise equal bytes and is not kept.
    fn remember(&mut self, etag: Option<&str>) -> Result<()> {
        self.etag = etag.filter(|etag| is_strong(etag)).map(str::to_owned);
        let path = with_suffix(&self.path, ".etag");
        std::fs::write(&path, self.etag.as_deref().unwrap_or_default())
            .map_err(|source| io_error("write", &path, source))
    }

    /// What about the bytes is not as expected.
    fn difference(&self, download: &Download) -> Result<Option<String>> {
        if let Some(size) = download.size.filter(|size| *size != self.len) {
            return Ok(Some(format!("{} bytes came; expected {size}", self.len)));
        }
        let Some(checksum) = download.checksum else { return Ok(None) };
        let found = match checksum {
            Checksum::Sha256(_) => hex(&self.hash.clone().finalize()),
            Checksum::GitBlob(_) => {
                let bytes =
                    std::fs::read(&self.path).map_err(|source| io_error("read", &self.path, source))?;
                git_blob_id(&bytes)
            }
        };
        Ok(checksum.mismatch(&found))
    }

    fn finish(self, to: &Path) -> Result<()> {
        self.file.sync_all().map_err(|source| io_error("write", &self.path, source))?;
        durable_rename(&self.path, to)?;
        let _ = std::fs::remove_file(with_suffix(&self.path, ".etag"));
        Ok(())
    }

    fn discard(&self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(with_suffix(&self.path, ".etag"));
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

/// Feeds a hash by `io::copy`.
pub(super) struct HashWriter<'h>(pub &'h mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_strong(etag: &str) -> bool {
    etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"')
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Refuses what will not fit, before a byte is fetched.
pub(super) fn check_space(to: &Path, n_bytes: u64) -> Result<()> {
    match fs4::available_space(parent(to)) {
        Ok(free) if free < n_bytes => {
            let problem = format!("{} are needed and {} are free", human_bytes(n_bytes), human_bytes(free));
            Err(io_error("write", to, io::Error::new(ErrorKind::StorageFull, problem)))
        }
        // A system that cannot tell is no reason not to try.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
