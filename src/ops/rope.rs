//! Rotary position embedding, rotate-half form (2104.09864 as GPT-NeoX and Llama arrange it).

use super::cpu::{dense, last_dim, rows, tensor, values};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, unary},
};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{Shape, Tensor};

/// Rotates each head by its position's angles and moves the head axis in front of the sequence:
/// for the halves `(a, b)` of a head, `(a·cos − b·sin, b·cos + a·sin)`.
///
/// # Shapes
/// `x`: `[batch, seq, heads, head_dim]` · `cos`, `sin`: `[batch, seq, head_dim / 2]` ·
/// result: `[batch, heads, seq, head_dim]`
pub fn rotate_half(x: Tensor<4>, cos: &Tensor<3>, sin: &Tensor<3>) -> Tensor<4> {
    if super::is_fused(&x) {
        let [x, cos, sin] = [x.into_dispatch(), cos.clone().into_dispatch(), sin.clone().into_dispatch()];
        return Tensor::from_dispatch(<Dispatch as RotateHalf>::rotate_half(x, cos, sin));
    }
    reference(x, cos, sin)
}

fn reference(x: Tensor<4>, cos: &Tensor<3>, sin: &Tensor<3>) -> Tensor<4> {
    let half = x.dims()[3] / 2;
    let x = x.swap_dims(1, 2); // [batch, heads, seq, head_dim]
    let (cos, sin) = (cos.clone().unsqueeze_dim::<4>(1), sin.clone().unsqueeze_dim::<4>(1));
    let a = x.clone().narrow(3, 0, half);
    let b = x.narrow(3, half, half);
    let left = a.clone() * cos.clone() - b.clone() * sin.clone();
    Tensor::cat(vec![left, b * cos + a * sin], 3)
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(super) trait RotateHalf: Backend {
    #[fusion(dtype = x, shape = swapped(x))]
    fn rotate_half(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>)
    -> FloatTensor<Self>;
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"))]
pub(super) trait RotateHalfKernel: Backend {
    #[fusion(dtype = x, shape = swapped(x))]
    fn rotate(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The rotation is orthogonal: its transpose turns the other way and moves the axes back.
    #[fusion(dtype = grad, shape = swapped(grad))]
    fn rotate_back(
        grad: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// The axes of tokens and heads change places.
#[cfg(feature = "gpu")]
fn swapped(x: &Shape) -> Shape {
    let mut shape = x.clone();
    shape.swap(1, 2);
    shape
}

impl RotateHalf for Flex {
    fn rotate_half(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::rotate(x, cos, sin)
    }
}

impl<B: RotateHalfKernel, C: CheckpointStrategy> RotateHalf for Autodiff<B, C> {
    fn rotate_half(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let (x, node) = x.into_parts();
        let y = B::rotate(x, cos.clone(), sin.clone());
        match RotateHalfBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((cos, sin), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[derive(Debug)]
struct RotateHalfBackward;

impl<B: RotateHalfKernel> Backward<B, 1> for RotateHalfBackward {
    type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (cos, sin) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::rotate_back(grad, cos, sin));
    }
}

impl RotateHalfKernel for Flex {
    fn rotate(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, cos, sin) = (dense(x), dense(cos), dense(sin));
        let [batch, seq, heads, d] = x.layout().shape().dims();
        let half = last_dim(&cos);
        let (xs, cs, ss) = (values(&x), values(&cos), values(&sin));
        let y = rows::make(
            xs.len(),
            d,
            #[inline(always)]
            |row, y| {
                let (bh, s) = (row / seq, row % seq);
                let (b, h) = (bh / heads, bh % heads);
                let token = b * seq + s;
                turn(
                    y,
                    &xs[(token * heads + h) * d..][..d],
                    &cs[token * half..][..half],
                    &ss[token * half..][..half],
                    1.0,
                );
            },
        );
        tensor(y, Shape::new([batch, heads, seq, d]))
    }

    fn rotate_back(
        grad: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (grad, cos, sin) = (dense(grad), dense(cos), dense(sin));
        let [batch, heads, seq, d] = grad.layout().shape().dims();
        let half = last_dim(&cos);
        let (gs, cs, ss) = (values(&grad), values(&cos), values(&sin));
        let dx = rows::make(
            gs.len(),
            d,
            #[inline(always)]
            |row, dx| {
                let (token, h) = (row / heads, row % heads);
                let (b, s) = (token / seq, token % seq);
                let from = ((b * heads + h) * seq + s) * d;
                turn(dx, &gs[from..][..d], &cs[token * half..][..half], &ss[token * half..][..half], -1.0);
            },
        );
        tensor(dx, Shape::new([batch, seq, heads, d]))
    }
}

#[inline(always)]
fn turn(y: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], direction: f32) {
    let half = cos.len();
    let (ya, yb) = y.split_at_mut(half);
    let (xa, xb) = x.split_at(half);
    for i in 0..half {
        let s = sin[i] * direction;
        ya[i] = xa[i] * cos[i] - xb[i] * s;
        yb[i] = xb[i] * cos[i] + xa[i] * s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn fused_rotation_equals_reference_forward_and_backward() {
        let run = |f: fn(Tensor<4>, &Tensor<3>, &Tensor<3>) -> Tensor<4>| {
            let angles = random::<3>([2, 7, 4], 1);
            let x = random::<4>([2, 7, 3, 8], 2).autodiff().require_grad();
            let y = f(x.clone(), &angles.clone().cos(), &angles.sin());
            let grads = (y.clone() * random::<4>([2, 3, 7, 8], 3)).sum().backward();
            (y.inner(), x.grad(&grads).expect("x is tracked"))
        };
        let (fused, plain) = (run(rotate_half), run(reference));
        assert_close(fused.0, plain.0, 1e-6);
        assert_close(fused.1, plain.1, 1e-6);
    }
}
