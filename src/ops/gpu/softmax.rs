//! Attention's masked softmax, by rows of a query.

use super::{empty_like, first_of, largest_of, row_of, rows_of, total};
use crate::ops::attention::{MaskedSoftmax, MaskedSoftmaxKernel};
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::into_contiguous;

impl MaskedSoftmax for CubeBackend {
    fn masked_softmax(scores: FloatTensor<Self>, mask: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        Self::forward(scores, mask, scale)
    }
}

impl MaskedSoftmaxKernel for CubeBackend {
    fn forward(scores: FloatTensor<Self>, mask: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        let [scores, mask] = [scores, mask].map(into_contiguous);
        let [batch, queries, keys]: [usize; 3] = mask.meta.shape().dims();
        let n_rows = scores.meta.shape().num_elements() / keys.max(1);
        let p = empty_like(&scores, scores.meta.shape().clone());
        let client = scores.client.clone();
        let (count, units, sharing) = rows_of(&client, n_rows, keys);
        // SAFETY: the kernel holds its reads and writes within the sizes it is given.
        unsafe {
            softmax::launch_unchecked(
                &client,
                count,
                units,
                scores.into_buffer_arg(),
                mask.into_buffer_arg(),
                p.clone().into_buffer_arg(),
                RowsLaunch::new(n_rows as u32, (n_rows / batch.max(1)) as u32, queries as u32, keys as u32),
                scale,
                sharing,
            );
        }
        p
    }

    fn backward(probabilities: FloatTensor<Self>, grad: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        let [p, grad] = [probabilities, grad].map(into_contiguous);
        let shape = p.meta.shape().clone();
        let keys = shape[shape.num_dims() - 1];
        let n_rows = shape.num_elements() / keys.max(1);
        let d_scores = empty_like(&p, shape);
        let client = p.client.clone();
        let (count, units, sharing) = rows_of(&client, n_rows, keys);
        // SAFETY: as above.
        unsafe {
            softmax_back::launch_unchecked(
                &client,
                count,
                units,
                p.into_buffer_arg(),
                grad.into_buffer_arg(),
                d_scores.clone().into_buffer_arg(),
                n_rows as u32,
                keys as u32,
                scale,
                sharing,
            );
        }
        d_scores
    }
}

#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Rows {
    n: u32,
    per_item: u32,
    queries: u32,
    keys: u32,
}

#[cube(launch_unchecked)]
fn softmax(scores: &[f32], mask: &[f32], p: &mut [f32], rows: Rows, scale: f32, #[comptime] sharing: usize) {
    let row = row_of(rows.n, sharing);
    let first = first_of(sharing);
    let keys = rows.keys as usize;
    let start = row * keys;
    let item = row as u32 / rows.per_item;
    let masks = (item * rows.queries + row as u32 % rows.queries) as usize * keys;
    let mut largest = scores[start] * scale + mask[masks];
    for i in range_stepped(first, keys, sharing) {
        largest = max(largest, scores[start + i] * scale + mask[masks + i]);
    }
    let largest = largest_of(largest, sharing);
    let mut sum = 0.0f32;
    for i in range_stepped(first, keys, sharing) {
        let value = (scores[start + i] * scale + mask[masks + i] - largest).exp();
        p[start + i] = value;
        sum += value;
    }
    let r = 1.0f32 / total(sum, sharing);
    for i in range_stepped(first, keys, sharing) {
        p[start + i] *= r;
    }
}

// d scores = scale · p · (g − Σ g·p)
#[cube(launch_unchecked)]
fn softmax_back(
    p: &[f32],
    grad: &[f32],
    d_scores: &mut [f32],
    n_rows: u32,
    keys: u32,
    scale: f32,
    #[comptime] sharing: usize,
) {
    let keys = keys as usize;
    let start = row_of(n_rows, sharing) * keys;
    let first = first_of(sharing);
    let mut dot = 0.0f32;
    for i in range_stepped(first, keys, sharing) {
        dot += grad[start + i] * p[start + i];
    }
    let dot = total(dot, sharing);
    for i in range_stepped(first, keys, sharing) {
        d_scores[start + i] = scale * p[start + i] * (grad[start + i] - dot);
    }
}
