//! An adapter by its folder.

use attune::models::Adapter;
use attune::{Result, native};
use std::path::Path;

/// Reads the adapter in `folder`, as attune and PEFT save it.
pub fn load(folder: &str) -> Result<Adapter> {
    let (store, key) = native::folder_store(Path::new(folder))?;
    native::block_on(Adapter::load(&store, &key))
}
