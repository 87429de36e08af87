//! Gradients as one vector: its norm, and the limit to it.

use crate::models::{AnyTensor, NamedTensors};
use crate::ops::map_each;
use burn::tensor::Tensor;

/// L2 norm of all gradients as one vector.
///
/// # Shapes
/// Returns `[1]`, on the gradients' device; `None` where there are no gradients.
pub fn global_norm(grads: &NamedTensors) -> Option<Tensor<1>> {
    let device = grads.values().next()?.device();
    let squares = map_each(grads.values().collect(), &device, AnyTensor::square_sum);
    Some(Tensor::cat(squares, 0).sum().sqrt())
}

/// Factor that brings `norm` down to `max_norm`: max_norm / (norm + 1e-6), at most 1, in f32 as
/// `torch.nn.utils.clip_grad_norm_` has it. 1 where `max_norm` is 0.
pub fn clip_factor(norm: f32, max_norm: f64) -> f32 {
    if max_norm == 0.0 { 1.0 } else { (max_norm as f32 / (norm + 1e-6)).min(1.0) }
}

/// Multiplies all gradients by `factor`.
pub fn scale(grads: NamedTensors, factor: f32) -> NamedTensors {
    if factor == 1.0 {
        return grads;
    }
    let Some(device) = grads.values().next().map(AnyTensor::device) else { return grads };
    let scaled = map_each(grads.into_iter().collect(), &device, |(name, grad): (String, AnyTensor)| {
        (name, grad.mul_scalar(factor))
    });
    scaled.into_iter().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::Device;

    fn grads() -> NamedTensors {
        let device = Device::flex();
        NamedTensors::from([
            ("a".to_string(), AnyTensor::Vector(Tensor::from_floats([3.0, 0.0], &device))),
            ("b".to_string(), AnyTensor::Matrix(Tensor::from_floats([[0.0, 4.0], [12.0, 0.0]], &device))),
        ])
    }

    fn norm(grads: &NamedTensors) -> f32 {
        global_norm(grads).unwrap().into_scalar::<f32>()
    }

    #[test]
    fn norm_is_over_all_tensors_and_clipping_brings_it_to_the_limit() {
        let grads = grads();
        assert!((norm(&grads) - 13.0).abs() < 1e-5);
        let clipped = scale(grads, clip_factor(13.0, 1.0));
        assert!((norm(&clipped) - 1.0).abs() < 1e-5, "{}", norm(&clipped));
    }

    #[test]
    fn small_norms_and_a_limit_of_zero_leave_gradients_alone() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert_eq!(clip_factor(1e9, 0.0), 1.0);
    }
}
