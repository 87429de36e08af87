//! The gated activation, a unit for each value.

use super::{empty_like, one_each};
use crate::ops::activation::{Activation, CUBIC, Gated, GatedKernel, SQRT_2_OVER_PI};
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::into_contiguous;

/// Beyond it an exponential's other summand no longer counts, and far beyond it is infinite.
const LARGEST_EXPONENT: f32 = 80.0;

impl Gated for CubeBackend {
    fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        Self::forward(gate, up, activation)
    }
}

impl GatedKernel for CubeBackend {
    fn forward(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let [gate, up] = [gate, up].map(into_contiguous);
        let y = empty_like(&gate, gate.meta.shape().clone());
        let (client, n) = (gate.client.clone(), gate.meta.shape().num_elements());
        let (count, units) = one_each(&client, n);
        // SAFETY: the kernel holds its reads and writes within the sizes it is given.
        unsafe {
            gated::launch_unchecked(
                &client,
                count,
                units,
                gate.into_buffer_arg(),
                up.into_buffer_arg(),
                y.clone().into_buffer_arg(),
                n as u32,
                activation,
            );
        }
        y
    }

    fn backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [gate, up, grad] = [gate, up, grad].map(into_contiguous);
        let shape = gate.meta.shape().clone();
        let (client, n) = (gate.client.clone(), shape.num_elements());
        let [d_gate, d_up, y] = [(); 3].map(|()| empty_like(&gate, shape.clone()));
        let (count, units) = one_each(&client, n);
        // SAFETY: as above.
        unsafe {
            gated_back::launch_unchecked(
                &client,
                count,
                units,
                gate.into_buffer_arg(),
                up.into_buffer_arg(),
                grad.into_buffer_arg(),
                d_gate.clone().into_buffer_arg(),
                d_up.clone().into_buffer_arg(),
                y.clone().into_buffer_arg(),
                n as u32,
                activation,
            );
        }
        (d_gate, d_up, y)
    }
}

/// Value and slope at `x`.
#[cube]
fn value_and_slope(x: f32, #[comptime] activation: Activation) -> (f32, f32) {
    if comptime!(activation == Activation::Silu) {
        let s = 1.0f32 / (1.0f32 + min(-x, LARGEST_EXPONENT).exp());
        (x * s, s * (1.0f32 + x * (1.0f32 - s)))
    } else {
        let inner = SQRT_2_OVER_PI * (x + CUBIC * x * x * x);
        let t = 1.0f32 - 2.0f32 / (min(2.0f32 * inner, LARGEST_EXPONENT).exp() + 1.0f32);
        let inner_slope = SQRT_2_OVER_PI * (1.0f32 + 3.0f32 * CUBIC * x * x);
        (0.5f32 * x * (1.0f32 + t), 0.5f32 * (1.0f32 + t) + 0.5f32 * x * (1.0f32 - t * t) * inner_slope)
    }
}

#[cube(launch_unchecked)]
fn gated(gate: &[f32], up: &[f32], y: &mut [f32], n: u32, #[comptime] activation: Activation) {
    let at = ABSOLUTE_POS;
    if at < n as usize {
        let (value, _slope) = value_and_slope(gate[at], activation);
        y[at] = value * up[at];
    }
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn gated_back(
    gate: &[f32],
    up: &[f32],
    grad: &[f32],
    d_gate: &mut [f32],
    d_up: &mut [f32],
    y: &mut [f32],
    n: u32,
    #[comptime] activation: Activation,
) {
    let at = ABSOLUTE_POS;
    if at < n as usize {
        let (value, slope) = value_and_slope(gate[at], activation);
        let (up, grad) = (up[at], grad[at]);
        d_gate[at] = grad * up * slope;
        d_up[at] = grad * value;
        y[at] = value * up;
    }
}
