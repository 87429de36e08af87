//! Stands in where the worker was built for the CPU only.

use attune::protocol::DeviceView;

/// Why there is no GPU.
pub async fn try_out() -> Result<DeviceView, String> {
    Err("this page was built without WebGPU".into())
}
