//! Cross-entropy over a vocabulary, with its gradient in the same pass.

use super::cpu::math::{exp, max, sum};
use super::cpu::{dense, last_dim, rows, tensor, values};
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{IndexingUpdateOp, Int, IntDType, Shape, Tensor, activation};

/// Loss and gradient of a block of rows.
pub struct CrossEntropy {
    /// Weighted negative log-likelihood of each row's target, smoothing included; `[rows]`
    pub loss: Tensor<1>,
    /// 1 where the target has the largest logit, else 0; `[rows]`
    pub correct: Tensor<1>,
    /// d(Σ loss) / d(logits); `[rows, vocab]`
    pub grad: Tensor<2>,
}

/// `weight · ((1 − ε)·nll(target) + ε·mean over the vocabulary of nll)` and its gradient, as PyTorch's
/// `cross_entropy` with `label_smoothing` ε (1512.00567). All tensors are plain, outside autodiff.
///
/// # Shapes
/// `logits`: `[rows, vocab]` · `targets`, `weights`: `[rows]`
pub fn softmax_cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    label_smoothing: f32,
) -> CrossEntropy {
    if super::is_fused(&logits) {
        let (loss, correct, grad) = <Dispatch as SoftmaxCrossEntropy>::softmax_cross_entropy(
            logits.into_dispatch(),
            targets.into_dispatch(),
            weights.into_dispatch(),
            label_smoothing,
        );
        return CrossEntropy {
            loss: Tensor::from_dispatch(loss),
            correct: Tensor::from_dispatch(correct),
            grad: Tensor::from_dispatch(grad),
        };
    }
    reference(logits, targets, weights, label_smoothing)
}

fn reference(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    label_smoothing: f32,
) -> CrossEntropy {
    let [_, vocab] = logits.dims();
    let log_p = activation::log_softmax(logits.clone(), 1); // [rows, vocab]
    let at_target: Tensor<1> = log_p.clone().gather(1, targets.clone().unsqueeze_dim(1)).squeeze_dim(1);
    let mean: Tensor<1> = log_p.clone().mean_dim(1).squeeze_dim(1);
    let nll = at_target.mul_scalar(label_smoothing - 1.0) - mean.mul_scalar(label_smoothing);
    let best: Tensor<1, Int> = logits.argmax(1).squeeze_dim(1);
    let one_hot = -weights.clone().mul_scalar(1.0 - label_smoothing).unsqueeze_dim::<2>(1);
    let uniform = label_smoothing / vocab as f32;
    let grad = (log_p.exp().sub_scalar(uniform) * weights.clone().unsqueeze_dim(1)).scatter(
        1,
        targets.clone().unsqueeze_dim(1),
        one_hot,
        IndexingUpdateOp::Add,
    );
    CrossEntropy { loss: nll * weights, correct: best.equal(targets).float(), grad }
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"))]
pub(super) trait SoftmaxCrossEntropy: Backend {
    /// (loss, correct, gradient of the logits)
    #[fusion(meta = |logits, _, weights, _| (weights.clone(), weights.clone(), logits.clone()))]
    fn softmax_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        label_smoothing: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl SoftmaxCrossEntropy for Flex {
    fn softmax_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        label_smoothing: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (mut grad, weights) = (dense(logits), dense(weights));
        let targets = Flex::int_cast(targets, IntDType::I32).to_contiguous();
        let (targets, weights) = (targets.storage::<i32>(), values(&weights));
        let vocab = last_dim(&grad);
        let mut figures = vec![0.0; weights.len() * 2]; // [rows, (loss, correct)]
        rows::for_each_of(
            [grad.storage_mut::<f32>(), &mut figures],
            [vocab, 2],
            #[inline(always)]
            |row, [x, out]| {
                let (target, weight) = (targets[row] as usize, weights[row]);
                let largest = max(x);
                let at_target = x[target] - largest;
                let mean = if label_smoothing > 0.0 { sum(x) / vocab as f32 - largest } else { 0.0 };
                for x in x.iter_mut() {
                    *x = exp(*x - largest);
                }
                let total = sum(x);
                out[0] = weight * (total.ln() - (1.0 - label_smoothing) * at_target - label_smoothing * mean);
                out[1] = if at_target == 0.0 { 1.0 } else { 0.0 };
                let (scale, uniform) = (weight / total, weight * label_smoothing / vocab as f32);
                for x in x.iter_mut() {
                    *x = *x * scale - uniform;
                }
                x[target] -= weight * (1.0 - label_smoothing);
            },
        );
        let rows = Shape::new([weights.len()]);
        let (loss, correct) = figures.chunks_exact(2).map(|f| (f[0], f[1])).unzip();
        (tensor(loss, rows.clone()), tensor(correct, rows), grad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};
    use burn::tensor::Device;

    #[test]
    fn fused_loss_equals_reference() {
        for smoothing in [0.0, 0.1] {
            let logits = random::<2>([5, 131], 1).mul_scalar(5.0);
            let best = logits.clone().argmax(1).into_data();
            let best = best.iter::<i64>().next().expect("a row") as i32;
            let targets = Tensor::<1, Int>::from_data([best, 0, 7, 130, 64], &Device::flex());
            let weights = Tensor::<1>::from_data([1.0, 0.5, 2.0, 1.0, 0.0], &Device::flex());
            let fused = softmax_cross_entropy(logits.clone(), targets.clone(), weights.clone(), smoothing);
            let plain = reference(logits, targets, weights, smoothing);
            assert_close(fused.loss, plain.loss, 1e-5);
            assert_close(fused.correct, plain.correct, 0.0);
            assert_close(fused.grad, plain.grad, 1e-6);
        }
    }
}
