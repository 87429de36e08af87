//! Files that the user chose or dropped, read in place.

use crate::js;
use attune::store::Store;
use attune::{Error, Result};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use web_sys::{Blob, File};

/// Handles by key; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Attached(Rc<RefCell<BTreeMap<String, File>>>);

impl Attached {
    /// Makes `files` readable as `folder/NAME`, in place of what the folder held.
    pub fn replace(&self, folder: &str, files: impl Iterator<Item = File>) {
        let prefix = format!("{folder}/");
        let mut held = self.0.borrow_mut();
        held.retain(|key, _| !key.starts_with(&prefix));
        held.extend(files.map(|file| (format!("{prefix}{}", file.name()), file)));
    }

    fn file(&self, key: &str) -> Result<File> {
        let file = self.0.borrow().get(key).cloned();
        file.ok_or_else(|| Error::input(key, "no such file", "a file that was chosen"))
    }
}

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
        .map_err(|error| js::io("read", key, &error))?;
    let buffer: js_sys::ArrayBuffer = js::wait(part.array_buffer(), "read", key).await?;
    Ok(js_sys::Uint8Array::new(&buffer).to_vec())
}

fn read_only(key: &str) -> Error {
    Error::input(key, "a chosen file is only read", "another key")
}

impl Store for Attached {
    async fn size(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.0.borrow().get(key).map(|file| file.size() as u64))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        read_blob(self.file(key)?.as_ref(), key, range).await
    }

    async fn write(&self, key: &str, _: &[u8]) -> Result<()> {
        Err(read_only(key))
    }

    async fn append(&self, key: &str, _: &[u8]) -> Result<()> {
        Err(read_only(key))
    }

    async fn rename(&self, from: &str, _: &str) -> Result<()> {
        Err(read_only(from))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.0.borrow().keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    async fn remove(&self, key: &str) -> Result<()> {
        Err(read_only(key))
    }
}
