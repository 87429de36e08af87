//! Root-mean-square and layer normalisation over the last dimension.

use super::cpu::math::{dot, dot3};
use super::cpu::{dense, last_dim, rows, tensor, values};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
#[cfg(feature = "gpu")]
use burn::tensor::Shape;
use burn::tensor::Tensor;

/// `x / sqrt(mean(x²) + epsilon) · weight` (1910.07467), as transformers' `LlamaRMSNorm` in f32.
///
/// # Shapes
/// `x`: `[batch, seq, d]` · `weight`: `[d]` · result: `[batch, seq, d]`
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f32) -> Tensor<D> {
    if super::is_fused(&x) {
        let y = <Dispatch as RmsNorm>::rms_norm(x.into_dispatch(), weight.into_dispatch(), epsilon);
        return Tensor::from_dispatch(y);
    }
    rms_norm_reference(x, weight, epsilon)
}

fn rms_norm_reference<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f32) -> Tensor<D> {
    let variance = x.clone().powf_scalar(2.0).mean_dim(D - 1);
    let normed = x * variance.add_scalar(epsilon).sqrt().recip();
    normed * weight.unsqueeze()
}

/// `(x − mean) / sqrt(var + epsilon) · weight + bias` (1607.06450) with the biased variance, as PyTorch's `LayerNorm`.
///
/// # Shapes
/// `x`: `[batch, seq, d]` · `weight`, `bias`: `[d]` · result: `[batch, seq, d]`
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f32,
) -> Tensor<D> {
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = centred.clone().powf_scalar(2.0).mean_dim(D - 1);
    centred * variance.add_scalar(epsilon).sqrt().recip() * weight.unsqueeze() + bias.unsqueeze()
}

/// The fused form: one pass forward, one backward.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(super) trait RmsNorm: Backend {
    #[fusion(dtype = x, shape = x)]
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self>;
}

/// What a backend must bring for the fused form to be differentiable on it.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"))]
pub(super) trait RmsNormKernel: Backend {
    #[fusion(dtype = x, shape = x)]
    fn forward(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self>;
    #[fusion(dtype = x, shape = x)]
    fn backward_x(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    #[fusion(dtype = x, shape = last_dim_of(x))]
    fn backward_weight(x: FloatTensor<Self>, epsilon: f32, grad: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cfg(feature = "gpu")]
fn last_dim_of(x: &Shape) -> Shape {
    Shape::new([x[x.num_dims() - 1]])
}

impl RmsNorm for Flex {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        Self::forward(x, weight, epsilon)
    }
}

impl<B: RmsNormKernel, C: CheckpointStrategy> RmsNorm for Autodiff<B, C> {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let y = B::forward(x.primitive().clone(), weight.primitive().clone(), epsilon);
        let nodes = [x.node(), weight.node()];
        match RmsNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x.into_primitive(), weight.into_primitive(), epsilon), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[derive(Debug)]
struct RmsNormBackward;

impl<B: RmsNormKernel> Backward<B, 2> for RmsNormBackward {
    type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, f32);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, weight, epsilon) = ops.state;
        let [x_node, weight_node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(node) = weight_node {
            grads.register::<B>(node.id, B::backward_weight(x.clone(), epsilon, grad.clone()));
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::backward_x(x, weight, epsilon, grad));
        }
    }
}

impl RmsNormKernel for Flex {
    fn forward(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let (x, weight) = (dense(x), dense(weight));
        let d = last_dim(&x);
        let (xs, ws) = (values(&x), values(&weight));
        let y = rows::make(
            xs.len(),
            d,
            #[inline(always)]
            |i, y| {
                let x = &xs[i * d..][..d];
                let r = inverse_rms(x, epsilon);
                for ((y, &x), &w) in y.iter_mut().zip(x).zip(ws) {
                    *y = x * r * w;
                }
            },
        );
        tensor(y, x.layout().shape().clone())
    }

    // With r = 1/rms and g' = g·w: dx = r·(g' − x·r²·mean(g'·x)).
    fn backward_x(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x, weight, grad) = (dense(x), dense(weight), dense(grad));
        let d = last_dim(&x);
        let (xs, ws, gs) = (values(&x), values(&weight), values(&grad));
        let dx = rows::make(
            xs.len(),
            d,
            #[inline(always)]
            |i, dx| {
                let (x, g) = (&xs[i * d..][..d], &gs[i * d..][..d]);
                let r = inverse_rms(x, epsilon);
                let c = dot3(x, g, ws) * r * r / d as f32;
                for (((dx, &x), &g), &w) in dx.iter_mut().zip(x).zip(g).zip(ws) {
                    *dx = r * (g * w - x * c);
                }
            },
        );
        tensor(dx, x.layout().shape().clone())
    }

    fn backward_weight(x: FloatTensor<Self>, epsilon: f32, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, grad) = (dense(x), dense(grad));
        let d = last_dim(&x);
        let mut dw = vec![0.0; d];
        for (x, g) in values(&x).chunks_exact(d).zip(values(&grad).chunks_exact(d)) {
            let r = inverse_rms(x, epsilon);
            for ((dw, &x), &g) in dw.iter_mut().zip(x).zip(g) {
                *dw += g * x * r;
            }
        }
        tensor(dw, burn::tensor::Shape::new([d]))
    }
}

#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    (dot(x, x) / x.len() as f32 + epsilon).sqrt().recip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn fused_rms_norm_equals_reference_forward_and_backward() {
        for shape in [[1, 1, 5], [2, 3, 576], [3, 70, 64]] {
            let run = |f: fn(Tensor<3>, Tensor<1>, f32) -> Tensor<3>| {
                let x = random::<3>(shape, 1).autodiff().require_grad();
                let w = random::<1>([shape[2]], 2).autodiff().require_grad();
                let y = f(x.clone(), w.clone(), 1e-5);
                let grads = (y.clone() * random::<3>(shape, 3)).sum().backward();
                (y.inner(), x.grad(&grads).expect("x is tracked"), w.grad(&grads).expect("w is tracked"))
            };
            let (fused, reference) = (run(rms_norm), run(rms_norm_reference));
            assert_close(fused.0, reference.0, 1e-5);
            assert_close(fused.1, reference.1, 1e-4);
            assert_close(fused.2, reference.2, 1e-4);
        }
    }
}
