//! Attention in one operation on the CPU (FlashAttention, 2205.14135): keeps queries, keys, values, the result and one
//! number a query, whatever the length.

use crate::ops::cpu::attention::{Heads, Seen, Shape, backward, forward};
use crate::ops::cpu::{dense, tensor, values};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use std::sync::Arc;

/// # Shapes
/// As [`super::attention`]'s.
pub(super) fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, seen: Arc<Seen>, scale: f32) -> Tensor<2> {
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as Flash>::flash(q, k, v, seen, scale))
}

#[backend_extension(Flex, Autodiff)]
trait Flash: Backend {
    fn flash(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        seen: Arc<Seen>,
        scale: f32,
    ) -> FloatTensor<Self>;
}

/// What the gradients need.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    y: FloatTensor<B>,
    /// Logarithm of each query's sum of exponentials.
    log_sum: FloatTensor<B>,
    seen: Arc<Seen>,
    scale: f32,
}

trait FlashKernel: Backend {
    /// Result and logarithms of sums.
    fn forward(
        q: &FloatTensor<Self>,
        k: &FloatTensor<Self>,
        v: &FloatTensor<Self>,
        seen: &Seen,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
    /// Gradients of q, k and v.
    fn backward(kept: Kept<Self>, grad: FloatTensor<Self>) -> [FloatTensor<Self>; 3];
}

impl Flash for Flex {
    fn flash(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        seen: Arc<Seen>,
        scale: f32,
    ) -> FloatTensor<Self> {
        Self::forward(&q, &k, &v, &seen, scale).0
    }
}

impl<B: FlashKernel, C: CheckpointStrategy> Flash for Autodiff<B, C> {
    fn flash(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        seen: Arc<Seen>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let (q, q_node) = q.into_parts();
        let (k, k_node) = k.into_parts();
        let (v, v_node) = v.into_parts();
        let (y, log_sum) = B::forward(&q, &k, &v, &seen, scale);
        match FlashBackward.prepare::<C>([q_node, k_node, v_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = Kept { q, k, v, y: y.clone(), log_sum, seen, scale };
                prep.finish(kept, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[derive(Debug)]
struct FlashBackward;

impl<B: FlashKernel> Backward<B, 3> for FlashBackward {
    type State = Kept<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        for (node, grad) in ops.parents.into_iter().zip(B::backward(ops.state, grad)) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// The dimensions, of which the mask states one.
fn shape_of(q: &FlexTensor, k: &FlexTensor, seen: &Seen) -> Shape {
    let [batch, kv_heads, rows, d] = q.layout().shape().dims();
    let [_, _, keys, _] = k.layout().shape().dims();
    let queries = seen.n_queries() / batch;
    Shape { batch, kv_heads, group: rows / queries, queries, keys, d }
}

impl FlashKernel for Flex {
    fn forward(
        q: &FloatTensor<Self>,
        k: &FloatTensor<Self>,
        v: &FloatTensor<Self>,
        seen: &Seen,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let shape = shape_of(q, k, seen);
        let (y, log_sum) = forward(shape, [q, k, v].map(Heads::of), seen, scale);
        let heads = shape.kv_heads * shape.group;
        let n_sums = log_sum.len();
        let dims = [shape.batch * shape.queries, heads * shape.d];
        (tensor(y, dims.into()), tensor(log_sum, [n_sums].into()))
    }

    fn backward(kept: Kept<Self>, grad: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        let Kept { q, k, v, y, log_sum, seen, scale } = kept;
        let shape = shape_of(&q, &k, &seen);
        let (y, grad) = (dense(y), dense(grad));
        let inputs = [&q, &k, &v].map(Heads::of);
        let [d_q, d_k, d_v] =
            backward(shape, inputs, values(&y), values(&log_sum), values(&grad), &seen, scale);
        [(d_q, &q), (d_k, &k), (d_v, &v)].map(|(grad, x)| tensor(grad, x.layout().shape().clone()))
    }
}
