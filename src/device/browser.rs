//! WebGPU in a browser, where a device is acquired asynchronously and only once.

use crate::{Error, Result};
use burn::tensor::Device;
use std::sync::OnceLock;

static ACQUIRED: OnceLock<(Device, Limits)> = OnceLock::new();

/// What the browser's GPU takes at most, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One buffer.
    pub max_buffer_bytes: u64,
    /// One tensor: what a kernel can be given of a buffer.
    pub max_tensor_bytes: u64,
}

/// Asks the browser for its GPU; from then on it is `webgpu`.
///
/// # Errors
/// [`Error::Device`] where the browser has none to give.
pub async fn acquire() -> Result<Limits> {
    let refused = |problem: String| Error::Device {
        device: "webgpu".into(),
        problem,
        advice: "use the CPU, or a browser and machine with WebGPU".into(),
    };
    let options = Device::wgpu_options();
    let (device, setup) =
        options.init_with_setup_async().await.map_err(|error| refused(error.to_string()))?;
    let granted = setup.device.limits();
    let limits = Limits {
        max_buffer_bytes: granted.max_buffer_size,
        max_tensor_bytes: granted.max_buffer_size.min(granted.max_storage_buffer_binding_size),
    };
    // A second acquisition is refused above, so the cell is empty.
    _ = ACQUIRED.set((device, limits));
    Ok(limits)
}

/// The acquired device, if there is one.
pub fn acquired() -> Vec<Device> {
    ACQUIRED.get().map(|(device, _)| device.clone()).into_iter().collect()
}

/// Bytes of the largest tensor that a device takes, where it is the acquired one.
pub fn max_tensor_bytes(device: &Device) -> Option<u64> {
    let (acquired, limits) = ACQUIRED.get()?;
    (device == acquired).then_some(limits.max_tensor_bytes)
}
