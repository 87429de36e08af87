//! An adapter by its folder.

use attune::models::Adapter;
use attune::native::{self, FileStore};
use attune::{Error, Result};
use std::path::Path;

/// Reads the adapter in `folder`, as attune and PEFT save it.
pub fn load(folder: &str) -> Result<Adapter> {
    let path = Path::new(folder);
    let full = path.canonicalize().map_err(|source| Error::io("open", path, source))?;
    // The store is the folder around it, so that messages name the folder.
    match (full.parent(), full.file_name().and_then(|name| name.to_str())) {
        (Some(around), Some(name)) => native::block_on(Adapter::load(&FileStore::new(around), name)),
        _ => Err(Error::input(folder, "has a name that is not Unicode, or none", "another name")),
    }
}
