//! Results that take long to make and follow from their input alone, kept beside the builds.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs;

/// What `make` made of `input` when it was last asked, or makes now. `how` names the way: another way is another
/// result.
///
/// # Errors
/// What `make` reports; a cache that cannot be written.
pub fn remembered(how: &str, input: &[u8], make: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let folder = crate::cache::target_dir().join("made");
    let digest = Sha256::new().chain_update(how).chain_update([0]).chain_update(input).finalize();
    let file = folder.join(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    if let Ok(bytes) = fs::read(&file) {
        return Ok(bytes);
    }
    let bytes = make()?;
    fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    // A file of this name is whole: it gets it last.
    let partial = file.with_extension(format!("{}.partial", std::process::id()));
    fs::write(&partial, &bytes).with_context(|| format!("could not write {}", partial.display()))?;
    fs::rename(&partial, &file).with_context(|| format!("could not rename {}", partial.display()))?;
    Ok(bytes)
}
