//! WebGPU in a browser, where a device is acquired asynchronously and only once.

use crate::{Error, Result};
use burn::tensor::Device;
use std::sync::OnceLock;

static ACQUIRED: OnceLock<Device> = OnceLock::new();

/// Asks the browser for its GPU and returns what the browser calls it; from then on it is `webgpu`.
///
/// # Errors
/// [`Error::Device`] where the browser has none to give.
pub async fn acquire() -> Result<String> {
    let refused = |problem: String| Error::Device {
        device: "webgpu".into(),
        problem,
        advice: "use the CPU, or a browser and machine with WebGPU".into(),
    };
    let options = Device::wgpu_options();
    let (device, setup) =
        options.init_with_setup_async().await.map_err(|error| refused(error.to_string()))?;
    let info = setup.adapter.get_info();
    let parts = [info.name, info.driver].into_iter().filter(|part| !part.is_empty());
    let name = parts.collect::<Vec<_>>().join(", ");
    // A second acquisition is refused above, so the cell is empty.
    _ = ACQUIRED.set(device);
    Ok(if name.is_empty() { "a GPU that the browser does not name".into() } else { name })
}

/// The acquired device, if there is one.
pub fn acquired() -> Vec<Device> {
    ACQUIRED.get().cloned().into_iter().collect()
}
