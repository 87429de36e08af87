//! Does a device take every tensor of a model? A browser's GPU bounds what a kernel can be given at once.

use crate::store::{Store, model_files::ModelFiles, shortened};
use crate::{Error, Result};

/// Bytes of a value as it is computed with.
const VALUE_BYTES: u64 = 4;

/// Refuses a model with a tensor larger than `max_bytes` on a device, before any is read.
///
/// # Errors
/// [`Error::Device`] that names the largest.
pub fn refuse_too_large<S: Store>(files: &ModelFiles<'_, S>, device: &str, max_bytes: u64) -> Result<()> {
    let bytes = |name: &&str| {
        let shape = files.info(name).map(|info| info.shape.as_slice()).unwrap_or_default();
        shape.iter().fold(VALUE_BYTES, |bytes, &n| bytes.saturating_mul(n as u64))
    };
    let Some(largest) = files.tensor_names().into_iter().max_by_key(bytes) else { return Ok(()) };
    let n_bytes = bytes(&largest);
    if n_bytes <= max_bytes {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(Error::Device {
        device: device.into(),
        problem: format!(
            "the model's tensor {} takes {} MiB, and this GPU takes at most {} MiB at once",
            shortened(largest),
            mib(n_bytes),
            max_bytes >> 20
        ),
        advice: "choose a smaller model, or compute on the CPU".into(),
    })
}
