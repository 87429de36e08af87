//! The same functions as CubeCL kernels for adapters that are programs (SwiftShader, llvmpipe): each unit works alone.
//!
//! Such an adapter runs a workgroup's barriers as coroutines, so that burn's kernels, tiled through shared memory as
//! suits real hardware, crawl there. A real GPU keeps burn's.

#![expect(
    unsafe_code,
    reason = "a kernel's own checks of its indices would double what SwiftShader is slowest at"
)]

mod cross_entropy;
mod matmul;
mod norm;
mod rope;
mod softmax;

pub(super) use matmul::matmul;

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Shape, Tensor};
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

/// Units of a workgroup: enough to fill the lanes of a processor, few enough that small work spreads over cores.
const UNITS: u32 = 16;

/// Whether these kernels serve this tensor.
pub(super) fn serves<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && serves_device(&x.device())
}

/// Whether these kernels serve this device.
pub(super) fn serves_device(device: &Device) -> bool {
    let device = device.clone().without_autodiff();
    matches!(device.as_dispatch(), DispatchDevice::Cube(_)) && crate::device::is_software(&device)
}

/// A dense tensor around memory that a kernel is about to fill.
fn empty_like(x: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, x.dtype)
}

/// Workgroups for one unit a row.
fn one_each(n_rows: usize) -> (CubeCount, CubeDim) {
    (CubeCount::Static((n_rows as u32).div_ceil(UNITS), 1, 1), CubeDim::new_1d(UNITS))
}
