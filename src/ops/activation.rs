//! Activations of the feed-forward layer, gated where the model gates them (GLU variants, 2002.05202).

use super::cpu::math::{sigmoid, tanh};
use super::cpu::{dense, rows, tensor, values};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

/// Activation functions, named as transformers' `hidden_act`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `silu`: x·sigmoid(x)
    Silu,
    /// `gelu_pytorch_tanh`, `gelu_new`: ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
    GeluTanh,
}

pub(super) const SQRT_2_OVER_PI: f32 = 0.797_884_6;
pub(super) const CUBIC: f32 = 0.044_715;

impl Activation {
    /// The function on any backend, from burn's operations.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Silu => burn::tensor::activation::silu(x),
            Self::GeluTanh => {
                let cubic = x.clone().powf_scalar(3.0).mul_scalar(CUBIC);
                let inner = (x.clone() + cubic).mul_scalar(SQRT_2_OVER_PI);
                x.mul_scalar(0.5) * inner.tanh().add_scalar(1.0)
            }
        }
    }

    /// Value and slope at `x`.
    #[inline(always)]
    fn value_and_slope(self, x: f32) -> (f32, f32) {
        match self {
            Self::Silu => {
                let s = sigmoid(x);
                (x * s, s * (1.0 + x * (1.0 - s)))
            }
            Self::GeluTanh => {
                let t = tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
                let inner_slope = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
                (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner_slope)
            }
        }
    }
}

/// `activation(gate) · up`
///
/// # Shapes
/// `gate`, `up` and the result are alike.
pub fn gated_activation<const D: usize>(gate: Tensor<D>, up: Tensor<D>, activation: Activation) -> Tensor<D> {
    assert_eq!(gate.dims(), up.dims(), "gate and up are alike");
    if super::is_fused(&gate) {
        let y = <Dispatch as Gated>::gated(gate.into_dispatch(), up.into_dispatch(), activation);
        return Tensor::from_dispatch(y);
    }
    activation.apply(gate) * up
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(super) trait Gated: Backend {
    #[fusion(dtype = gate, shape = gate)]
    fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
}

/// What a backend must bring for the fused forms to be differentiable on it.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"))]
pub(super) trait GatedKernel: Backend {
    #[fusion(dtype = gate, shape = gate)]
    fn forward(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
    /// Gradients of gate and up, and the result once more, for whoever has not kept it.
    #[fusion(meta = |gate, up, _, _| (gate.clone(), up.clone(), gate.clone()))]
    fn backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl Gated for Flex {
    fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        Self::forward(gate, up, activation)
    }
}

impl<B: GatedKernel, C: CheckpointStrategy> Gated for Autodiff<B, C> {
    fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let (gate, gate_node) = gate.into_parts();
        let (up, up_node) = up.into_parts();
        let y = B::forward(gate.clone(), up.clone(), activation);
        match GatedBackward.prepare::<C>([gate_node, up_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((gate, up, activation), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[derive(Debug)]
struct GatedBackward;

impl<B: GatedKernel> Backward<B, 2> for GatedBackward {
    type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, Activation);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (gate, up, activation) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let (d_gate, d_up, _) = B::backward(gate, up, activation, grad);
        for (node, grad) in ops.parents.into_iter().zip([d_gate, d_up]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// Elements a task takes at a time; the loops have no rows of their own.
const BLOCK: usize = 64;

impl GatedKernel for Flex {
    fn forward(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let (gate, up) = (dense(gate), dense(up));
        let (gs, us) = (values(&gate), values(&up));
        let block = block(gs.len());
        let y = rows::make(
            gs.len(),
            block,
            #[inline(always)]
            |i, y| {
                let (gs, us) = (&gs[i * block..][..y.len()], &us[i * block..][..y.len()]);
                for ((y, &g), &u) in y.iter_mut().zip(gs).zip(us) {
                    *y = activation.value_and_slope(g).0 * u;
                }
            },
        );
        tensor(y, gate.layout().shape().clone())
    }

    fn backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        // Results take the inputs' places: a graph gives them away here, and what others hold is copied.
        let mut all = [gate, up, grad].map(dense);
        let n = all[0].layout().num_elements();
        let block = block(n);
        rows::for_each_of(
            all.each_mut().map(|x| &mut x.storage_mut::<f32>()[..n]),
            [block; 3],
            #[inline(always)]
            |_, [gate, up, grad]| {
                for ((gate, up), grad) in gate.iter_mut().zip(up).zip(grad) {
                    let (value, slope) = activation.value_and_slope(*gate);
                    let (u, d) = (*up, *grad);
                    *gate = d * u * slope;
                    *up = d * value;
                    *grad = value * u;
                }
            },
        );
        let [d_gate, d_up, y] = all;
        (d_gate, d_up, y)
    }
}

/// A block length that divides `len`.
fn block(len: usize) -> usize {
    if len.is_multiple_of(BLOCK) { BLOCK } else { len.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn fused_gate_equals_reference_forward_and_backward() {
        for activation in [Activation::Silu, Activation::GeluTanh] {
            for shape in [[3, 7], [40, 1024]] {
                let run = |f: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
                    let gate = random::<2>(shape, 1).mul_scalar(3.0).autodiff().require_grad();
                    let up = random::<2>(shape, 2).autodiff().require_grad();
                    let y = f(gate.clone(), up.clone());
                    let grads = (y.clone() * random::<2>(shape, 3)).sum().backward();
                    (y.inner(), gate.grad(&grads).expect("tracked"), up.grad(&grads).expect("tracked"))
                };
                let fused = run(&|gate, up| gated_activation(gate, up, activation));
                let reference = run(&|gate, up| activation.apply(gate) * up);
                assert_close(fused.0, reference.0, 1e-5);
                assert_close(fused.1, reference.1, 1e-5);
                assert_close(fused.2, reference.2, 1e-5);
            }
        }
    }
}
