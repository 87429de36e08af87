//! Attention's masked softmax: scores → probabilities.

use crate::ops::cpu::math::{dot, exp, max, sum};
use crate::ops::cpu::{dense, last_dim, rows, values};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, unary},
};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{Tensor, activation};

/// `softmax(scale · scores + mask)` over the keys.
///
/// The rows of one key-value head hold its whole group of query heads, one after the other, so that
/// grouped-query attention needs no copies of keys and values.
///
/// # Shapes
/// `scores`: `[batch, kv_heads, group · queries, keys]` · `mask`: `[batch, queries, keys]` · result: as `scores`
pub(super) fn masked_softmax(scores: Tensor<4>, mask: &Tensor<3>, scale: f32) -> Tensor<4> {
    if crate::ops::is_fused(&scores) {
        let p = <Dispatch as MaskedSoftmax>::masked_softmax(
            scores.into_dispatch(),
            mask.clone().into_dispatch(),
            scale,
        );
        return Tensor::from_dispatch(p);
    }
    reference(scores, mask, scale)
}

fn reference(scores: Tensor<4>, mask: &Tensor<3>, scale: f32) -> Tensor<4> {
    let [batch, kv_heads, rows, keys] = scores.dims();
    let queries = mask.dims()[1];
    let grouped: Tensor<5> = scores.reshape([batch, kv_heads, rows / queries, queries, keys]);
    let mask: Tensor<5> = mask.clone().reshape([batch, 1, 1, queries, keys]);
    activation::softmax(grouped.mul_scalar(scale) + mask, 4).reshape([batch, kv_heads, rows, keys])
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(in crate::ops) trait MaskedSoftmax: Backend {
    #[fusion(dtype = scores, shape = scores)]
    fn masked_softmax(scores: FloatTensor<Self>, mask: FloatTensor<Self>, scale: f32) -> FloatTensor<Self>;
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"))]
pub(in crate::ops) trait MaskedSoftmaxKernel: Backend {
    #[fusion(dtype = scores, shape = scores)]
    fn forward(scores: FloatTensor<Self>, mask: FloatTensor<Self>, scale: f32) -> FloatTensor<Self>;
    #[fusion(dtype = grad, shape = grad)]
    fn backward(probabilities: FloatTensor<Self>, grad: FloatTensor<Self>, scale: f32) -> FloatTensor<Self>;
}

impl MaskedSoftmax for Flex {
    fn masked_softmax(scores: FloatTensor<Self>, mask: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        Self::forward(scores, mask, scale)
    }
}

impl<B: MaskedSoftmaxKernel, C: CheckpointStrategy> MaskedSoftmax for Autodiff<B, C> {
    fn masked_softmax(scores: FloatTensor<Self>, mask: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        let mask = mask.into_primitive();
        let (scores, node) = scores.into_parts();
        let p = B::forward(scores, mask, scale);
        match MaskedSoftmaxBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((p.clone(), scale), p),
            OpsKind::UnTracked(prep) => prep.finish(p),
        }
    }
}

#[derive(Debug)]
struct MaskedSoftmaxBackward;

impl<B: MaskedSoftmaxKernel> Backward<B, 1> for MaskedSoftmaxBackward {
    type State = (B::FloatTensorPrimitive, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (p, scale) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::backward(p, grad, scale));
    }
}

impl MaskedSoftmaxKernel for Flex {
    fn forward(scores: FloatTensor<Self>, mask: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        let (mut scores, mask) = (dense(scores), dense(mask));
        let [batch, queries, keys] = mask.layout().shape().dims();
        let n_rows = scores.layout().num_elements() / keys.max(1);
        let rows_per_item = n_rows / batch.max(1);
        let masks = values(&mask);
        rows::for_each(
            scores.storage_mut::<f32>(),
            keys,
            #[inline(always)]
            |row, x| {
                let (b, q) = (row / rows_per_item, row % queries);
                let mask = &masks[(b * queries + q) * keys..][..keys];
                for (x, &m) in x.iter_mut().zip(mask) {
                    *x = *x * scale + m;
                }
                let largest = max(x);
                for x in x.iter_mut() {
                    *x = exp(*x - largest);
                }
                let r = 1.0 / sum(x);
                for x in x.iter_mut() {
                    *x *= r;
                }
            },
        );
        scores
    }

    // dscores = scale · p · (g − Σ g·p)
    fn backward(probabilities: FloatTensor<Self>, grad: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        let (p, mut grad) = (dense(probabilities), dense(grad));
        let keys = last_dim(&p);
        let ps = values(&p);
        rows::for_each(
            grad.storage_mut::<f32>(),
            keys,
            #[inline(always)]
            |row, g| {
                let p = &ps[row * keys..][..keys];
                let c = dot(g, p);
                for (g, &p) in g.iter_mut().zip(p) {
                    *g = scale * p * (*g - c);
                }
            },
        );
        let shape = p.layout().shape().clone();
        debug_assert_eq!(grad.layout().shape(), &shape);
        grad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Mask;
    use crate::ops::testing::{assert_close, random};
    use burn::tensor::Device;

    #[test]
    fn fused_softmax_equals_reference_forward_and_backward() {
        let positions = [0, 1, 2, 0, 1, 0, 1, 2, 3, 0];
        let segments = [1, 1, 1, 2, 2, 1, 1, 1, 1, 0];
        for window in [None, Some(2)] {
            let mask = Mask::causal(&positions, &segments, 2, window, &Device::flex()).added(&Device::flex());
            let run = |f: fn(Tensor<4>, &Tensor<3>, f32) -> Tensor<4>| {
                let x = random::<4>([2, 3, 10, 5], 1).mul_scalar(4.0).autodiff().require_grad();
                let y = f(x.clone(), &mask, 0.3);
                let grads = (y.clone() * random::<4>([2, 3, 10, 5], 2)).sum().backward();
                (y.inner(), x.grad(&grads).expect("x is tracked"))
            };
            let (fused, plain) = (run(masked_softmax), run(reference));
            assert_close(fused.0, plain.0, 1e-6);
            assert_close(fused.1, plain.1, 1e-6);
        }
    }
}
