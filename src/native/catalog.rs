//! Which models are known and which of them are on this machine.

use super::hub::{hub_folder, read_manifest};
use super::models::{ALIASES, Alias, unknown};
use super::{Events, FileStore, Hub, HubId, block_on, cache_dir};
use crate::hub::is_commit;
use crate::store::Store;
use crate::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A model that can be named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelEntry {
    /// What to give as the model's name.
    pub name: String,
    /// What it is, where that is known without opening it.
    pub description: Option<String>,
    /// SPDX identifier of its licence, where known.
    pub license: Option<String>,
    /// Its folder or file on this machine, or nothing where it is not fetched yet.
    pub path: Option<PathBuf>,
    /// Bytes on this machine, or to be fetched.
    pub n_bytes: u64,
    /// Its files on this machine, or those to be fetched.
    pub files: Vec<CachedFile>,
    /// Its `config.json`, where only that was fetched.
    #[serde(skip)]
    pub config: Option<Value>,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CachedFile {
    /// Name within the model's folder.
    pub name: String,
    /// Bytes.
    pub n_bytes: u64,
}

/// The short names, fetched or not, then what is in the cache from the hub, by name.
///
/// # Errors
/// [`Error::Io`] where the cache cannot be read; [`Error::Input`] where there is no folder for it.
pub fn list_models() -> Result<Vec<ModelEntry>> {
    list_below(&cache_dir()?)
}

/// One model, without fetching its weights.
///
/// # Errors
/// [`Error::Input`] where the name means nothing; for a repository of the hub that is not in the cache, what asking
/// the hub fails with.
pub fn model_info(name: &str, events: Events) -> Result<ModelEntry> {
    let cache = cache_dir()?;
    match uncached(&cache, name)? {
        Some(id) => Hub::from_environment()?.peek(&id, events),
        None => info_below(&cache, name),
    }
}

/// The repository that `name` means, where nothing of that name is on this machine.
fn uncached(cache: &Path, name: &str) -> Result<Option<HubId>> {
    if Path::new(name).exists() || Alias::find(name).is_some() {
        return Ok(None);
    }
    Ok(HubId::parse(name)?.filter(|id| id.cached(cache).is_none()))
}

fn list_below(cache: &Path) -> Result<Vec<ModelEntry>> {
    let mut entries: Vec<_> = ALIASES.iter().map(|alias| alias_entry(alias, cache)).collect();
    let mut from_hub = Vec::new();
    for repository in folders(&hub_folder(cache))? {
        let Some((owner, name)) = file_name(&repository).and_then(|name| name.split_once("--")) else {
            continue;
        };
        for snapshot in folders(&repository)? {
            let Some(commit) = file_name(&snapshot).filter(|commit| is_commit(commit)) else { continue };
            from_hub.extend(snapshot_entries(&format!("{owner}/{name}@{commit}"), &snapshot)?);
        }
    }
    from_hub.sort_by(|a, b| a.name.cmp(&b.name));
    entries.extend(from_hub);
    Ok(entries)
}

fn info_below(cache: &Path, name: &str) -> Result<ModelEntry> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(entry(name, path, files_below(path)?));
    }
    if path.is_file() {
        let n_bytes = std::fs::metadata(path).map_err(|source| Error::io("read", path, source))?.len();
        let file = CachedFile { name: file_name(path).unwrap_or(name).to_owned(), n_bytes };
        return Ok(entry(name, path, vec![file]));
    }
    if let Some(alias) = Alias::find(name) {
        return Ok(alias_entry(alias, cache));
    }
    let id = HubId::parse(name)?.ok_or_else(|| unknown(name))?;
    let path = id.cached(cache).ok_or_else(|| {
        Error::input(
            format!("model {name:?}"),
            "is not in the cache",
            "a model that `attune models list` shows; fetch it first",
        )
    })?;
    if path.is_dir() {
        return Ok(entry(name, &path, manifest_files(&path)));
    }
    info_below(cache, &path.display().to_string()).map(|found| ModelEntry { name: name.to_owned(), ..found })
}

fn alias_entry(alias: &Alias, cache: &Path) -> ModelEntry {
    let file = CachedFile { name: alias.file_name().to_owned(), n_bytes: alias.n_bytes() };
    let is_cached = alias.is_cached(cache);
    ModelEntry {
        name: alias.name.to_owned(),
        description: Some(alias.description.to_owned()),
        license: Some(alias.license.to_owned()),
        path: is_cached.then(|| alias.path(cache)),
        n_bytes: alias.n_bytes(),
        files: if is_cached { vec![file] } else { Vec::new() },
        config: None,
    }
}

/// The models of one snapshot: the folder, when whole, and each GGUF file.
fn snapshot_entries(name: &str, folder: &Path) -> Result<Vec<ModelEntry>> {
    let mut entries = Vec::new();
    let files = manifest_files(folder);
    if !files.is_empty() {
        entries.push(entry(name, folder, files));
    }
    for file in files_below(folder)?.into_iter().filter(|file| file.name.to_lowercase().ends_with(".gguf")) {
        let path = folder.join(&file.name);
        entries.push(entry(&format!("{name}:{}", file.name), &path, vec![file]));
    }
    Ok(entries)
}

fn entry(name: &str, path: &Path, files: Vec<CachedFile>) -> ModelEntry {
    let n_bytes = files.iter().map(|file| file.n_bytes).sum();
    ModelEntry {
        name: name.to_owned(),
        description: None,
        license: None,
        path: Some(path.to_owned()),
        n_bytes,
        files,
        config: None,
    }
}

fn manifest_files(folder: &Path) -> Vec<CachedFile> {
    let files = read_manifest(folder).map(|manifest| manifest.files).unwrap_or_default();
    let size = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |found| found.len());
    files.into_iter().map(|file| CachedFile { n_bytes: size(&file.name), name: file.name }).collect()
}

fn files_below(folder: &Path) -> Result<Vec<CachedFile>> {
    let store = FileStore::new(folder);
    block_on(async {
        let mut files = Vec::new();
        for name in store.list("").await? {
            if let Some(n_bytes) = store.size(&name).await? {
                files.push(CachedFile { name, n_bytes });
            }
        }
        Ok(files)
    })
}

/// Folders in `folder`, by name; none where it does not exist.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", folder, error)),
    };
    let mut paths: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn short_names_and_whole_snapshots_are_listed_with_their_sizes() {
        let cache = tempfile::tempdir().unwrap();
        let commit = "a".repeat(40);
        let home = hub_folder(cache.path()).join("owner--name");
        let snapshot = home.join(&commit);
        std::fs::create_dir_all(snapshot.join("q")).unwrap();
        std::fs::write(snapshot.join("model.safetensors.part"), "half").unwrap();
        std::fs::write(snapshot.join("q/m.gguf"), "GGUF").unwrap();
        let list = || list_below(cache.path()).unwrap();
        assert_eq!(list()[0].name, "smollm2-135m");
        assert_eq!(list()[0].path, None);
        let gguf = format!("owner/name@{commit}:q/m.gguf");
        assert_eq!(list()[1..].iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), [&gguf]);
        std::fs::write(snapshot.join("config.json"), "{}").unwrap();
        std::fs::write(
            snapshot.join(".attune.json"),
            r#"{"files":[{"name":"config.json","size":2,"sha256":null}]}"#,
        )
        .unwrap();
        let whole = &list()[1];
        assert_eq!(
            (whole.name.as_str(), whole.n_bytes, whole.files.len()),
            (&*format!("owner/name@{commit}"), 2, 1)
        );
        for name in [&gguf, &whole.name] {
            let found = info_below(cache.path(), name).unwrap();
            assert!(found.path.unwrap().starts_with(&snapshot));
        }
    }

    #[test]
    fn what_is_not_there_is_told_from_what_means_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let error = |name: &str| info_below(cache.path(), name).unwrap_err().to_string();
        assert!(error("owner/name").contains("not in the cache"));
        assert!(uncached(cache.path(), "owner/name").unwrap().is_some());
        assert!(uncached(cache.path(), "smollm2-135m").unwrap().is_none());
        assert!(error("nothing").contains("owner/name@revision"));
        assert_eq!(info_below(cache.path(), "smollm2-135m").unwrap().n_bytes, 98_362_432);
    }
}
