//! Files of Python package indexes: some small models and data sets are published there.
//!
//! Indexes are asked by their own protocol (PEP 503 and PEP 691); where none answers, pip is, because it may know
//! a way of its own: a keyring, a certificate, a folder of files. Every file is pinned by its SHA-256.

use super::atomic::{create_folder, durable_rename, io_error, parent};
use super::download::{Download, HashWriter};
use super::http::{Client, Get, Reply};
use super::{Events, hex, pip_config};
use crate::hub::{Advice, Checksum, without_secrets};
use crate::protocol::Event;
use crate::{Error, Result};
use regex::Regex;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Longest list of a project's files.
const PAGE_LIMIT: u64 = 64 << 20;

/// One published file of one version of a project; indexes never replace a file.
#[derive(Debug)]
pub(super) struct Artifact {
    /// Project, normalised: lower case, words joined by hyphens.
    pub project: &'static str,
    /// Version.
    pub version: &'static str,
    /// File name: a wheel or a source archive.
    pub file_name: &'static str,
    /// SHA-256 in hexadecimal.
    pub sha256: &'static str,
}

/// Indexes, and names under which Python may be found.
pub(super) struct Fetcher {
    client: Client,
    indexes: Vec<String>,
    pythons: Vec<String>,
}

impl Fetcher {
    /// With this machine's pip configuration.
    pub fn from_environment() -> Self {
        Self {
            client: Client::from_environment(),
            indexes: pip_config::indexes(),
            pythons: ["python3", "python", "py"].map(str::to_owned).to_vec(),
        }
    }

    /// With nothing but these.
    #[cfg(test)]
    pub fn for_tests(indexes: &[String], pythons: &[&str]) -> Self {
        let pythons = pythons.iter().map(|python| (*python).to_owned()).collect();
        Self { client: Client::for_tests(), indexes: indexes.to_vec(), pythons }
    }

    /// Puts the artifact at `to`.
    ///
    /// # Errors
    /// [`Error::Network`] that tells every way tried and how it failed; [`Error::Io`].
    pub fn fetch(&self, artifact: &Artifact, to: &Path, events: Events) -> Result<()> {
        let mut problems = Vec::new();
        for index in &self.indexes {
            match self.ask_index(index, artifact, to, events) {
                // A full disk would be as full for the next way.
                Ok(()) | Err(Error::Io { .. }) if to.exists() => return Ok(()),
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(error) => problems.push(error.to_string()),
                Ok(()) => return Err(Error::Internal(format!("{} did not arrive", to.display()))),
            }
        }
        events(Event::Note { message: format!("no index gave {}; trying pip download", artifact.file_name) });
        for python in &self.pythons {
            match ask_pip(python, artifact, to) {
                Ok(()) => return Ok(()),
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(error) => problems.push(error.to_string()),
            }
        }
        Err(Error::Network {
            url: format!("{} {} from a Python package index", artifact.project, artifact.version),
            problem: format!(
                "{}. Set PIP_INDEX_URL to an index that can be reached, or fetch {} by hand",
                problems.join("; "),
                artifact.file_name
            ),
        })
    }

    fn ask_index(&self, index: &str, artifact: &Artifact, to: &Path, events: Events) -> Result<()> {
        let url = format!("{index}/{}/", artifact.project);
        // JSON where the index speaks it, else the page of links.
        let accept =
            "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";
        let page = self.client.get(&get(&url, accept), PAGE_LIMIT, events)?;
        let link = find(&page, artifact)?.ok_or_else(|| Error::Network {
            url: without_secrets(&url),
            problem: format!("the index has no {}", artifact.file_name),
        })?;
        if let Some(sha256) = &link.sha256
            && !sha256.eq_ignore_ascii_case(artifact.sha256)
        {
            let problem = format!("the index has another {} (SHA-256 {sha256})", artifact.file_name);
            return Err(Error::Network { url: without_secrets(&url), problem });
        }
        let url = with_login_of(&page.url, &join(&page.url, &link.url));
        let get = get(&url, "*/*");
        let task = format!("fetching {}", artifact.file_name);
        let checksum = Some(Checksum::Sha256(artifact.sha256));
        self.client.download(&Download { get, to, size: link.size, checksum, task }, events)
    }
}

fn get<'a>(url: &'a str, accept: &str) -> Get<'a> {
    Get {
        url,
        headers: vec![("accept", accept.to_owned())],
        advice: Advice {
            when_denied: "an index that answers without asking, or its user and password in PIP_INDEX_URL",
            when_missing: "an index that has this project; check PIP_INDEX_URL",
        },
    }
}

/// Where a file is, as the index says.
struct Link {
    url: String,
    sha256: Option<String>,
    size: Option<u64>,
}

/// The artifact's link in an index's page.
fn find(page: &Reply, artifact: &Artifact) -> Result<Option<Link>> {
    #[derive(Deserialize)]
    struct Project {
        files: Vec<Published>,
    }
    #[derive(Deserialize)]
    struct Published {
        filename: String,
        url: String,
        #[serde(default)]
        hashes: std::collections::HashMap<String, String>,
        size: Option<u64>,
    }
    if page.content_type.contains("json") {
        let project: Project = serde_json::from_slice(&page.bytes).map_err(|error| Error::Network {
            url: without_secrets(&page.url),
            problem: format!("the index's answer is not as PEP 691 says: {error}"),
        })?;
        let file = project.files.into_iter().find(|file| file.filename == artifact.file_name);
        return Ok(file.map(|mut file| Link {
            url: file.url,
            sha256: file.hashes.remove("sha256"),
            size: file.size,
        }));
    }
    let html = String::from_utf8_lossy(&page.bytes);
    let anchor = Regex::new(r#"(?is)<a\s[^>]*?href\s*=\s*["']([^"']+)["'][^>]*>(.*?)</a>"#)
        .map_err(|error| Error::Internal(error.to_string()))?;
    Ok(anchor.captures_iter(&html).find(|link| link[2].trim() == artifact.file_name).map(|link| {
        let href = link[1].replace("&amp;", "&");
        let (url, fragment) = href.split_once('#').unwrap_or((&href, ""));
        Link { url: url.to_owned(), sha256: fragment.strip_prefix("sha256=").map(str::to_owned), size: None }
    }))
}

/// The address that `link` means on the page at `base` (RFC 3986, section 5, for what indexes write).
fn join(base: &str, link: &str) -> String {
    if link.contains("://") {
        return link.to_owned();
    }
    let base = base.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if let Some(other) = link.strip_prefix("//") {
        return format!("{scheme}://{other}");
    }
    let path = match link.starts_with('/') {
        true => link.to_owned(),
        false => format!("{}/{link}", path.rsplit_once('/').map_or("", |(folder, _)| folder)),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.trim_start_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("{scheme}://{authority}/{}", parts.join("/"))
}

/// `url` with the user and password of `page`, where both are on one host and `url` has none, as pip does.
fn with_login_of(page: &str, url: &str) -> String {
    fn parts(url: &str) -> Option<(&str, Option<&str>, &str, &str)> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        match authority.rsplit_once('@') {
            Some((login, host)) => Some((scheme, Some(login), host, path)),
            None => Some((scheme, None, authority, path)),
        }
    }
    match (parts(page), parts(url)) {
        (Some((from, Some(login), page_host, _)), Some((scheme, None, host, path)))
            if page_host == host && from == scheme =>
        {
            format!("{scheme}://{login}@{host}{path}")
        }
        _ => url.to_owned(),
    }
}

/// `pip download`, into a folder beside `to`.
fn ask_pip(python: &str, artifact: &Artifact, to: &Path) -> Result<()> {
    let folder = parent(to);
    create_folder(&folder)?;
    let place = tempfile::tempdir_in(&folder).map_err(|source| io_error("create", &folder, source))?;
    // pip checks the hash before it runs anything of the file, which it does to learn a source archive's name.
    let wanted = place.path().join("wanted.txt");
    let line = format!("{}=={} --hash=sha256:{}\n", artifact.project, artifact.version, artifact.sha256);
    std::fs::write(&wanted, line).map_err(|source| io_error("write", &wanted, source))?;
    let kind = if artifact.file_name.ends_with(".whl") { "--only-binary" } else { "--no-binary" };
    let failed = |problem: String| Error::Network { url: format!("{python} -m pip download"), problem };
    let output = Command::new(python)
        .args(["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check", "--quiet"])
        .args([kind, ":all:", "--require-hashes", "--dest"])
        .arg(place.path())
        .arg("-r")
        .arg(&wanted)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let from = place.path().join(artifact.file_name);
    if !output.status.success() || !from.exists() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| line.contains("ERROR")).or(said.lines().last());
        return Err(failed(format!("{}: {}", output.status, last.unwrap_or("no such file came").trim())));
    }
    let mut hash = Sha256::new();
    File::open(&from)
        .and_then(|mut file| std::io::copy(&mut file, &mut HashWriter(&mut hash)))
        .map_err(|source| io_error("read", &from, source))?;
    let found = hex(&hash.finalize());
    if found != artifact.sha256 {
        return Err(failed(format!("the checksum (SHA-256) is {found}; expected {}", artifact.sha256)));
    }
    durable_rename(&from, to)
}

#[cfg(test)]
mod tests;
