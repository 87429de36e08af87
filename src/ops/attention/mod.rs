//! Attention: who sees whom, and what comes of it.

mod flash;
mod mask;
mod ranges;
mod softmax;

#[cfg(feature = "gpu")]
pub(super) use flash::{Flash, FlashKernel, Kept};
#[cfg(feature = "gpu")]
pub(super) use mask::BLOCKED;
#[cfg(feature = "gpu")]
pub(super) use ranges::{EDGE, Visible};
#[cfg(feature = "gpu")]
pub(super) use softmax::{MaskedSoftmax, MaskedSoftmaxKernel};

use burn::tensor::Tensor;
pub use flash::has_tiled_attention;
use mask::Form;
pub use mask::Mask;
use ranges::Ranges;

/// `softmax(scale · q·kᵀ + mask)·v`, grouped (2305.13245): the query heads of one key head are rows one after the other,
/// so that keys and values are not copied.
///
/// On the CPU, and in f32 on GPUs, the probabilities are never kept: the backward pass makes them again (2205.14135).
///
/// # Shapes
/// `q`: `[batch, kv_heads, group · queries, d]` · `k`, `v`: `[batch, kv_heads, keys, d]` · result: `[batch · queries,
/// kv_heads · group · d]`
///
/// # Panics
/// Where the mask is not of these queries and keys: kernels read as far as it says.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: &Mask, scale: f32) -> Tensor<2> {
    let [batch, _, keys] = mask.dims();
    assert_eq!([q.dims()[0], k.dims()[2]], [batch, keys], "batch and keys of the mask");
    assert_eq!(k.dims(), v.dims(), "a value for each key");
    match in_one(&q, &k, mask) {
        Some(ranges) => flash::attention(q, k, v, ranges, scale),
        None => in_steps(q, k, v, mask, scale),
    }
}

/// The mask's ranges where attention is one operation.
pub(super) fn in_one<'a>(q: &Tensor<4>, k: &Tensor<4>, mask: &'a Mask) -> Option<&'a Ranges> {
    match &mask.form {
        Form::Ranges(ranges, _) if flash::serves(q, k, ranges) => Some(ranges),
        _ => None,
    }
}

fn in_steps(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: &Mask, scale: f32) -> Tensor<2> {
    let [batch, kv_heads, rows, d] = q.dims();
    let [_, queries, _] = mask.dims();
    let heads = kv_heads * (rows / queries);
    let mask = mask.added(&q.device().without_autodiff());
    let scores = super::matmul(q, k.swap_dims(2, 3)); // [batch, kv_heads, group · queries, keys]
    let p = softmax::masked_softmax(scores, &mask, scale);
    let y = super::matmul(p, v).reshape([batch, heads, queries, d]);
    y.swap_dims(1, 2).reshape([batch * queries, heads * d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};
    use burn::tensor::Device;

    #[test]
    fn flash_attention_equals_attention_in_steps_forward_and_backward() {
        let packed = [0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4, 5, 6, 0, 0];
        let segments = [1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, 0];
        let long: Vec<i32> = (0..130).collect();
        let ones = vec![1; 130];
        let rows: [(&[i32], &[i32], usize); 2] = [(&packed, &segments, 2), (&long, &ones, 1)];
        let cases = [
            (rows[0], None, [2, 3, 8]),
            (rows[0], Some(3), [1, 2, 20]),
            (rows[1], None, [3, 3, 64]),
            (rows[1], Some(40), [2, 1, 72]),
        ];
        for ((positions, segments, batch), window, [kv_heads, group, d]) in cases {
            let queries = positions.len() / batch;
            let mask = Mask::causal(positions, segments, batch, window, &Device::flex());
            let run = |f: &dyn Fn(Tensor<4>, Tensor<4>, Tensor<4>) -> Tensor<2>| {
                let q = random::<4>([batch, kv_heads, group * queries, d], 1).autodiff().require_grad();
                let k = random::<4>([batch, kv_heads, queries, d], 2).autodiff().require_grad();
                // As a projection gives them: heads side by side.
                let v = random::<4>([batch, queries, kv_heads, d], 3).autodiff().require_grad();
                let y = f(q.clone(), k.clone(), v.clone().swap_dims(1, 2));
                let grads = (y.clone() * random::<2>(y.dims(), 4)).sum().backward();
                let grad = |x: Tensor<4>| x.grad(&grads).expect("tracked");
                (y.inner(), [grad(q), grad(k), grad(v)])
            };
            let flash = run(&|q, k, v| attention(q, k, v, &mask, 0.3));
            let plain = run(&|q, k, v| in_steps(q, k, v, &mask, 0.3));
            assert_close(flash.0, plain.0, 1e-5);
            for (flash, plain) in flash.1.into_iter().zip(plain.1) {
                assert_close(flash, plain, 1e-4);
            }
        }
    }
}
