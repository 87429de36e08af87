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

/// A layer with its update, without a graph.
#[derive(Clone, Debug)]
pub(super) struct Layer<B: Backend> {
    pub weight: Weight<B>,
    pub a: FloatTensor<B>,
    pub b: FloatTensor<B>,
    pub scale: f32,
}

// With u = scale·g·B: dx = g·W + u·A, dA = uᵀ·x, dB = gᵀ·(scale·x·Aᵀ).
impl<B: SumOfProducts + Product> Layer<B> {
    /// Result and `scale · x·Aᵀ`.
    pub fn forward(self, x: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
        let down = B::scaled_product(x.clone(), B::float_transpose(self.a), self.scale); // [tokens, rank]
        (B::sum_of_products(x, self.weight, true, down.clone(), B::float_transpose(self.b)), down)
    }

    /// u, `[tokens, rank]`.
    pub fn narrowed(&self, grad: FloatTensor<B>) -> FloatTensor<B> {
        B::scaled_product(grad, self.b.clone(), self.scale)
    }

    /// The gradient of x.
    pub fn of_x(self, grad: FloatTensor<B>, narrowed: FloatTensor<B>) -> FloatTensor<B> {
        B::sum_of_products(grad, self.weight, false, narrowed, self.a)
    }
}

/// `leftᵀ·right`: the gradient of A is that of u and x, of B that of g and `scale · x·Aᵀ`.
pub(super) fn of_factor<B: Product>(left: FloatTensor<B>, right: FloatTensor<B>) -> FloatTensor<B> {
    B::product(B::float_transpose(left), right)
}

/// What the gradients need.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    x: FloatTensor<B>,
    layer: Layer<B>,
    /// `scale · x·Aᵀ`
    down: FloatTensor<B>,
}

impl LowRankLinear for Flex {
    fn low_rank_linear(
        x: FloatTensor<Self>,
        weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        Layer::<Self> { weight, a, b, scale }.forward(x).0
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
        Layer::<Self> { weight, a, b, scale }.forward(x).0
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
        let (x, x_node) = x.into_parts();
        let (a, a_node) = a.into_parts();
        let (b, b_node) = b.into_parts();
        let layer = Layer { weight: weight.inner(), a, b, scale };
        let (y, down) = layer.clone().forward(x.clone());
        match LowRankLinearBackward.prepare::<C>([x_node, a_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(Kept { x, layer, down }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[derive(Debug)]
struct LowRankLinearBackward;

impl<B: SumOfProducts + Product> Backward<B, 3> for LowRankLinearBackward {
    type State = Kept<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let Kept { x, layer, down } = ops.state;
        let [x_node, a_node, b_node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let narrowed = layer.narrowed(grad.clone());
        if let Some(node) = x_node {
            grads.register::<B>(node.id, layer.of_x(grad.clone(), narrowed.clone()));
        }
        if let Some(node) = a_node {
            grads.register::<B>(node.id, of_factor::<B>(narrowed, x));
        }
        if let Some(node) = b_node {
            grads.register::<B>(node.id, of_factor::<B>(grad, down));
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
pub(super) mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};
    use crate::store::HostPacked;
    use burn::tensor::Device;

    /// The same matrix in f32 and, rounded, in four bits.
    pub fn dense_and_packed(shape: [usize; 2]) -> [WeightMatrix; 2] {
        let dense = random::<2>(shape, 2);
        let values = dense.clone().into_data().try_into_vec_as::<f32>().expect("floats");
        let packed = HostPacked::four(&values, shape).expect("whole blocks");
        [WeightMatrix::Dense(dense), WeightMatrix::Packed(Packed::from_host(packed, &Device::flex()))]
    }

    #[test]
    fn fused_linear_equals_reference_forward_and_backward() {
        for [tokens, d_in, d_out, rank] in [[1, 64, 7, 2], [130, 96, 200, 8]] {
            for weight in dense_and_packed([d_out, d_in]) {
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
