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
mod matmul;
mod norm;
mod packed;
mod rope;
mod softmax;
mod square_sum;

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
/// Units that share a row: a plane at least, and what every device takes at most.
const SHARING: [usize; 2] = [32, 256];

/// Whether these kernels serve this tensor.
pub(super) fn serves<const D: usize>(x: &Tensor<D>) -> bool {
    let device = x.device().without_autodiff();
    x.dtype() == DType::F32 && matches!(device.as_dispatch(), DispatchDevice::Cube(_))
}

/// Whether the device is a program on the CPU, as SwiftShader and llvmpipe are.
fn is_software(client: &Client) -> bool {
    #[cfg(test)]
    if tests::SHARES.load(std::sync::atomic::Ordering::Relaxed) {
        return false;
    }
    client.properties().identity.physical.is_none()
}

/// A dense tensor around memory that a kernel is about to fill.
fn empty_like(x: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, x.dtype)
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

/// The sum of what the units of a row have.
#[cube]
fn total(mine: f32, #[comptime] sharing: usize) -> f32 {
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
                all[unit] += all[unit + half];
            }
            sync_cube();
        }
        all[0]
    }
}

/// The largest of what the units of a row have.
#[cube]
fn largest_of(mine: f32, #[comptime] sharing: usize) -> f32 {
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
                all[unit] = max(all[unit], all[unit + half]);
            }
            sync_cube();
        }
        all[0]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    /// Makes an adapter that is a program take the kernels of those that are none.
    pub(super) static SHARES: AtomicBool = AtomicBool::new(false);

    #[cfg(feature = "webgpu")]
    mod with_a_device {
        use super::super::matmul::cooperative::nearest_bf16;
        use super::SHARES;
        use crate::ops::testing::{assert_close, random};
        use crate::ops::{matmul, rotate_half};
        use burn::backend::DispatchDevice;
        use burn::tensor::{Device, Tensor};
        use burn_cubecl::cubecl::{self, prelude::*};
        use half::bf16;
        use std::sync::atomic::Ordering;

        fn gpu() -> Device {
            let name = std::env::var("ATTUNE_TEST_DEVICE").unwrap_or_else(|_| "webgpu".into());
            crate::device::open(&name).expect("a build for GPUs is tested with a device")
        }

        #[cube(launch)]
        fn round(x: &[f32], y: &mut [f32]) {
            if ABSOLUTE_POS < x.len() {
                y[ABSOLUTE_POS] = nearest_bf16(x[ABSOLUTE_POS]);
            }
        }

        #[test]
        fn values_are_rounded_to_the_nearest_bf16() {
            let gpu = gpu();
            let DispatchDevice::Cube(device) = gpu.as_dispatch() else { panic!("a GPU") };
            let client = device.client();
            // Halfway from below and above, to even and to odd; both signs, the smallest and the largest.
            let mut bits = vec![
                0,
                1,
                0x7F80_0000,
                0x7FC0_0000,
                0x7F80_0001,
                0x7FFF_FFFF,
                0x3F80_8000,
                0x3F81_8000,
                0x3F80_7FFF,
                0x3F80_8001,
                0x7F7F_FFFF,
            ];
            bits.extend((0..500u32).map(|i| i.wrapping_mul(0x9e37_79b9) & 0x7F7F_FFFF));
            bits.extend(bits.clone().iter().map(|bits| bits | 0x8000_0000));
            let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            let n = values.len();
            let (x, y) = (client.create_from_slice(bytemuck::cast_slice(&values)), client.empty(4 * n));
            // SAFETY: both have n values.
            let [from, to] = [&x, &y].map(|x| unsafe { BufferArg::from_raw_parts(x.clone(), n) });
            round::launch(
                &client,
                CubeCount::Static(n.div_ceil(64) as u32, 1, 1),
                CubeDim::new_1d(64),
                from,
                to,
            );
            let found = client.read_one(y).expect("read back");
            let found: &[f32] = bytemuck::cast_slice(&found);
            for (&value, &found) in values.iter().zip(found) {
                let expected = bf16::from_f32(value).to_f32();
                if value.is_nan() {
                    assert!(found.is_nan(), "a NaN stays one");
                    continue;
                }
                // What is smaller than normal numbers may be flushed.
                assert!(found == expected || !value.is_normal(), "{value:e}: {found:e} is not {expected:e}");
            }
        }

        /// Each kernel against the CPU's is the self-test's work; the rest is for what its sizes do not reach.
        #[test]
        fn kernels_compute_like_the_cpu() {
            let gpu = gpu();
            crate::native::block_on(crate::ops::self_test(&gpu)).expect("as the device has it");
            // More rows than one axis of workgroups holds.
            let (x, angles) = (random::<4>([1, 4096, 8, 80], 1), random::<3>([1, 4096, 40], 2));
            let turned = |device: &Device| {
                let [cos, sin] =
                    [angles.clone().cos(), angles.clone().sin()].map(|half| half.to_device(device));
                rotate_half(x.clone().to_device(device), &cos, &sin)
            };
            let found: Tensor<4> = turned(&gpu).to_device(&Device::flex());
            assert_close(found, turned(&Device::flex()), 1e-6);

            SHARES.store(true, Ordering::Relaxed);
            crate::native::block_on(crate::ops::self_test(&gpu)).expect("workgroups that share");
            // Each tile, cut and whole, beyond its edges, with factors as they lie and turned.
            for [batch, m, k, n] in
                [[1, 2100, 40, 2050], [2, 70, 300, 130], [3, 300, 1000, 7], [1, 5, 700, 200], [1, 1, 64, 33]]
            {
                let (a, b) = (random::<3>([batch, m, k], 1), random::<3>([batch, n, k], 2));
                let (at, bt) = (random::<3>([batch, k, m], 3), random::<3>([batch, k, n], 4));
                for (lhs, rhs) in [(&a, &bt), (&a, &b), (&at, &bt), (&at, &b)] {
                    let product = |device: &Device| {
                        let [l, r] = [lhs, rhs].map(|x| x.clone().to_device(device));
                        let l = if l.dims()[1] == m { l } else { l.swap_dims(1, 2) };
                        let r = if r.dims()[1] == k { r } else { r.swap_dims(1, 2) };
                        matmul(l, r)
                    };
                    let found = product(&gpu).to_device(&Device::flex());
                    assert_close(found, product(&Device::flex()), 1e-5 * (k as f32).sqrt());
                }
            }
            SHARES.store(false, Ordering::Relaxed);
        }
    }
}
