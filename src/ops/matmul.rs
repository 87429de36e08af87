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
    use crate::ops::testing::random;

    /// Asserts that `found` is `a · b` as exactly as sums in f32 make it. Their error is of the size of what is added up,
    /// also where that cancels out: one after the other, 300 products are at most 1.1 last places of |row| · |column| off
    /// here, a matrix unit's fewer.
    fn assert_product(found: Tensor<2>, a: &Tensor<2>, b: &Tensor<2>) {
        let ([m, k], [_, n]) = (a.dims(), b.dims());
        assert_eq!(found.dims(), [m, n]);
        let values = |x: &Tensor<2>| x.clone().into_data().try_into_vec_as::<f32>().expect("f32");
        let (found, a, b) = (values(&found), values(a), values(b));
        for (at, &found) in found.iter().enumerate() {
            let (i, j) = (at / n, at % n);
            let pairs = || (0..k).map(|l| (f64::from(a[i * k + l]), f64::from(b[l * n + j])));
            let exact: f64 = pairs().map(|(x, y)| x * y).sum();
            let lengths = pairs().fold([0.0, 0.0], |[a, b], (x, y)| [a + x * x, b + y * y]);
            let size = 1.0 + (lengths[0] * lengths[1]).sqrt();
            let error = (f64::from(found) - exact).abs();
            assert!(
                error <= 2.0 * f64::from(f32::EPSILON) * size,
                "{m}x{k}x{n}, {i}, {j}: {found} is not {exact}"
            );
        }
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
            assert_product(y.inner(), &x, &w.clone().transpose());
            assert_product(d_x, &grad, &w);
            assert_product(d_w, &grad.transpose(), &x);
        }
    }
}
