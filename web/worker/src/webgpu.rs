//! The browser's GPU, acquired and tried out.

use crate::js;
use attune::protocol::{DeviceLimits, DeviceView};
use attune::{device, ops};

/// The GPU, once it computed like the CPU; else why it is not used.
pub async fn try_out() -> Result<DeviceView, String> {
    let limits = device::acquire().await.map_err(|error| error.to_string())?;
    let device = device::open("webgpu").map_err(|error| error.to_string())?;
    ops::self_test(&device).await.map_err(|error| error.to_string())?;
    let name = js::global("gpuName").filter(|name| !name.is_empty());
    Ok(DeviceView {
        name: "webgpu".into(),
        description: name.unwrap_or_else(|| "a GPU that the browser does not name".into()),
        reason: None,
        limits: Some(DeviceLimits {
            max_buffer_bytes: limits.max_buffer_bytes,
            max_tensor_bytes: limits.max_tensor_bytes,
        }),
    })
}
