//! Cross-entropy with its gradient, by rows of logits.

use super::{empty_like, first_of, largest_of, row_of, rows_of, total};
use crate::ops::cross_entropy::SoftmaxCrossEntropy;
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{IntDType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::into_contiguous;

impl SoftmaxCrossEntropy for CubeBackend {
    fn softmax_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        label_smoothing: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let targets = into_contiguous(Self::int_cast(targets, IntDType::I32));
        let [logits, weights] = [logits, weights].map(into_contiguous);
        let [n_rows, vocab]: [usize; 2] = logits.meta.shape().dims();
        let grad = empty_like(&logits, logits.meta.shape().clone());
        let [loss, correct] = [(); 2].map(|()| empty_like(&logits, Shape::new([n_rows])));
        let client = logits.client.clone();
        let (count, units, sharing) = rows_of(&client, n_rows, vocab);
        // SAFETY: the kernel holds its reads and writes within the sizes it is given; targets are ids of the vocabulary.
        unsafe {
            row::launch_unchecked(
                &client,
                count,
                units,
                logits.into_buffer_arg(),
                TargetsLaunch::new(targets.into_buffer_arg(), weights.into_buffer_arg()),
                grad.clone().into_buffer_arg(),
                FiguresLaunch::new(loss.clone().into_buffer_arg(), correct.clone().into_buffer_arg()),
                n_rows as u32,
                vocab as u32,
                label_smoothing,
                sharing,
            );
        }
        (loss, correct, grad)
    }
}

#[derive(CubeType, CubeLaunch)]
struct Targets {
    ids: Box<[i32]>,
    weights: Box<[f32]>,
}

#[derive(CubeType, CubeLaunch)]
struct Figures {
    loss: Box<[f32]>,
    correct: Box<[f32]>,
}

#[cube(launch_unchecked)]
fn row(
    logits: &[f32],
    targets: Targets,
    grad: &mut [f32],
    mut figures: Figures,
    n_rows: u32,
    vocab: u32,
    smoothing: f32,
    #[comptime] sharing: usize,
) {
    let row = row_of(n_rows, sharing);
    let first = first_of(sharing);
    let vocab = vocab as usize;
    let start = row * vocab;
    let target = targets.ids[row] as usize;
    let weight = targets.weights[row];
    let mut largest = logits[start];
    let mut all = 0.0f32;
    for i in range_stepped(first, vocab, sharing) {
        let value = logits[start + i];
        largest = max(largest, value);
        all += value;
    }
    let largest = largest_of(largest, sharing);
    let all = total(all, sharing);
    let mut sum = 0.0f32;
    for i in range_stepped(first, vocab, sharing) {
        sum += (logits[start + i] - largest).exp();
    }
    let sum = total(sum, sharing);
    let count = f32::cast_from(vocab);
    let scale = weight / sum;
    let uniform = weight * smoothing / count;
    for i in range_stepped(first, vocab, sharing) {
        let mut value = (logits[start + i] - largest).exp() * scale - uniform;
        if i == target {
            value -= weight * (1.0f32 - smoothing);
        }
        grad[start + i] = value;
    }
    if first == 0 {
        let at_target = logits[start + target] - largest;
        let mean = all / count - largest;
        figures.loss[row] = weight * (sum.ln() - (1.0f32 - smoothing) * at_target - smoothing * mean);
        figures.correct[row] = select(at_target == 0.0f32, 1.0f32, 0.0f32);
    }
}
