//! Where to compute: the GPU that the browser gives, if it computes rightly, else the CPU.

use crate::{post, webgpu};
use attune::protocol::DeviceView;

/// The device for this worker. `?device=cpu` behind the worker's address leaves the GPU alone.
pub async fn choose() -> DeviceView {
    let search = post::scope().location().search();
    if search.split(['?', '&']).any(|part| part == "device=cpu") {
        return cpu("the CPU was asked for");
    }
    match webgpu::try_out().await {
        Ok(description) => DeviceView { name: "webgpu".into(), description, reason: None },
        Err(reason) => cpu(&reason),
    }
}

fn cpu(reason: &str) -> DeviceView {
    let description = "WebAssembly with SIMD, one thread".into();
    DeviceView { name: "cpu".into(), description, reason: Some(reason.into()) }
}
