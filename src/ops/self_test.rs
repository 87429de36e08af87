//! Does a device compute what the CPU computes? Drivers and kernels are wrong now and then, and say nothing.

use super::precision::precision;
use super::{
    Activation, AdamW, Adapted, Mask, WeightMatrix, attention, gated_activation, gated_low_rank_linear,
    layer_norm, low_rank_linear, rms_norm, rotate_half, softmax_cross_entropy, square_sum,
};
use crate::config::Precision;
use crate::{Error, Result};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Largest difference, relative to the largest value, that two orders of summation explain in f32.
const TOLERANCE: f32 = 1e-3;
/// Largest difference that factors rounded to eight bits explain.
const TOLERANCE_BF16: f32 = 1.5e-2;

/// One operation with its gradients: a name and what it gives on a device, flattened.
type Case = (&'static str, fn(&Device) -> Vec<Tensor<1>>);

const CASES: &[Case] = &[
    ("matmul", matmul),
    ("matmul of a transposed matrix", matmul_transposed),
    ("batched matmul", matmul_batched),
    ("low-rank linear", low_rank),
    ("row selection", selection),
    ("sums", sums),
    ("sum of squares", |device| vec![square_sum(values::<2>([33, 65], 1, device))]),
    ("RMS norm", |device| normed(device, |x, weight, _| rms_norm(x, weight, 1e-5))),
    ("layer norm", |device| normed(device, |x, weight, bias| layer_norm(x, weight, bias, 1e-5))),
    ("rotation", rotation),
    ("attention", attended),
    ("attention in tiles", attended_in_tiles),
    ("gated activation", gate),
    ("gated low-rank linear", gated_linear),
    ("cross-entropy", cross_entropy),
    ("update", update),
];

/// Compares the operations that training consists of, in the precision that was set, with the CPU's, gradients
/// included.
///
/// # Errors
/// [`Error::Device`] that names every operation with another result than the CPU's.
pub async fn self_test(device: &Device) -> Result<()> {
    let tolerance = match precision() {
        Precision::F32 => TOLERANCE,
        Precision::Bf16 => TOLERANCE_BF16,
    };
    let device = device.clone().without_autodiff();
    if super::is_cpu(&device) {
        return Ok(());
    }
    let mut wrong = Vec::new();
    for (name, case) in CASES {
        let found = read(case(&device)).await?;
        let expected = read(case(&Device::flex())).await?;
        let largest = expected.iter().fold(1e-3, |largest: f32, value| largest.max(value.abs()));
        let apart = found.iter().zip(&expected).fold(0.0, |apart: f32, (a, b)| {
            // A NaN is as far apart as can be, and `max` would drop it.
            let difference = (a - b).abs();
            if difference.is_nan() { f32::INFINITY } else { apart.max(difference) }
        });
        if found.len() != expected.len() || apart > tolerance * largest {
            wrong.push(format!("{name} (apart by {:.1e} of the largest value)", apart / largest));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Device {
        device: format!("{device:?}"),
        problem: format!("it computes otherwise than the CPU: {}", wrong.join(", ")),
        advice: "update its driver, or choose another device".into(),
    })
}

async fn read(tensors: Vec<Tensor<1>>) -> Result<Vec<f32>> {
    let values = Tensor::cat(tensors, 0);
    let device = values.device();
    let data = values.into_data_async().await.map_err(|e| e.to_string());
    data.and_then(|data| data.try_into_vec_as::<f32>().map_err(|e| e.to_string())).map_err(|problem| {
        Error::Device {
            device: format!("{device:?}"),
            problem: format!("the self-test could not be read back: {problem}"),
            advice: "choose another device".into(),
        }
    })
}

/// Fixed values in −1..1 without a pattern that a wrong index would repeat.
fn values<const D: usize>(shape: [usize; D], salt: u32, device: &Device) -> Tensor<D> {
    let n: usize = shape.iter().product();
    let value = |i: u32| {
        let mixed = (i.wrapping_mul(0x9e37_79b9) ^ salt.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35);
        (mixed >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    Tensor::from_data(TensorData::new((0..n as u32).map(value).collect::<Vec<f32>>(), shape), device)
}

fn tracked<const D: usize>(shape: [usize; D], salt: u32, device: &Device) -> Tensor<D> {
    values(shape, salt, device).autodiff().require_grad()
}

fn flat<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let n: usize = x.dims().iter().product();
    x.reshape([n])
}

/// The result `y` and the gradients that `y · w` with fixed weights gives the inputs `grads` picks.
fn with_gradients<const D: usize>(
    y: Tensor<D>,
    device: &Device,
    grads: impl FnOnce(&burn::tensor::Gradients) -> Vec<Option<Tensor<1>>>,
) -> Vec<Tensor<1>> {
    let weights = values(y.dims(), 77, device);
    let graph = (y.clone() * weights).sum().backward();
    let mut all = vec![flat(y.inner())];
    all.extend(grads(&graph).into_iter().flatten());
    all
}

fn matmul(device: &Device) -> Vec<Tensor<1>> {
    let (x, w) = (tracked([70, 96], 1, device), tracked([96, 136], 2, device));
    let y = super::matmul(x.clone(), w.clone());
    with_gradients(y, device, |g| vec![x.grad(g).map(flat), w.grad(g).map(flat)])
}

fn matmul_transposed(device: &Device) -> Vec<Tensor<1>> {
    let (x, w) = (tracked([8, 32], 1, device), tracked([64, 32], 2, device));
    let y = super::matmul(x.clone(), w.clone().transpose());
    with_gradients(y, device, |g| vec![x.grad(g).map(flat), w.grad(g).map(flat)])
}

fn matmul_batched(device: &Device) -> Vec<Tensor<1>> {
    let (x, w) = (tracked([2, 2, 24, 16], 1, device), tracked([2, 2, 12, 16], 2, device));
    let y = super::matmul(x.clone(), w.clone().swap_dims(2, 3));
    with_gradients(y, device, |g| vec![x.grad(g).map(flat), w.grad(g).map(flat)])
}

fn low_rank(device: &Device) -> Vec<Tensor<1>> {
    let weight = WeightMatrix::Dense(values([136, 96], 3, device));
    let x = tracked([70, 96], 1, device);
    let (a, b) = (tracked([8, 96], 2, device), tracked([136, 8], 4, device));
    let y = low_rank_linear(x.clone(), &weight, a.clone(), b.clone(), 0.5);
    with_gradients(y, device, |g| vec![x.grad(g).map(flat), a.grad(g).map(flat), b.grad(g).map(flat)])
}

fn selection(device: &Device) -> Vec<Tensor<1>> {
    let table = tracked([50, 32], 1, device);
    let rows = Tensor::<1, Int>::from_data([3, 49, 3, 0, 17], device);
    let y = table.clone().select(0, rows);
    with_gradients(y, device, |g| vec![table.grad(g).map(flat)])
}

fn sums(device: &Device) -> Vec<Tensor<1>> {
    let x = tracked([33, 65], 1, device);
    let y = x.clone().sum_dim(0).square() + x.clone().mean_dim(1).square().sum_dim(0);
    with_gradients(y, device, |g| vec![x.grad(g).map(flat)])
}

fn normed(device: &Device, f: fn(Tensor<2>, Tensor<1>, Tensor<1>) -> Tensor<2>) -> Vec<Tensor<1>> {
    let (x, w, b) = (tracked([9, 64], 1, device), tracked([64], 2, device), tracked([64], 3, device));
    let y = f(x.clone(), w.clone(), b.clone());
    with_gradients(y, device, |g| vec![x.grad(g).map(flat), w.grad(g), b.grad(g)])
}

fn rotation(device: &Device) -> Vec<Tensor<1>> {
    let x = tracked([2, 7, 3, 16], 1, device);
    let angles = values::<3>([2, 7, 8], 2, device);
    let y = rotate_half(x.clone(), &angles.clone().cos(), &angles.sin());
    with_gradients(y, device, |g| vec![x.grad(g).map(flat)])
}

fn attended(device: &Device) -> Vec<Tensor<1>> {
    let positions = [0, 1, 2, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7, 0];
    let segments = [1, 1, 1, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 0];
    let mask = Mask::causal(&positions, &segments, 2, None, device);
    attention_of([2, 2, 3, 16], &mask, device)
}

/// Texts that end within a tile of queries and beyond it, a window, padding, and heads that fill no fours of units.
fn attended_in_tiles(device: &Device) -> Vec<Tensor<1>> {
    let texts = [(70, 1), (9, 2), (1, 0)];
    let positions: Vec<i32> = texts.iter().flat_map(|&(n, _)| 0..n).collect();
    let segments: Vec<i32> =
        texts.iter().flat_map(|&(n, segment)| std::iter::repeat_n(segment, n as usize)).collect();
    let mask = Mask::causal(&positions, &segments, 1, Some(50), device);
    attention_of([1, 1, 2, 20], &mask, device)
}

fn attention_of([batch, kv_heads, group, d]: [usize; 4], mask: &Mask, device: &Device) -> Vec<Tensor<1>> {
    let [_, queries, keys] = mask.dims();
    let tensor = |rows, seed| tracked([batch, kv_heads, rows, d], seed, device);
    let (q, k, v) = (tensor(group * queries, 1), tensor(keys, 2), tensor(keys, 3));
    let y = attention(q.clone(), k.clone(), v.clone(), mask, 0.5);
    with_gradients(y, device, |g| vec![q.grad(g).map(flat), k.grad(g).map(flat), v.grad(g).map(flat)])
}

fn gate(device: &Device) -> Vec<Tensor<1>> {
    let mut all = Vec::new();
    for activation in [Activation::Silu, Activation::GeluTanh] {
        let (gate, up) = (tracked([9, 48], 1, device), tracked([9, 48], 2, device));
        let y = gated_activation(gate.clone(), up.clone(), activation);
        all.extend(with_gradients(y, device, |g| vec![gate.grad(g).map(flat), up.grad(g).map(flat)]));
    }
    all
}

fn gated_linear(device: &Device) -> Vec<Tensor<1>> {
    let weight = WeightMatrix::Dense(values([72, 96], 3, device));
    let (gate, up) = (tracked([70, 96], 1, device), tracked([70, 96], 2, device));
    let (a, b) = (tracked([8, 96], 4, device), tracked([72, 8], 5, device));
    let y = gated_low_rank_linear(
        [gate.clone(), up.clone()],
        Activation::Silu,
        &weight,
        a.clone(),
        b.clone(),
        0.5,
    );
    with_gradients(y, device, |g| [gate, up, a, b].map(|x| x.grad(g).map(flat)).into())
}

fn cross_entropy(device: &Device) -> Vec<Tensor<1>> {
    let logits = values::<2>([6, 300], 1, device).mul_scalar(4.0);
    let targets = Tensor::<1, Int>::from_data([0, 7, 299, 64, 128, 1], device);
    let weights = Tensor::<1>::from_data([1.0, 0.5, 2.0, 1.0, 0.0, 1.0], device);
    let loss = softmax_cross_entropy(logits, targets, weights, 0.1);
    vec![loss.loss, loss.correct, flat(loss.grad)]
}

fn update(device: &Device) -> Vec<Tensor<1>> {
    let rule = AdamW { lr: 0.1, betas: [0.9, 0.99], epsilon: 1e-8 };
    let zeros = Tensor::<2>::zeros([9, 65], device);
    let mut at = Adapted { value: values([9, 65], 1, device), moment_1: zeros.clone(), moment_2: zeros };
    for time in 1..=2 {
        at = rule.step(at, values([9, 65], time as u32 + 1, device), time);
    }
    [at.value, at.moment_1, at.moment_2].map(flat).into()
}
