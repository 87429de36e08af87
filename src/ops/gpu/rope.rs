//! Rotary embedding, one pair of a head to a unit.

use super::{empty_like, one_each};
use crate::ops::rope::{RotateHalf, RotateHalfKernel};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

impl RotateHalf for CubeBackend {
    fn rotate_half(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::rotate(x, cos, sin)
    }
}

impl RotateHalfKernel for CubeBackend {
    fn rotate(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self> {
        let [batch, seq, heads, d]: [usize; 4] = x.meta.shape().dims();
        turn(x, cos, sin, Heads { batch, seq, heads, d }, false)
    }

    fn rotate_back(
        grad: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [batch, heads, seq, d]: [usize; 4] = grad.meta.shape().dims();
        turn(grad, cos, sin, Heads { batch, seq, heads, d }, true)
    }
}

struct Heads {
    batch: usize,
    seq: usize,
    heads: usize,
    d: usize,
}

/// Forward `x` has its tokens in front of its heads, and the result the other way round; backward the reverse.
fn turn(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, of: Heads, is_back: bool) -> CubeTensor {
    let Heads { batch, seq, heads, d } = of;
    let [x, cos, sin] = [x, cos, sin].map(into_contiguous);
    let shape = if is_back { [batch, seq, heads, d] } else { [batch, heads, seq, d] };
    let y = empty_like(&x, Shape::new(shape));
    let n_pairs = batch * seq * heads * d / 2;
    let client = x.client.clone();
    let (count, units) = one_each(&client, n_pairs);
    // SAFETY: the kernel holds its reads and writes within the sizes it is given.
    unsafe {
        pairs::launch_unchecked(
            &client,
            count,
            units,
            x.into_buffer_arg(),
            cos.into_buffer_arg(),
            sin.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            SizesLaunch::new(n_pairs as u32, seq as u32, heads as u32, (d / 2) as u32),
            is_back,
        );
    }
    y
}

#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    n_pairs: u32,
    seq: u32,
    heads: u32,
    half: u32,
}

#[cube(launch_unchecked)]
fn pairs(x: &[f32], cos: &[f32], sin: &[f32], y: &mut [f32], sizes: Sizes, #[comptime] is_back: bool) {
    let pair = ABSOLUTE_POS as u32;
    if pair < sizes.n_pairs {
        let half = sizes.half;
        let i = pair % half;
        let head = pair / half % sizes.heads;
        let token = pair / half / sizes.heads;
        let (batch, place) = (token / sizes.seq, token % sizes.seq);
        let by_token = ((token * sizes.heads + head) * half * 2 + i) as usize;
        let by_head = (((batch * sizes.heads + head) * sizes.seq + place) * half * 2 + i) as usize;
        let angle = (token * half + i) as usize;
        let half = half as usize;
        let c = cos[angle];
        let s = sin[angle];
        if comptime!(is_back) {
            let a = x[by_head];
            let b = x[by_head + half];
            y[by_token] = a * c + b * s;
            y[by_token + half] = b * c - a * s;
        } else {
            let a = x[by_token];
            let b = x[by_token + half];
            y[by_head] = a * c - b * s;
            y[by_head + half] = b * c + a * s;
        }
    }
}
