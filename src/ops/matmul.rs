//! Matrix product.

use super::cpu::gemm::{Matrix, Term, product};
use super::cpu::tensor;
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, binary},
};
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{DType, Shape, Tensor};

/// `lhs · rhs`
///
/// # Shapes
/// `lhs`: `[…, m, k]` · `rhs`: `[…, k, n]` · result: `[…, m, n]`
pub fn matmul<const D: usize>(lhs: Tensor<D>, rhs: Tensor<D>) -> Tensor<D> {
    let is_plain = D <= 4 && lhs.dims()[..D - 2] == rhs.dims()[..D - 2] && lhs.dtype() == DType::F32;
    if is_plain && super::is_fused(&lhs) {
        let y = <Dispatch as Product>::product(lhs.into_dispatch(), rhs.into_dispatch());
        return Tensor::from_dispatch(y);
    }
    lhs.matmul(rhs)
}

/// A product of our own; the leading dimensions are alike, two at most.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(super) trait Product: Backend {
    #[fusion(dtype = lhs, shape = shape_of(lhs, rhs))]
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Times a number.
    #[fusion(dtype = lhs, shape = shape_of(lhs, rhs))]
    fn scaled_product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>, scale: f32) -> FloatTensor<Self>;
}

pub(super) fn shape_of(lhs: &Shape, rhs: &Shape) -> Shape {
    let mut shape = lhs.clone();
    let last = shape.num_dims() - 1;
    shape[last] = rhs[last];
    shape
}

impl<B: Product, C: CheckpointStrategy> Product for Autodiff<B, C> {
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        let (is_lhs_tracked, is_rhs_tracked) = (lhs.is_tracked(), rhs.is_tracked());
        let (lhs, lhs_node) = lhs.into_parts();
        let (rhs, rhs_node) = rhs.into_parts();
        let y = B::product(lhs.clone(), rhs.clone());
        match ProductBackward.prepare::<C>([lhs_node, rhs_node]).compute_bound().stateful() {
            // A factor is kept for the other's gradient only: a frozen weight keeps no activation.
            OpsKind::Tracked(prep) => {
                prep.finish((is_rhs_tracked.then_some(lhs), is_lhs_tracked.then_some(rhs)), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn scaled_product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        Self::float_mul_scalar(Self::product(lhs, rhs), scale.into())
    }
}

#[derive(Debug)]
struct ProductBackward;

impl<B: Product> Backward<B, 2> for ProductBackward {
    type State = (Option<B::FloatTensorPrimitive>, Option<B::FloatTensorPrimitive>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (lhs, rhs) = ops.state;
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |grad| B::product(grad, B::float_transpose(rhs.expect("kept for a tracked left factor"))),
            |grad| B::product(B::float_transpose(lhs.expect("kept for a tracked right factor")), grad),
        );
    }
}

impl Product for Flex {
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = shape_of(lhs.layout().shape(), rhs.layout().shape());
        // burn shares batches out between cores.
        if shape.num_dims() != 2 {
            return Self::float_matmul(lhs, rhs);
        }
        tensor(product(&[Term::new(Matrix::of(&lhs), Matrix::of(&rhs))]), shape)
    }

    fn scaled_product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        let mut y = Self::product(lhs, rhs);
        y.storage_mut::<f32>().iter_mut().for_each(|y| *y *= scale);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};
    use burn::tensor::{Device, TensorData};

    /// `a · b`, added up in f64.
    fn exact(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
        let ([m, k], [_, n]) = (a.dims(), b.dims());
        let values = |x: &Tensor<2>| x.clone().into_data().try_into_vec_as::<f32>().expect("f32");
        let (a, b) = (values(a), values(b));
        let at = |i: usize, j: usize| -> f32 {
            (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum::<f64>() as f32
        };
        let values: Vec<f32> = (0..m * n).map(|i| at(i / n, i % n)).collect();
        Tensor::from_data(TensorData::new(values, [m, n]), &Device::flex())
    }

    #[test]
    fn products_and_their_gradients_are_exact() {
        for [m, k, n] in [[1, 7, 5], [130, 64, 300], [300, 64, 130]] {
            let x = random::<2>([m, k], 1).autodiff().require_grad();
            let w = random::<2>([n, k], 2).autodiff().require_grad();
            let grad = random::<2>([m, n], 3);
            let y = matmul(x.clone(), w.clone().transpose());
            let grads = (y.clone() * grad.clone()).sum().backward();
            let (d_x, d_w) = (x.grad(&grads).expect("x is tracked"), w.grad(&grads).expect("w is tracked"));
            let (x, w) = (x.inner(), w.inner());
            assert_close(y.inner(), exact(&x, &w.clone().transpose()), 1e-5);
            assert_close(d_x, exact(&grad, &w), 1e-5);
            assert_close(d_w, exact(&grad.transpose(), &x), 1e-5);
        }
    }
}
