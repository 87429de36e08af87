//! The browser's private file system as a store.

use crate::js::{io, wait};
use crate::post::scope;
use attune::store::Store;
use attune::{Error, Result};
use std::ops::Range;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{
    Blob, File, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions,
    FileSystemGetFileOptions, FileSystemHandle, FileSystemHandleKind, FileSystemReadWriteOptions,
    FileSystemSyncAccessHandle,
};

/// Reads a part of a blob.
///
/// # Errors
/// A range past the end; a file that changed or vanished since it was chosen.
pub async fn read_blob(blob: &Blob, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
    if range.end > blob.size() as u64 || range.start > range.end {
        let problem = format!("bytes {}..{} asked for", range.start, range.end);
        return Err(Error::input(key, problem, format!("a range within its {} bytes", blob.size())));
    }
    let part = blob
        .slice_with_f64_and_f64(range.start as f64, range.end as f64)
        .map_err(|error| io("read", key, &error))?;
    let buffer: js_sys::ArrayBuffer = wait(part.array_buffer(), "read", key).await?;
    Ok(js_sys::Uint8Array::new(&buffer).to_vec())
}

/// Ending of a file until all of it is written.
const HALF: &str = ".new";

/// Everything the page keeps: models, data and runs.
#[derive(Clone, Debug)]
pub struct Opfs {
    root: FileSystemDirectoryHandle,
}

/// Whether folders and files on the way are made.
#[derive(Clone, Copy, PartialEq)]
enum Missing {
    Create,
    Report,
}

impl Opfs {
    /// Opens it.
    ///
    /// # Errors
    /// A browser, or a private window, without such a file system.
    pub async fn open() -> Result<Self> {
        let root =
            wait(scope().navigator().storage().get_directory(), "open", "the browser's storage").await?;
        Ok(Self { root })
    }

    /// A handle of a stored file, for saving it elsewhere.
    ///
    /// # Errors
    /// No such file.
    pub async fn file(&self, key: &str) -> Result<File> {
        match self.handle(key, Missing::Report).await? {
            Some(handle) => wait(handle.get_file(), "read", key).await,
            None => Err(missing(key)),
        }
    }

    async fn folder(&self, path: &str, missing: Missing) -> Result<Option<FileSystemDirectoryHandle>> {
        let options = FileSystemGetDirectoryOptions::new();
        options.set_create(missing == Missing::Create);
        let mut folder = self.root.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let found = wait(folder.get_directory_handle_with_options(part, &options), "open", path).await;
            match found {
                Ok(next) => folder = next,
                Err(_) if missing == Missing::Report => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(folder))
    }

    async fn handle(&self, key: &str, missing: Missing) -> Result<Option<FileSystemFileHandle>> {
        let (path, name) = split(key);
        let Some(folder) = self.folder(path, missing).await? else { return Ok(None) };
        let options = FileSystemGetFileOptions::new();
        options.set_create(missing == Missing::Create);
        match wait(folder.get_file_handle_with_options(name, &options), "open", key).await {
            Ok(handle) => Ok(Some(handle)),
            Err(_) if missing == Missing::Report => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a file for writing, made if need be.
    async fn access(&self, key: &str) -> Result<Access> {
        let Some(handle) = self.handle(key, Missing::Create).await? else { return Err(missing(key)) };
        Ok(Access { handle: wait(handle.create_sync_access_handle(), "open", key).await?, key: key.into() })
    }

    /// Every key that begins with `prefix`, also of what a crash left half written.
    async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let (path, _) = split(prefix);
        let mut keys = Vec::new();
        let mut folders = Vec::new();
        if let Some(folder) = self.folder(path, Missing::Report).await? {
            folders.push((if path.is_empty() { String::new() } else { format!("{path}/") }, folder));
        }
        while let Some((path, folder)) = folders.pop() {
            let entries = folder.values();
            loop {
                let next = entries.next().map_err(|error| io("list", &path, &error))?;
                let next: js_sys::IteratorNext = wait(next, "list", &path).await?;
                if next.done() {
                    break;
                }
                let entry: FileSystemHandle = next.value().unchecked_into();
                let key = format!("{path}{}", entry.name());
                match entry.kind() {
                    FileSystemHandleKind::Directory => {
                        folders.push((format!("{key}/"), entry.unchecked_into()))
                    }
                    _ => keys.push(key),
                }
            }
        }
        keys.retain(|key| key.starts_with(prefix));
        keys.sort();
        Ok(keys)
    }

    /// Removes what a crash left half written.
    ///
    /// # Errors
    /// What the browser reports.
    pub async fn sweep(&self) -> Result<()> {
        for key in self.keys("").await?.iter().filter(|key| key.ends_with(HALF)) {
            self.remove(key).await?;
        }
        Ok(())
    }

    async fn move_to(&self, from: &str, to: &str) -> Result<()> {
        let handle = self.handle(from, Missing::Report).await?.ok_or_else(|| missing(from))?;
        let (path, name) = split(to);
        let Some(folder) = self.folder(path, Missing::Create).await? else { return Err(missing(path)) };
        // Not in web-sys: browsers have it for private files only.
        let failed = |error: JsValue| io("rename", from, &error);
        let method: js_sys::Function =
            js_sys::Reflect::get(&handle, &"move".into()).map_err(failed)?.unchecked_into();
        let promise = method.call2(&handle, &folder, &name.into()).map_err(failed)?;
        wait::<JsValue>(promise.unchecked_into(), "rename", from).await?;
        Ok(())
    }
}

fn missing(key: &str) -> Error {
    Error::input(key, "no such file", "an existing file")
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("", key))
}

/// A file opened for writing; closed when dropped, without which nobody else could open it.
struct Access {
    handle: FileSystemSyncAccessHandle,
    key: String,
}

impl Access {
    fn write_at(&self, bytes: &[u8], at: f64) -> Result<()> {
        let failed = |error: JsValue| io("write", &self.key, &error);
        let options = FileSystemReadWriteOptions::new();
        options.set_at(at);
        let written = self.handle.write_with_u8_array_and_options(bytes, &options).map_err(failed)?;
        if written as usize != bytes.len() {
            let problem =
                format!("{written} of {} bytes were written; {}", bytes.len(), crate::js::WHEN_FULL);
            return Err(io("write", &self.key, &problem.into()));
        }
        self.handle.flush().map_err(failed)
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl Store for Opfs {
    async fn size(&self, key: &str) -> Result<Option<u64>> {
        match self.handle(key, Missing::Report).await? {
            None => Ok(None),
            Some(handle) => {
                let file: File = wait(handle.get_file(), "read", key).await?;
                Ok(Some(file.size() as u64))
            }
        }
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        read_blob(self.file(key).await?.as_ref(), key, range).await
    }

    async fn write(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let new = format!("{key}{HALF}");
        let written = async {
            let access = self.access(&new).await?;
            access.handle.truncate_with_f64(0.0).map_err(|error| io("write", &new, &error))?;
            access.write_at(bytes, 0.0)
        };
        if let Err(error) = written.await {
            // In a full store even a part is too much.
            _ = self.remove(&new).await;
            return Err(error);
        }
        self.move_to(&new, key).await
    }

    async fn append(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let access = self.access(key).await?;
        let end = access.handle.get_size().map_err(|error| io("write", key, &error))?;
        access.write_at(bytes, end)
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.move_to(from, to).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut keys = self.keys(prefix).await?;
        // What a crash left half written is nobody's.
        keys.retain(|key| !key.ends_with(HALF));
        Ok(keys)
    }

    async fn remove(&self, key: &str) -> Result<()> {
        let (path, name) = split(key);
        let Some(folder) = self.folder(path, Missing::Report).await? else { return Ok(()) };
        if self.handle(key, Missing::Report).await?.is_none() {
            return Ok(());
        }
        wait::<JsValue>(folder.remove_entry(name), "remove", key).await.map(|_| ())
    }
}
