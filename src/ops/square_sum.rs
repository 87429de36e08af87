//! Sum of squares in one pass.

use super::cpu::math::dot;
use super::cpu::{dense, tensor, values};
use burn::backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{DType, Shape, Tensor};

/// The sum of all squares, `[1]`, outside autodiff.
pub fn square_sum<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    if super::is_fused(&x) && x.dtype() == DType::F32 {
        return Tensor::from_dispatch(<Dispatch as SquareSum>::square_sum(x.into_dispatch()));
    }
    x.square().sum()
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"))]
pub(super) trait SquareSum: Backend {
    #[fusion(dtype = x, shape = { let _ = x; Shape::new([1]) })]
    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl SquareSum for Flex {
    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = dense(x);
        let x = values(&x);
        tensor(vec![dot(x, x)], Shape::new([1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn one_pass_equals_squares_and_their_sum() {
        for shape in [[1, 1], [7, 131], [300, 1000]] {
            let x = random::<2>(shape, 1);
            assert_close(square_sum(x.clone()), x.clone().square().sum(), 1e-5);
            assert_close(square_sum(x.clone().swap_dims(0, 1)), x.square().sum(), 1e-5);
        }
    }
}
