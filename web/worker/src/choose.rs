//! Where to compute: the GPU, if `worker.js` found one worth trying and it computes rightly, else the CPU.

use crate::{faults, js, webgpu};
use attune::protocol::DeviceView;

/// The device for this worker.
pub async fn choose() -> DeviceView {
    if let Some(reason) = js::global("whyNoGpu") {
        return cpu(&reason);
    }
    match (webgpu::try_out().await, faults::take()) {
        (Ok(device), None) => device,
        (Ok(_), Some(fault)) => cpu(&format!("the GPU failed its self-test: {fault}")),
        (Err(reason), _) => cpu(&reason),
    }
}

fn cpu(reason: &str) -> DeviceView {
    let description = if cfg!(feature = "relaxed-simd") {
        "WebAssembly with relaxed SIMD, one thread"
    } else {
        "WebAssembly with SIMD, one thread"
    };
    DeviceView {
        name: "cpu".into(),
        description: description.into(),
        reason: Some(reason.into()),
        limits: None,
    }
}
