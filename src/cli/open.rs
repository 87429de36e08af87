//! A model by its name, ready to be read.

use super::progress::Progress;
use attune::native::{self, FileStore};
use attune::store::model_files::ModelFiles;
use attune::{Error, Result};

/// Where a model lies.
pub struct Opened {
    store: FileStore,
    key: String,
}

/// Finds a model, fetching it where needed.
pub fn model(name: &str, progress: &mut Progress) -> Result<Opened> {
    if name.is_empty() {
        return Err(Error::input("--model", "not given", "a folder, a GGUF file, a hub id or an alias"));
    }
    let (store, key) = native::resolve_model(name, &mut |event| progress.event(&event))?;
    progress.finish();
    Ok(Opened { store, key })
}

impl Opened {
    /// The model's files, headers checked.
    pub fn files(&self) -> Result<ModelFiles<'_, FileStore>> {
        native::block_on(ModelFiles::open(&self.store, &self.key))
    }
}
