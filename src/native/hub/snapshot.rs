//! What of the hub lies in the cache: snapshots by commit, and which commit a branch meant last.

use super::HubId;
use crate::native::download::Checksum;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Name of the list of a snapshot's files.
pub(super) const MANIFEST: &str = ".attune.json";

impl HubId {
    /// Folder of the repository's snapshots.
    pub(super) fn folder(&self, cache: &Path) -> PathBuf {
        hub_folder(cache).join(format!("{}--{}", self.owner, self.name))
    }

    /// The copy below `cache` that the revision meant when it was last looked up, where all of it is there.
    pub(in crate::native) fn cached(&self, cache: &Path) -> Option<PathBuf> {
        let home = self.folder(cache);
        let commit = match is_commit(&self.revision) {
            true => self.revision.clone(),
            false => std::fs::read_to_string(reference(&home, &self.revision)).ok()?.trim().to_owned(),
        };
        if is_commit(&commit) { complete(&home, &commit, self) } else { None }
    }
}

/// Folder of all snapshots.
pub(in crate::native) fn hub_folder(cache: &Path) -> PathBuf {
    cache.join("models").join("hub")
}

/// What a snapshot's list holds.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::native) struct Manifest {
    /// Names, sizes and, where the hub tells them, checksums.
    pub files: Vec<RemoteFile>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::native) struct RemoteFile {
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
}

/// The model of a commit, where all of it is in the cache.
pub(super) fn complete(home: &Path, commit: &str, id: &HubId) -> Option<PathBuf> {
    let folder = home.join(commit);
    if let Some(name) = &id.gguf {
        return Some(folder.join(name)).filter(|path| path.is_file());
    }
    let manifest = read_manifest(&folder)?;
    manifest.files.iter().all(|file| is_whole(&folder.join(&file.name), file.size)).then_some(folder)
}

/// The list of a snapshot's files, once all have come.
pub(in crate::native) fn read_manifest(folder: &Path) -> Option<Manifest> {
    serde_json::from_slice(&std::fs::read(folder.join(MANIFEST)).ok()?).ok()
}

/// A file has its name only once it is whole; its size tells one that was cut later.
pub(super) fn is_whole(path: &Path, size: Option<u64>) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && size.is_none_or(|size| size == found.len()))
}

/// Where the commit is noted that a branch or tag meant last.
pub(super) fn reference(home: &Path, revision: &str) -> PathBuf {
    home.join("refs").join(percent_encoded(revision, ""))
}

/// A full SHA-1 of git.
pub(in crate::native) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// RFC 3986's unreserved characters and those of `also` as they are, all others as `%XX`.
pub(super) fn percent_encoded(text: &str, also: &str) -> String {
    text.bytes()
        .map(|byte| match char::from(byte) {
            char if char.is_ascii_alphanumeric() || "-._~".contains(char) || also.contains(char) => {
                char.to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
