//! A frozen linear layer with a low-rank update.

use super::cpu::gemm::{Factor, Matrix, Term, product};
use super::cpu::packed::Way;
use super::cpu::tensor;
use super::packed::PackedParts;
use super::{Packed, matmul};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::flex::FlexTensor;
use burn::backend::{
    Autodiff, Backend, Dispatch, ExtensionType, Flex, backend_extension, tensor::FloatTensor,
};
use burn::tensor::{DType, Shape, Tensor};

/// A matrix `[d_out, d_in]` as it lies in memory.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // a handful of handles, made for a product at a time
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
    let is_f32 = [x.dtype(), a.dtype(), b.dtype()] == [DType::F32; 3]
        && !matches!(weight, WeightMatrix::Dense(weight) if weight.dtype() != DType::F32);
    if super::on_cpu(&x) && is_f32 {
        let weight = match weight {
            WeightMatrix::Dense(weight) => Weight::Dense(weight.clone().into_dispatch()),
            WeightMatrix::Packed(packed) => Weight::Packed(packed.parts()),
        };
        let [x, a, b] = [x, a, b].map(Tensor::into_dispatch);
        return Tensor::from_dispatch(<Dispatch as LowRankLinear>::low_rank_linear(x, weight, a, b, scale));
    }
    reference(x, weight, a, b, scale)
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
enum Weight<B: Backend> {
    Dense(FloatTensor<B>),
    Packed(#[extension_type] PackedParts<B>),
}

#[backend_extension(Flex, Autodiff)]
trait LowRankLinear: Backend {
    fn low_rank_linear(
        x: FloatTensor<Self>,
        #[extension_type] weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
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

/// Whose gradients are wanted.
#[derive(Clone, Copy)]
struct Wanted {
    x: bool,
    a: bool,
    b: bool,
}

trait LowRankLinearKernel: Backend {
    /// Result and `scale · x·Aᵀ`.
    fn forward(
        x: FloatTensor<Self>,
        weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
    /// Gradients of x, a and b.
    fn backward(kept: Kept<Self>, grad: FloatTensor<Self>, wanted: Wanted) -> [Option<FloatTensor<Self>>; 3];
}

impl LowRankLinear for Flex {
    fn low_rank_linear(
        x: FloatTensor<Self>,
        weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        Self::forward(x, weight, a, b, scale).0
    }
}

impl<B: LowRankLinearKernel, C: CheckpointStrategy> LowRankLinear for Autodiff<B, C> {
    fn low_rank_linear(
        x: FloatTensor<Self>,
        weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let weight = match weight {
            Weight::Dense(weight) => Weight::Dense(weight.into_primitive()),
            Weight::Packed(parts) => Weight::Packed(parts.inner()),
        };
        let (x, x_node) = x.into_parts();
        let (a, a_node) = a.into_parts();
        let (b, b_node) = b.into_parts();
        let (y, down) = B::forward(x.clone(), weight.clone(), a.clone(), b.clone(), scale);
        match LowRankLinearBackward.prepare::<C>([x_node, a_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(Kept { x, weight, a, b, down, scale }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[derive(Debug)]
struct LowRankLinearBackward;

impl<B: LowRankLinearKernel> Backward<B, 3> for LowRankLinearBackward {
    type State = Kept<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x, a, b] = &ops.parents;
        let wanted = Wanted { x: x.is_some(), a: a.is_some(), b: b.is_some() };
        let grad = grads.consume::<B>(&ops.node);
        for (node, grad) in ops.parents.iter().zip(B::backward(ops.state, grad, wanted)) {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl LowRankLinearKernel for Flex {
    fn forward(
        x: FloatTensor<Self>,
        weight: Weight<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let down = scaled(made(&[term(&x, &turned(&a))]), scale);
        let y = made(&[with_weight(&x, &weight, Way::Turned), term(&down, &turned(&b))]);
        (y, down)
    }

    // With u = scale·g·B: dx = g·W + u·A, dA = uᵀ·x, dB = gᵀ·(scale·x·Aᵀ).
    fn backward(kept: Kept<Self>, grad: FloatTensor<Self>, wanted: Wanted) -> [Option<FloatTensor<Self>>; 3] {
        let Kept { x, weight, a, b, down, scale } = kept;
        let up = scaled(made(&[term(&grad, &b)]), scale); // [tokens, rank]
        let d_x = wanted.x.then(|| made(&[with_weight(&grad, &weight, Way::AsIs), term(&up, &a)]));
        let d_a = wanted.a.then(|| made(&[term(&turned(&up), &x)]));
        let d_b = wanted.b.then(|| made(&[term(&turned(&grad), &down)]));
        [d_x, d_a, d_b]
    }
}

/// A tensor that [`made`] made, times `scale`.
fn scaled(mut x: FlexTensor, scale: f32) -> FlexTensor {
    x.storage_mut::<f32>().iter_mut().for_each(|x| *x *= scale);
    x
}

/// Rows become columns, without a copy.
fn turned(x: &FlexTensor) -> FlexTensor {
    x.transpose(0, 1)
}

/// `lhs · rhs`
fn term<'a>(lhs: &'a FlexTensor, rhs: &'a FlexTensor) -> Term<'a> {
    Term::new(Matrix::of(lhs), Matrix::of(rhs))
}

/// `x·Wᵀ`, or `x·W`
fn with_weight<'a>(x: &'a FlexTensor, weight: &'a Weight<Flex>, way: Way) -> Term<'a> {
    let rhs = match weight {
        Weight::Dense(weight) => {
            let weight = Matrix::of(weight);
            Factor::Dense(if way == Way::Turned { weight.turned() } else { weight })
        }
        Weight::Packed(parts) => Factor::Packed(parts.matrix(), way),
    };
    Term { lhs: Matrix::of(x), rhs }
}

/// The sum of the terms.
fn made(terms: &[Term]) -> FlexTensor {
    let shape = terms[0].shape();
    tensor(product(terms), Shape::new(shape))
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
