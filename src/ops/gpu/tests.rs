//! Kernels on a device, compared with the CPU's.

use super::SHARES;
use super::matmul::cooperative::nearest_bf16;
use crate::ops::testing::{assert_close, random};
use crate::ops::{Mask, attention, matmul, rotate_half};
use burn::backend::DispatchDevice;
use burn::tensor::{Device, Tensor};
use burn_cubecl::cubecl::{self, prelude::*};
use half::bf16;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// Runs a test with [`SHARES`], which is one for the process.
fn sharing(test: impl FnOnce()) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    SHARES.store(true, Ordering::Relaxed);
    test();
    SHARES.store(false, Ordering::Relaxed);
}

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
    round::launch(&client, CubeCount::Static(n.div_ceil(64) as u32, 1, 1), CubeDim::new_1d(64), from, to);
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
        let [cos, sin] = [angles.clone().cos(), angles.clone().sin()].map(|half| half.to_device(device));
        rotate_half(x.clone().to_device(device), &cos, &sin)
    };
    let found: Tensor<4> = turned(&gpu).to_device(&Device::flex());
    assert_close(found, turned(&Device::flex()), 1e-6);
}

#[test]
fn workgroups_that_share_compute_like_the_cpu() {
    sharing(|| {
        let gpu = gpu();
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
    });
}

/// The result of an attention and its gradients.
fn attended(case: &Case, device: &Device, is_in_one: bool) -> [Tensor<4>; 4] {
    let Case { batch, kv_heads, group, d, .. } = *case;
    let mask = (case.mask)(device);
    let [_, queries, keys] = mask.dims();
    let to = |x: Tensor<4>| x.to_device(device).autodiff().require_grad();
    let q = to(random([batch, kv_heads, group * queries, d], 1));
    let k = to(random([batch, kv_heads, keys, d], 2));
    // As a projection gives them: heads side by side.
    let v = to(random([batch, keys, kv_heads, d], 3));
    let turned = v.clone().swap_dims(1, 2);
    assert_eq!(crate::ops::attention::in_one(&q, &k, &mask).is_some(), is_in_one, "{case:?}");
    let y = attention(q.clone(), k.clone(), turned, &mask, case.scale);
    let grads = (y.clone() * random::<2>(y.dims(), 4).to_device(device)).sum().backward();
    let [d_q, d_k, d_v] = [q, k, v].map(|x| x.grad(&grads).expect("tracked"));
    let y = y.inner().reshape([batch, queries, kv_heads * group, d]);
    [y, d_q, d_k, d_v].map(|x| x.to_device(&Device::flex()))
}

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    kv_heads: usize,
    group: usize,
    d: usize,
    scale: f32,
    mask: fn(&Device) -> Mask,
}

/// Rows of several texts and padding, one of them longer than a tile.
fn packed(device: &Device) -> Mask {
    let texts = [[75usize, 20, 1, 4], [3, 60, 37, 0]];
    let (mut positions, mut segments) = (Vec::new(), Vec::new());
    for row in texts {
        let start = positions.len();
        for (text, &n) in row.iter().enumerate() {
            positions.extend(0..n as i32);
            segments.extend(std::iter::repeat_n(text as i32 + 1, n));
        }
        positions.resize(start + 103, 0);
        segments.resize(start + 103, 0);
    }
    Mask::causal(&positions, &segments, 2, None, device)
}

fn causal<const N: usize, const WINDOW: usize>(device: &Device) -> Mask {
    let (positions, segments): (Vec<i32>, _) = ((0..N as i32).collect(), vec![1; N]);
    Mask::causal(&positions, &segments, 1, (WINDOW > 0).then_some(WINDOW), device)
}

#[test]
fn flash_attention_computes_like_the_cpu() {
    let case = |batch, kv_heads, group, d, mask| Case { batch, kv_heads, group, d, scale: 0.3, mask };
    let wide = |d, mask| Case { scale: 0.1, ..case(1, 1, 1, d, mask) };
    let cases = [
        case(2, 1, 3, 8, packed),
        case(2, 1, 2, 20, packed),
        case(1, 1, 2, 64, causal::<130, 0>),
        // Tiles that all queries see between those that some see, and those that none sees.
        case(1, 2, 1, 8, causal::<260, 150>),
        case(1, 1, 3, 72, causal::<64, 40>),
        case(2, 1, 1, 20, |device| Mask::continuation(100, 40, &[0, 90], None, device)),
        case(1, 1, 2, 8, |device| Mask::continuation(150, 70, &[3], Some(65), device)),
        // Scores whose exponentials would be infinite.
        Case { scale: 10.0, ..case(1, 1, 1, 8, causal::<130, 0>) },
        wide(128, causal::<70, 0>),
        // Keys and values in two parts, the second cut.
        wide(132, causal::<66, 0>),
        Case { scale: 0.1, ..case(2, 2, 2, 132, packed) },
        wide(256, causal::<65, 0>),
    ];
    sharing(|| {
        let gpu = gpu();
        for case in cases {
            let (found, expected) = (attended(&case, &gpu, true), attended(&case, &Device::flex(), true));
            for (i, (found, expected)) in found.into_iter().zip(expected).enumerate() {
                assert_close(found, expected, if i == 0 { 1e-5 } else { 1e-4 });
            }
        }
        // What these kernels do not serve takes the steps, with the same ranges.
        for case in
            [wide(260, causal::<40, 0>), case(1, 1, 1, 6, causal::<40, 0>), case(1, 2, 2, 8, causal::<9, 0>)]
        {
            let (found, expected) = (attended(&case, &gpu, false), attended(&case, &Device::flex(), true));
            for (found, expected) in found.into_iter().zip(expected) {
                assert_close(found, expected, 1e-4);
            }
        }
    });
}
