//! The browser's GPU, acquired and tried out.

use crate::{faults, post};
use attune::{device, ops};

/// What the browser calls its GPU, once it computed like the CPU; else why it is not used.
pub async fn try_out() -> Result<String, String> {
    let navigator = post::scope().navigator();
    match js_sys::Reflect::get(&navigator, &"gpu".into()) {
        Ok(gpu) if gpu.is_object() => {}
        _ => return Err("this browser has no WebGPU".into()),
    }
    let description = device::acquire().await.map_err(|error| error.to_string())?;
    let device = device::open("webgpu").map_err(|error| error.to_string())?;
    ops::self_test(&device).await.map_err(|error| error.to_string())?;
    match faults::take() {
        None => Ok(description),
        Some(fault) => Err(format!("the GPU failed its self-test: {fault}")),
    }
}
