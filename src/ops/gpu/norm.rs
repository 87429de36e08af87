//! RMS normalisation, by rows.

use super::{empty_like, first_of, one_each, row_of, rows_of, total};
use crate::ops::norm::{RmsNorm, RmsNormKernel};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

impl RmsNorm for CubeBackend {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        Self::forward(x, weight, epsilon)
    }
}

impl RmsNormKernel for CubeBackend {
    fn forward(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let [x, weight] = [x, weight].map(into_contiguous);
        let (n_rows, d) = rows(&x);
        let y = empty_like(&x, x.meta.shape().clone());
        let client = x.client.clone();
        let (count, units, sharing) = rows_of(&client, n_rows, d);
        // SAFETY: the kernel holds its reads and writes within the sizes it is given.
        unsafe {
            normalise::launch_unchecked(
                &client,
                count,
                units,
                x.into_buffer_arg(),
                weight.into_buffer_arg(),
                y.clone().into_buffer_arg(),
                n_rows as u32,
                d as u32,
                epsilon,
                sharing,
            );
        }
        y
    }

    fn backward_x(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [x, weight, grad] = [x, weight, grad].map(into_contiguous);
        let (n_rows, d) = rows(&x);
        let dx = empty_like(&x, x.meta.shape().clone());
        let client = x.client.clone();
        let (count, units, sharing) = rows_of(&client, n_rows, d);
        // SAFETY: as above.
        unsafe {
            normalise_back::launch_unchecked(
                &client,
                count,
                units,
                x.into_buffer_arg(),
                weight.into_buffer_arg(),
                grad.into_buffer_arg(),
                dx.clone().into_buffer_arg(),
                n_rows as u32,
                d as u32,
                epsilon,
                sharing,
            );
        }
        dx
    }

    fn backward_weight(x: FloatTensor<Self>, epsilon: f32, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let [x, grad] = [x, grad].map(into_contiguous);
        let (n_rows, d) = rows(&x);
        let inverse = empty_like(&x, Shape::new([n_rows]));
        let dw = empty_like(&x, Shape::new([d]));
        let client = x.client.clone();
        let (count, units, sharing) = rows_of(&client, n_rows, d);
        let (count_columns, units_columns) = one_each(&client, d);
        // SAFETY: as above.
        unsafe {
            inverse_rms::launch_unchecked(
                &client,
                count,
                units,
                x.clone().into_buffer_arg(),
                inverse.clone().into_buffer_arg(),
                n_rows as u32,
                d as u32,
                epsilon,
                sharing,
            );
            weight_grad::launch_unchecked(
                &client,
                count_columns,
                units_columns,
                x.into_buffer_arg(),
                inverse.into_buffer_arg(),
                grad.into_buffer_arg(),
                dw.clone().into_buffer_arg(),
                n_rows as u32,
                d as u32,
            );
        }
        dw
    }
}

/// How many rows there are, and how long they are.
fn rows(x: &CubeTensor) -> (usize, usize) {
    let shape = x.meta.shape();
    let d = shape[shape.num_dims() - 1];
    (shape.num_elements() / d.max(1), d)
}

#[cube]
fn inverse_rms_of(x: &[f32], start: usize, d: usize, epsilon: f32, #[comptime] sharing: usize) -> f32 {
    let mut sum = 0.0f32;
    for i in range_stepped(first_of(sharing), d, sharing) {
        let value = x[start + i];
        sum += value * value;
    }
    1.0f32 / (total(sum, sharing) / f32::cast_from(d) + epsilon).sqrt()
}

#[cube(launch_unchecked)]
fn normalise(
    x: &[f32],
    weight: &[f32],
    y: &mut [f32],
    n_rows: u32,
    d: u32,
    epsilon: f32,
    #[comptime] sharing: usize,
) {
    let d = d as usize;
    let start = row_of(n_rows, sharing) * d;
    let r = inverse_rms_of(x, start, d, epsilon, sharing);
    for i in range_stepped(first_of(sharing), d, sharing) {
        y[start + i] = x[start + i] * r * weight[i];
    }
}

// With r = 1/rms and g' = g·w: dx = r·(g' − x·r²·mean(g'·x)).
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn normalise_back(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    dx: &mut [f32],
    n_rows: u32,
    d: u32,
    epsilon: f32,
    #[comptime] sharing: usize,
) {
    let d = d as usize;
    let first = first_of(sharing);
    let start = row_of(n_rows, sharing) * d;
    let r = inverse_rms_of(x, start, d, epsilon, sharing);
    let mut dot = 0.0f32;
    for i in range_stepped(first, d, sharing) {
        dot += grad[start + i] * weight[i] * x[start + i];
    }
    let c = total(dot, sharing) * r * r / f32::cast_from(d);
    for i in range_stepped(first, d, sharing) {
        dx[start + i] = r * (grad[start + i] * weight[i] - x[start + i] * c);
    }
}

#[cube(launch_unchecked)]
fn inverse_rms(
    x: &[f32],
    inverse: &mut [f32],
    n_rows: u32,
    d: u32,
    epsilon: f32,
    #[comptime] sharing: usize,
) {
    let row = row_of(n_rows, sharing);
    let d = d as usize;
    let r = inverse_rms_of(x, row * d, d, epsilon, sharing);
    if first_of(sharing) == 0 {
        inverse[row] = r;
    }
}

#[cube(launch_unchecked)]
fn weight_grad(x: &[f32], inverse: &[f32], grad: &[f32], dw: &mut [f32], n_rows: u32, d: u32) {
    if ABSOLUTE_POS < d as usize {
        let column = ABSOLUTE_POS;
        let d = d as usize;
        let mut sum = 0.0f32;
        for row in 0..n_rows as usize {
            sum += grad[row * d + column] * x[row * d + column] * inverse[row];
        }
        dw[column] = sum;
    }
}
