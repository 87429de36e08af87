//! AdamW's update in one pass over a parameter.

use super::cpu::{dense, tasks, values};
use burn::backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{DType, Tensor};

/// AdamW (1711.05101) without its decay, which is a multiplication beforehand.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the two moments.
    pub betas: [f32; 2],
    /// Added to the square root of the second moment.
    pub epsilon: f32,
}

/// A parameter with its two moments.
#[derive(Clone, Debug)]
pub struct Adapted<const D: usize> {
    /// The parameter.
    pub value: Tensor<D>,
    /// Mean of gradients.
    pub moment_1: Tensor<D>,
    /// Mean of squared gradients.
    pub moment_2: Tensor<D>,
}

impl AdamW {
    /// The parameter after its `time`-th step, the first being 1; all tensors are of one shape.
    pub fn step<const D: usize>(self, at: Adapted<D>, grad: Tensor<D>, time: i32) -> Adapted<D> {
        let is_f32 = [&at.value, &at.moment_1, &at.moment_2, &grad].iter().all(|x| x.dtype() == DType::F32);
        if !(super::is_fused(&grad) && is_f32) {
            return self.reference(at, grad, time);
        }
        let [value, moment_1, moment_2, grad] =
            [at.value, at.moment_1, at.moment_2, grad].map(Tensor::into_dispatch);
        let (value, moment_1, moment_2) =
            <Dispatch as AdamWStep>::adamw_step(value, moment_1, moment_2, grad, self, time);
        let [value, moment_1, moment_2] = [value, moment_1, moment_2].map(Tensor::from_dispatch);
        Adapted { value, moment_1, moment_2 }
    }

    fn reference<const D: usize>(self, at: Adapted<D>, grad: Tensor<D>, time: i32) -> Adapted<D> {
        let [beta_1, beta_2] = self.betas;
        let [unbias_1, unbias_2] = self.unbias(time);
        let moment_1 = at.moment_1.mul_scalar(beta_1) + grad.clone().mul_scalar(1.0 - beta_1);
        let moment_2 = at.moment_2.mul_scalar(beta_2) + grad.square().mul_scalar(1.0 - beta_2);
        let root = moment_2.clone().mul_scalar(unbias_2).sqrt().add_scalar(self.epsilon);
        let value = at.value - (moment_1.clone().mul_scalar(unbias_1) / root).mul_scalar(self.lr);
        Adapted { value, moment_1, moment_2 }
    }

    /// What makes up for moments that began at zero.
    pub(super) fn unbias(self, time: i32) -> [f32; 2] {
        self.betas.map(|beta| 1.0 / (1.0 - beta.powi(time)))
    }
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"))]
pub(super) trait AdamWStep: Backend {
    /// Value and moments.
    #[fusion(meta = |value, moment_1, moment_2, _, _, _| (value.clone(), moment_1.clone(), moment_2.clone()))]
    fn adamw_step(
        value: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: AdamW,
        time: i32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl AdamWStep for Flex {
    fn adamw_step(
        value: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: AdamW,
        time: i32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (mut value, mut moment_1, mut moment_2) = (dense(value), dense(moment_1), dense(moment_2));
        let grad = dense(grad);
        let n = grad.layout().num_elements();
        let [p, m, v] = [&mut value, &mut moment_1, &mut moment_2].map(|x| &mut x.storage_mut::<f32>()[..n]);
        let g = values(&grad);
        let ([beta_1, beta_2], [unbias_1, unbias_2]) = (rule.betas, rule.unbias(time));
        let (lr, epsilon) = (rule.lr as f32, rule.epsilon);
        tasks::vectorised(
            #[inline(always)]
            || {
                let (p, m, v, g) = (&mut p[..n], &mut m[..n], &mut v[..n], &g[..n]);
                for i in 0..n {
                    m[i] = m[i] * beta_1 + g[i] * (1.0 - beta_1);
                    v[i] = v[i] * beta_2 + g[i] * g[i] * (1.0 - beta_2);
                    p[i] -= m[i] * unbias_1 / ((v[i] * unbias_2).sqrt() + epsilon) * lr;
                }
            },
        );
        (value, moment_1, moment_2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn one_pass_equals_steps_one_by_one() {
        let rule = AdamW { lr: 0.01, betas: [0.9, 0.999], epsilon: 1e-8 };
        for shape in [[1, 1], [8, 577]] {
            let zeros = random::<2>(shape, 1).zeros_like();
            let start = Adapted { value: random::<2>(shape, 1), moment_1: zeros.clone(), moment_2: zeros };
            let (mut fused, mut plain) = (start.clone(), start.clone());
            for time in 1..=5 {
                let grad = random::<2>(shape, time as u64 + 1);
                fused = rule.step(fused, grad.clone(), time);
                plain = rule.reference(plain, grad, time);
            }
            assert_close(fused.value, plain.value, 1e-6);
            assert_close(fused.moment_1, plain.moment_1, 1e-6);
            assert_close(fused.moment_2, plain.moment_2, 1e-6);
            assert_close(start.value, random::<2>(shape, 1), 0.0);
        }
    }
}
