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
mod packed;
mod rope;
mod softmax;

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

/// Units of a workgroup: enough to fill the lanes of a processor, few enough that small work spreads over cores.
const UNITS: u32 = 16;

/// Whether these kernels serve this tensor.
pub(super) fn serves<const D: usize>(x: &Tensor<D>) -> bool {
    let device = x.device().without_autodiff();
    x.dtype() == DType::F32
        && matches!(device.as_dispatch(), DispatchDevice::Cube(_))
        && crate::device::is_software(&device)
}

/// A dense tensor around memory that a kernel is about to fill.
fn empty_like(x: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, x.dtype)
}

/// Workgroups for one unit each of `n` things, of which there may be more than fit along one axis.
fn one_each(client: &Client, n: usize) -> (CubeCount, CubeDim) {
    let units = CubeDim::new_1d(UNITS);
    (calculate_cube_count_elemwise(client, n, units), units)
}

#[cfg(test)]
#[cfg(feature = "webgpu")]
mod tests {
    use crate::ops::rotate_half;
    use crate::ops::testing::{assert_close, random};
    use burn::tensor::{Device, Tensor};

    /// Each kernel against the CPU's is the self-test's work; this is for what its sizes do not reach.
    #[test]
    fn there_may_be_more_rows_than_one_axis_of_workgroups_holds() {
        let gpu = crate::device::open("webgpu").expect("a build for WebGPU is tested with a device");
        crate::native::block_on(crate::ops::self_test(&gpu)).expect("it computes like the CPU");
        let (x, angles) = (random::<4>([1, 4096, 8, 80], 1), random::<3>([1, 4096, 40], 2));
        let turned = |device: &Device| {
            let [cos, sin] = [angles.clone().cos(), angles.clone().sin()].map(|half| half.to_device(device));
            rotate_half(x.clone().to_device(device), &cos, &sin)
        };
        let found: Tensor<4> = turned(&gpu).to_device(&Device::flex());
        assert_close(found, turned(&Device::flex()), 1e-6);
    }
}
