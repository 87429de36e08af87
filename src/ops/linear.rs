//! A frozen linear layer with a low-rank update.
// A handful of handles, made for a product at a time; what is derived from `Weight` is such an enum too.
#![allow(clippy::large_enum_variant)]

use super::cpu::gemm::{Factor, Matrix, Term, product};
use super::cpu::packed::Way;
use super::cpu::tensor;
use super::matmul::Product;
#[cfg(feature = "gpu")]
use super::matmul::shape_of;
use super::packed::PackedParts;
use super::{Packed, matmul};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::{
    Autodiff, Backend, Dispatch, ExtensionType, Flex, backend_extension, tensor::FloatTensor,
};
use burn::tensor::{DType, Shape, Tensor};

/// A matrix `[d_out, d_in]` as it lies in memory.
#[derive(Clone, Debug)]
pub enum WeightMatrix {
    /// Floating point.
    Dense(Tensor<2>),
    /// Few bits a value.
    Packed(Packed),
}

impl WeightMatrix {
    /// `x·Wᵀ`
    ///
    /// # Shapes
    /// `x`: `[n, d_in]` · result: `[n, d_out]`
    pub fn times_turned(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => matmul(x, weight.clone().transpose()),
            Self::Packed(packed) => packed.times_turned(x),
        }
    }

    /// `x·W`
    ///
    /// # Shapes
    /// `x`: `[n, d_out]` · result: `[n, d_in]`
    pub fn times(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => matmul(x, weight.clone()),
            Self::Packed(packed) => packed.times(x),
        }
    }

    pub(super) fn into_dispatch(self) -> Weight<Dispatch> {
        match self {
            Self::Dense(weight) => Weight::Dense(weight.into_dispatch()),
            Self::Packed(packed) => Weight::Packed(packed.parts()),
        }
    }
}

/// `x·Wᵀ + scale · (x·Aᵀ)·Bᵀ` (LoRA, 2106.09685). `weight` takes no part in a graph.
///
/// # Shapes
/// `x`: `[tokens, d_in]` · `weight`: `[d_out, d_in]` · `a`: `[rank, d_in]` · `b`: `[d_out, rank]` ·
/// result: `[tokens, d_out]`
pub fn low_rank_linear(
    x: Tensor<2>,
    weight: &WeightMatrix,
    a: Tensor<2>,
    b: Tensor<2>,
    scale: f32,
) -> Tensor<2> {
    if is_served(&x, weight, &a, &b) {
        let weight = weight.clone().into_dispatch();
        let [x, a, b] = [x, a, b].map(Tensor::into_dispatch);
        return Tensor::from_dispatch(<Dispatch as LowRankLinear>::low_rank_linear(x, weight, a, b, scale));
    }
    reference(x, weight, a, b, scale)
}

/// Whether the fused form takes these.
pub(super) fn is_served(x: &Tensor<2>, weight: &WeightMatrix, a: &Tensor<2>, b: &Tensor<2>) -> bool {
    let is_f32 = [x.dtype(), a.dtype(), b.dtype()] == [DType::F32; 3]
        && !matches!(weight, WeightMatrix::Dense(weight) if weight.dtype() != DType::F32);
    super::is_fused(x) && is_f32
}

fn reference(x: Tensor<2>, weight: &WeightMatrix, a: Tensor<2>, b: Tensor<2>, scale: f32) -> Tensor<2> {
    weight.times_turned(x.clone()) + low_rank(x, a, b, scale)
}

/// The update alone: `scale · (x·Aᵀ)·Bᵀ`.
///
/// # Shapes
/// As [`low_rank_linear`]'s.
pub fn low_rank(x: Tensor<2>, a: Tensor<2>, b: Tensor<2>, scale: f32) -> Tensor<2> {
    let down = matmul(x, a.transpose()); // [tokens, rank]
    // Scaling the small factor costs less than scaling the product.
    matmul(down, b.transpose().mul_scalar(scale))
}

/// [`WeightMatrix`] as a backend has it.
#[derive(Clone, Debug, ExtensionType)]
#[cfg_attr(feature = "gpu", extension_type(fusion))]
pub(super) enum Weight<B: Backend> {
    /// Floating point.
    Dense(FloatTensor<B>),
    /// Few bits a value.
    Packed(#[extension_type] PackedParts<B>),
}

impl<B: Backend, C: CheckpointStrategy> Weight<Autodiff<B, C>> {
    /// Without the graph, in which it takes no part.
    pub(super) fn inner(self) -> Weight<B> {
        match self {
            Self::Dense(weight) => Weight::Dense(weight.into_primitive()),
            Self::Packed(parts) => Weight::Packed(parts.inner()),
        }
    }
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
trait LowRankLinear: Backend {
    #[fusion(dtype = x, shape = result_shape(x, b))]
    fn low_rank_linear(
        x: FloatTensor<Self>,
        #[extension_type] weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "gpu")]
pub(super) fn result_shape(x: &Shape, b: &Shape) -> Shape {
    Shape::new([x[0], b[0]])
}

/// What matrix products lack: two of them, added up as they are made.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"))]
pub(super) trait SumOfProducts: Backend {
    /// `x·Wᵀ + down·up`, or `x·W + down·up` where W is not turned.
    #[fusion(dtype = x, shape = shape_of(down, up))]
    fn sum_of_products(
        x: FloatTensor<Self>,
        #[extension_type] weight: Weight<Self>,
        is_turned: bool,
        down: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// What the gradients need.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    x: FloatTensor<B>,
    weight: Weight<B>,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    /// `scale · x·Aᵀ`
    down: FloatTensor<B>,
    scale: f32,
}

/// Result and `scale · x·Aᵀ`.
pub(super) fn forward<B: SumOfProducts + Product>(
    x: FloatTensor<B>,
    weight: Weight<B>,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    scale: f32,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let down = B::scaled_product(x.clone(), B::float_transpose(a), scale); // [tokens, rank]
    (B::sum_of_products(x, weight, true, down.clone(), B::float_transpose(b)), down)
}

impl LowRankLinear for Flex {
    fn low_rank_linear(
        x: FloatTensor<Self>,
        weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        forward::<Self>(x, weight, a, b, scale).0
    }
}

#[cfg(feature = "gpu")]
impl LowRankLinear for burn_cubecl::CubeBackend {
    fn low_rank_linear(
        x: FloatTensor<Self>,
        weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        forward::<Self>(x, weight, a, b, scale).0
    }
}

impl<B: SumOfProducts + Product, C: CheckpointStrategy> LowRankLinear for Autodiff<B, C> {
    fn low_rank_linear(
        x: FloatTensor<Self>,
        weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let weight = weight.inner();
        let (x, x_node) = x.into_parts();
        let (a, a_node) = a.into_parts();
        let (b, b_node) = b.into_parts();
        let (y, down) = forward::<B>(x.clone(), weight.clone(), a.clone(), b.clone(), scale);
        match LowRankLinearBackward.prepare::<C>([x_node, a_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(Kept { x, weight, a, b, down, scale }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[derive(Debug)]
struct LowRankLinearBackward;

impl<B: SumOfProducts + Product> Backward<B, 3> for LowRankLinearBackward {
    type State = Kept<B>;

    // With u = scale·g·B: dx = g·W + u·A, dA = uᵀ·x, dB = gᵀ·(scale·x·Aᵀ).
    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let Kept { x, weight, a, b, down, scale } = ops.state;
        let [x_node, a_node, b_node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let up = B::scaled_product(grad.clone(), b, scale); // [tokens, rank]
        if let Some(node) = x_node {
            let d_x = B::sum_of_products(grad.clone(), weight, false, up.clone(), a);
            grads.register::<B>(node.id, d_x);
        }
        if let Some(node) = a_node {
            grads.register::<B>(node.id, B::product(B::float_transpose(up), x));
        }
        if let Some(node) = b_node {
            grads.register::<B>(node.id, B::product(B::float_transpose(grad), down));
        }
    }
}

impl SumOfProducts for Flex {
    fn sum_of_products(
        x: FloatTensor<Self>,
        weight: Weight<Self>,
        is_turned: bool,
        down: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let rhs = match &weight {
            Weight::Dense(weight) => {
                let weight = Matrix::of(weight);
                Factor::Dense(if is_turned { weight.turned() } else { weight })
            }
            Weight::Packed(parts) => {
                Factor::Packed(parts.matrix(), if is_turned { Way::Turned } else { Way::AsIs })
            }
        };
        let terms = [Term { lhs: Matrix::of(&x), rhs }, Term::new(Matrix::of(&down), Matrix::of(&up))];
        let shape = Shape::new(terms[0].shape());
        tensor(product(&terms), shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};
    use crate::store::HostPacked;
    use burn::tensor::Device;

    #[test]
    fn fused_linear_equals_reference_forward_and_backward() {
        for [tokens, d_in, d_out, rank] in [[1, 64, 7, 2], [130, 96, 200, 8]] {
            let dense = random::<2>([d_out, d_in], 2);
            let values = dense.clone().into_data().try_into_vec_as::<f32>().expect("floats");
            let packed = HostPacked::four(&values, [d_out, d_in]).expect("whole blocks");
            for weight in
                [WeightMatrix::Dense(dense), WeightMatrix::Packed(Packed::from_host(packed, &Device::flex()))]
            {
                let run = |f: fn(Tensor<2>, &WeightMatrix, Tensor<2>, Tensor<2>, f32) -> Tensor<2>,
                           is_first: bool| {
                    let x = random::<2>([tokens, d_in], 1).autodiff();
                    let x = if is_first { x } else { x.require_grad() };
                    let a = random::<2>([rank, d_in], 3).autodiff().require_grad();
                    let b = random::<2>([d_out, rank], 4).autodiff().require_grad();
                    let y = f(x.clone(), &weight, a.clone(), b.clone(), 0.5);
                    let grads = (y.clone() * random::<2>([tokens, d_out], 5)).sum().backward();
                    let d_x =
                        if is_first { x.inner().zeros_like() } else { x.grad(&grads).expect("x is tracked") };
                    [
                        y.inner(),
                        d_x,
                        a.grad(&grads).expect("a is tracked"),
                        b.grad(&grads).expect("b is tracked"),
                    ]
                };
                for is_first in [false, true] {
                    let (fused, plain) = (run(low_rank_linear, is_first), run(reference, is_first));
                    for (fused, plain) in fused.into_iter().zip(plain) {
                        assert_close(fused, plain, 1e-5);
                    }
                }
            }
        }
    }
}
