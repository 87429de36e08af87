//! What of the hub lies in the cache: snapshots by commit, and which commit a branch meant last.

use crate::hub::{HubId, RemoteFile, is_commit, percent_encoded};
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
