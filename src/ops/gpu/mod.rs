//! The same functions as CubeCL kernels.
//!
//! On a GPU a workgroup shares a row, or a tile of a product. An adapter that is a program (SwiftShader, llvmpipe) runs
//! a workgroup's barriers as coroutines and crawls: there each unit works alone.

#![expect(
    unsafe_code,
    reason = "a kernel's own checks of its indices would double what SwiftShader is slowest at"
)]

mod adamw;
mod cross_entropy;
mod flash;
mod gated;
mod matmul;
mod norm;
mod packed;
mod rope;
mod softmax;
mod square_sum;

pub(super) use flash::{serves as serves_flash, serves_device as shares_memory};
pub(super) use matmul::has_bf16;

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise, prelude::*};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

/// Units of a workgroup on an adapter that is a program: enough to fill the lanes of a processor, few enough that small
/// work spreads over cores.
const SOFTWARE_UNITS: u32 = 16;
/// Units of a workgroup elsewhere, where each has work of its own.
const UNITS: u32 = 128;
/// Values of a row that a unit has at least, before the row is shared.
const VALUES_PER_UNIT: usize = 4;
/// Workgroups that fit along one axis everywhere.
const MOST_WORKGROUPS: usize = 65_535;
/// Units that share a row: a plane at least, and what every device takes at most.
const SHARING: [usize; 2] = [32, 256];

/// Whether these kernels serve this tensor.
pub(super) fn serves<const D: usize>(x: &Tensor<D>) -> bool {
    let device = x.device().without_autodiff();
    x.dtype() == DType::F32 && matches!(device.as_dispatch(), DispatchDevice::Cube(_))
}

/// Makes an adapter that is a program take the kernels of those that are none.
#[cfg(test)]
static SHARES: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Whether the device is a program on the CPU, as SwiftShader and llvmpipe are.
fn is_software(client: &Client) -> bool {
    #[cfg(test)]
    if SHARES.load(std::sync::atomic::Ordering::Relaxed) {
        return false;
    }
    client.properties().identity.physical.is_none()
}

/// A dense tensor around memory that a kernel is about to fill.
fn empty_like(x: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, x.dtype)
}

/// Elements from the first to the last.
fn furthest(x: &CubeTensor) -> usize {
    x.meta.shape().iter().zip(x.meta.strides().iter()).map(|(&n, &step)| n.saturating_sub(1) * step).sum()
}

/// Workgroups for one unit each of `n` things, of which there may be more than fit along one axis.
fn one_each(client: &Client, n: usize) -> (CubeCount, CubeDim) {
    let units = CubeDim::new_1d(if is_software(client) { SOFTWARE_UNITS } else { UNITS });
    (calculate_cube_count_elemwise(client, n, units), units)
}

/// Workgroups for `n` rows of `d` values, and how many units share a row.
fn rows_of(client: &Client, n: usize, d: usize) -> (CubeCount, CubeDim, usize) {
    if is_software(client) {
        let (count, units) = one_each(client, n);
        return (count, units, 1);
    }
    let [fewest, most] = SHARING;
    let sharing = (d / VALUES_PER_UNIT).next_power_of_two().clamp(fewest, most);
    let units = CubeDim::new_1d(sharing as u32);
    (calculate_cube_count_elemwise(client, n * sharing, units), units, sharing)
}

/// The row of this unit. Those beyond the last do its work again, so that nobody misses at a barrier.
#[cube]
fn row_of(n_rows: u32, #[comptime] sharing: usize) -> usize {
    let row = if comptime!(sharing == 1) { ABSOLUTE_POS } else { CUBE_POS };
    min(row, n_rows as usize - 1)
}

/// The first value of this unit in its row; it has every `sharing`-th.
#[cube]
fn first_of(#[comptime] sharing: usize) -> usize {
    if comptime!(sharing == 1) { 0usize.runtime() } else { UNIT_POS as usize }
}

/// How values of several units become one.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Fold {
    Sum,
    Largest,
}

/// The sum of what the units of a row have.
#[cube]
fn total(mine: f32, #[comptime] sharing: usize) -> f32 {
    folded(mine, sharing, Fold::Sum)
}

/// The largest of what the units of a row have.
#[cube]
fn largest_of(mine: f32, #[comptime] sharing: usize) -> f32 {
    folded(mine, sharing, Fold::Largest)
}

#[cube]
fn folded(mine: f32, #[comptime] sharing: usize, #[comptime] fold: Fold) -> f32 {
    if comptime!(sharing == 1) {
        mine
    } else {
        let unit = UNIT_POS as usize;
        let mut all = Shared::<[f32]>::new_slice(sharing);
        all[unit] = mine;
        sync_cube();
        #[unroll]
        for step in 0..comptime!(sharing.ilog2() as usize) {
            let half = comptime!(sharing >> (step + 1));
            if unit < half {
                let (value, other) = (all[unit], all[unit + half]);
                all[unit] = match comptime!(fold) {
                    Fold::Sum => value + other,
                    Fold::Largest => max(value, other),
                };
            }
            sync_cube();
        }
        all[0]
    }
}

#[cfg(all(test, feature = "webgpu"))]
mod tests;
