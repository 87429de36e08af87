//! How exactly GPUs multiply.

use crate::config::Precision;
use crate::{Error, Result};
use burn::tensor::Device;
use std::sync::atomic::{AtomicBool, Ordering};

/// One for the process, as `torch.set_float32_matmul_precision` has it: a product knows its tensors and nothing else.
static IS_BF16: AtomicBool = AtomicBool::new(false);

/// Sets how GPUs multiply from here on. `name` is the device's, for errors.
///
/// # Errors
/// [`Error::Device`] for bf16 on a device without it.
pub fn set_precision(precision: Precision, device: &Device, name: &str) -> Result<()> {
    if precision == Precision::Bf16 && !has_bf16(device) {
        return Err(Error::Device {
            device: name.into(),
            problem: "it has no matrix products of bf16".into(),
            advice: "leave --precision at f32, or choose a GPU with tensor cores".into(),
        });
    }
    IS_BF16.store(precision == Precision::Bf16, Ordering::Relaxed);
    Ok(())
}

/// As it was set last.
pub(super) fn precision() -> Precision {
    if IS_BF16.load(Ordering::Relaxed) { Precision::Bf16 } else { Precision::F32 }
}

#[cfg(feature = "gpu")]
fn has_bf16(device: &Device) -> bool {
    use burn::backend::DispatchDevice;
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(device) => super::gpu::has_bf16(&device.client()),
        _ => false,
    }
}

#[cfg(not(feature = "gpu"))]
fn has_bf16(_: &Device) -> bool {
    false
}
