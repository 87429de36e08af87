//! A gated activation and the frozen linear layer behind it, with a low-rank update.

use super::activation::{Activation, GatedKernel, gated_activation};
#[cfg(feature = "gpu")]
use super::linear::result_shape;
use super::linear::{Layer, SumOfProducts, Weight, WeightMatrix, is_served, low_rank_linear, of_factor};
use super::matmul::Product;
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

/// [`low_rank_linear`] of `activation(gate) · up`. That product, of the widest values a layer has, is not kept: the
/// backward pass makes it again where it reads gate and up anyway.
///
/// # Shapes
/// `gate`, `up`: `[tokens, d_in]` · the rest as of [`low_rank_linear`]
pub fn gated_low_rank_linear(
    [gate, up]: [Tensor<2>; 2],
    activation: Activation,
    weight: &WeightMatrix,
    a: Tensor<2>,
    b: Tensor<2>,
    scale: f32,
) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "gate and up are alike");
    if is_served(&gate, weight, &a, &b) {
        let weight = weight.clone().into_dispatch();
        let [gate, up, a, b] = [gate, up, a, b].map(Tensor::into_dispatch);
        let y = <Dispatch as GatedLinear>::gated_linear(gate, up, activation, weight, a, b, scale);
        return Tensor::from_dispatch(y);
    }
    low_rank_linear(gated_activation(gate, up, activation), weight, a, b, scale)
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
trait GatedLinear: Backend {
    #[fusion(dtype = gate, shape = result_shape(gate, b))]
    fn gated_linear(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
        #[extension_type] weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self>;
}

/// What the gradients need.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    activation: Activation,
    layer: Layer<B>,
    /// `scale · x·Aᵀ` with x the gated values.
    down: FloatTensor<B>,
}

impl GatedLinear for Flex {
    fn gated_linear(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
        weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let x = <Self as GatedKernel>::forward(gate, up, activation);
        Layer::<Self> { weight, a, b, scale }.forward(x).0
    }
}

#[cfg(feature = "gpu")]
impl GatedLinear for burn_cubecl::CubeBackend {
    fn gated_linear(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
        weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let x = <Self as GatedKernel>::forward(gate, up, activation);
        Layer::<Self> { weight, a, b, scale }.forward(x).0
    }
}

impl<B: GatedKernel + SumOfProducts + Product, C: CheckpointStrategy> GatedLinear for Autodiff<B, C> {
    fn gated_linear(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
        weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let (gate, gate_node) = gate.into_parts();
        let (up, up_node) = up.into_parts();
        let (a, a_node) = a.into_parts();
        let (b, b_node) = b.into_parts();
        let x = <B as GatedKernel>::forward(gate.clone(), up.clone(), activation);
        let layer = Layer { weight: weight.inner(), a, b, scale };
        let (y, down) = layer.clone().forward(x);
        let nodes = [gate_node, up_node, a_node, b_node];
        match GatedLinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(Kept { gate, up, activation, layer, down }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[derive(Debug)]
struct GatedLinearBackward;

impl<B: GatedKernel + SumOfProducts + Product> Backward<B, 4> for GatedLinearBackward {
    type State = Kept<B>;

    // As of the linear layer, whose input's gradient then goes through the gate.
    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let Kept { gate, up, activation, layer, down } = ops.state;
        let [gate_node, up_node, a_node, b_node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let narrowed = layer.narrowed(grad.clone());
        let d_x = layer.of_x(grad.clone(), narrowed.clone());
        if let Some(node) = b_node {
            grads.register::<B>(node.id, of_factor::<B>(grad, down));
        }
        let (d_gate, d_up, x) = B::backward(gate, up, activation, d_x);
        if let Some(node) = a_node {
            grads.register::<B>(node.id, of_factor::<B>(narrowed, x));
        }
        for (node, grad) in [(gate_node, d_gate), (up_node, d_up)] {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::linear::tests::dense_and_packed;
    use crate::ops::testing::{assert_close, random};

    type Layer<'a> = &'a dyn Fn([Tensor<2>; 2], &WeightMatrix, Tensor<2>, Tensor<2>) -> Tensor<2>;

    #[test]
    fn one_operation_equals_gate_and_layer_forward_and_backward() {
        for [tokens, d_in, d_out, rank] in [[1, 64, 7, 2], [130, 96, 200, 8], [9, 32, 33, 4]] {
            for weight in dense_and_packed([d_out, d_in]) {
                for activation in [Activation::Silu, Activation::GeluTanh] {
                    let run = |f: Layer| {
                        let inputs =
                            [1, 3].map(|seed| random([tokens, d_in], seed).autodiff().require_grad());
                        let a = random::<2>([rank, d_in], 4).autodiff().require_grad();
                        let b = random::<2>([d_out, rank], 5).autodiff().require_grad();
                        let y = f(inputs.clone(), &weight, a.clone(), b.clone());
                        let grads = (y.clone() * random::<2>([tokens, d_out], 6)).sum().backward();
                        let [gate, up] = inputs;
                        let grads = [gate, up, a, b].map(|x| x.grad(&grads).expect("tracked"));
                        [y.inner()].into_iter().chain(grads).collect::<Vec<_>>()
                    };
                    let one = run(&|inputs, weight, a, b| {
                        gated_low_rank_linear(inputs, activation, weight, a, b, 0.5)
                    });
                    let two = run(&|[gate, up], weight, a, b| {
                        low_rank_linear(gated_activation(gate, up, activation), weight, a, b, 0.5)
                    });
                    for (one, two) in one.into_iter().zip(two) {
                        assert_close(one, two, 1e-6);
                    }
                }
            }
        }
    }
}
