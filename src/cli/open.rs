//! A model by its name, ready to be read.

use super::progress::Progress;
use attune::models::Spec;
use attune::native::{self, FileStore};
use attune::store::model_files::ModelFiles;
use attune::{Error, Result};
use std::path::PathBuf;

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
    let (store, key) = native::resolve_model(name, &is_supported, &mut |event| progress.event(&event))?;
    progress.finish();
    Ok(Opened { store, key })
}

/// Whether a model with this `config.json` can be loaded: asked before its weights are fetched.
fn is_supported(config: &serde_json::Value) -> Result<()> {
    Spec::from_config(config).map(drop)
}

impl Opened {
    /// The folder or the file.
    pub fn path(&self) -> Result<PathBuf> {
        if self.key.is_empty() { Ok(self.store.root().to_owned()) } else { self.store.path(&self.key) }
    }

    /// The model's files, headers checked.
    pub fn files(&self) -> Result<ModelFiles<'_, FileStore>> {
        native::block_on(ModelFiles::open(&self.store, &self.key))
    }
}
