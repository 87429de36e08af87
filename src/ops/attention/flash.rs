//! Attention in one operation (FlashAttention, 2205.14135): keeps queries, keys, values, the result and one number a
//! query and head, whatever the length.

#[cfg(feature = "gpu")]
use super::ranges::VisibleMetadata;
use super::ranges::{Ranges, Visible, dims};
use crate::ops::cpu::attention::{Heads, Shape as Dims, backward, forward};
use crate::ops::cpu::{dense, tensor, values};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
#[cfg(feature = "gpu")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::{
    Autodiff, Backend, Dispatch, ExtensionType, Flex, backend_extension, tensor::FloatTensor,
};
use burn::tensor::{DType, Device, Shape, Tensor};

/// Values of a head up to which the sums of a GPU's unit fit in registers.
const WIDEST: usize = 256;
/// Queries from which on tiles of them are filled well enough. Fewer go on from a cache of keys: the steps share its keys
/// out to all workgroups, where here one would pass over all of a head's.
const FEWEST: usize = 32;

/// Whether GPUs' kernels of f32, which keep no probabilities, serve an attention of so many queries a row.
pub fn has_tiled_attention(head_dim: usize, queries: usize) -> bool {
    head_dim.is_multiple_of(4) && (1..=WIDEST).contains(&head_dim) && queries >= FEWEST
}

/// Whether it is worth having the ranges of so many queries in the form of a device's kernels.
pub(super) fn serves_device(device: &Device, queries: usize) -> bool {
    crate::ops::is_cpu(device) || gpu::serves_device(device, queries)
}

/// Whether a device's kernels serve such an attention.
pub(super) fn serves(q: &Tensor<4>, k: &Tensor<4>, ranges: &Ranges) -> bool {
    let dims = dims(ranges.seen.n_queries(), &q.shape(), &k.shape());
    let device = q.device().without_autodiff();
    q.dtype() == DType::F32 && (crate::ops::is_cpu(&device) || gpu::serves(&device, dims))
}

#[cfg(feature = "gpu")]
mod gpu {
    use super::{Device, Dims, FEWEST, has_tiled_attention};
    use crate::config::Precision;
    use crate::ops::gpu;
    use crate::ops::precision::precision;
    use burn::backend::DispatchDevice;

    /// In bf16 the products of the steps run on tensor cores, which these kernels do not use; steps on them were
    /// measured to be the faster ones.
    pub fn serves_device(device: &Device, queries: usize) -> bool {
        let serves = match device.clone().without_autodiff().as_dispatch() {
            DispatchDevice::Cube(device) => gpu::shares_memory(&device.client()),
            _ => false,
        };
        serves && queries >= FEWEST && precision() == Precision::F32
    }

    pub fn serves(device: &Device, dims: Dims) -> bool {
        let serves = match device.as_dispatch() {
            DispatchDevice::Cube(device) => gpu::serves_flash(&device.client(), dims),
            _ => false,
        };
        serves && serves_device(device, dims.queries) && has_tiled_attention(dims.d, dims.queries)
    }
}

#[cfg(not(feature = "gpu"))]
mod gpu {
    pub fn serves_device(_: &super::Device, _: usize) -> bool {
        false
    }

    pub fn serves(_: &super::Device, _: super::Dims) -> bool {
        false
    }
}

/// # Shapes
/// As [`super::attention`]'s.
pub(super) fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, ranges: &Ranges, scale: f32) -> Tensor<2> {
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as Flash>::flash(q, k, v, ranges.visible(), scale))
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(in crate::ops) trait Flash: Backend {
    #[fusion(meta = |q, k, _, visible, _| result_of(q, k, visible).0)]
    fn flash(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        #[extension_type] visible: Visible<Self>,
        scale: f32,
    ) -> FloatTensor<Self>;
}

/// What the gradients need.
#[derive(Clone, Debug, ExtensionType)]
#[cfg_attr(feature = "gpu", extension_type(fusion))]
pub(in crate::ops) struct Kept<B: Backend> {
    pub q: FloatTensor<B>,
    pub k: FloatTensor<B>,
    pub v: FloatTensor<B>,
    pub y: FloatTensor<B>,
    /// Logarithm of each query's and head's sum of exponentials, in the kernels' own order.
    pub log_sum: FloatTensor<B>,
    #[extension_type]
    pub visible: Visible<B>,
    pub scale: f32,
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"))]
pub(in crate::ops) trait FlashKernel: Backend {
    /// Result and logarithms of sums.
    #[fusion(meta = |q, k, _, visible, _| result_of(q, k, visible))]
    fn forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        #[extension_type] visible: Visible<Self>,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
    /// Gradients of q, k and v.
    #[fusion(meta = |kept, _| (kept.q.clone(), kept.k.clone(), kept.v.clone()))]
    fn backward(
        #[extension_type] kept: Kept<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

#[cfg(feature = "gpu")]
fn result_of(q: &TensorSpec, k: &TensorSpec, visible: &VisibleMetadata) -> (TensorSpec, TensorSpec) {
    let dims = dims(visible.seen.n_queries(), &q.shape, &k.shape);
    let [y, log_sum] = shapes_of(dims).map(|shape| TensorSpec::new(shape, q.dtype));
    (y, log_sum)
}

/// Of result and logarithms of sums.
fn shapes_of(dims: Dims) -> [Shape; 2] {
    let Dims { batch, kv_heads, group, queries, d, .. } = dims;
    let (n_queries, heads) = (batch * queries, kv_heads * group);
    [Shape::new([n_queries, heads * d]), Shape::new([n_queries * heads])]
}

impl Flash for Flex {
    fn flash(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        visible: Visible<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        Self::forward(q, k, v, visible, scale).0
    }
}

impl<B: FlashKernel, C: CheckpointStrategy> Flash for Autodiff<B, C> {
    fn flash(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        visible: Visible<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let (q, q_node) = q.into_parts();
        let (k, k_node) = k.into_parts();
        let (v, v_node) = v.into_parts();
        let Visible { seen, tiles } = visible;
        let visible = Visible::<B> { seen, tiles };
        let (y, log_sum) = B::forward(q.clone(), k.clone(), v.clone(), visible.clone(), scale);
        match FlashBackward.prepare::<C>([q_node, k_node, v_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = Kept { q, k, v, y: y.clone(), log_sum, visible, scale };
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
        let (d_q, d_k, d_v) = B::backward(ops.state, grad);
        for (node, grad) in ops.parents.into_iter().zip([d_q, d_k, d_v]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl FlashKernel for Flex {
    fn forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        visible: Visible<Self>,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let dims = visible.dims(q.layout().shape(), k.layout().shape());
        let (y, log_sum) = forward(dims, [&q, &k, &v].map(Heads::of), &visible.seen, scale);
        let [y_shape, log_sum_shape] = shapes_of(dims);
        (tensor(y, y_shape), tensor(log_sum, log_sum_shape))
    }

    fn backward(
        kept: Kept<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let Kept { q, k, v, y, log_sum, visible, scale } = kept;
        let dims = visible.dims(q.layout().shape(), k.layout().shape());
        let (y, grad) = (dense(y), dense(grad));
        let inputs = [&q, &k, &v].map(Heads::of);
        let (y, log_sum, grad) = (values(&y), values(&log_sum), values(&grad));
        let [d_q, d_k, d_v] = backward(dims, inputs, y, log_sum, grad, &visible.seen, scale);
        let like = |grad, x: &FloatTensor<Self>| tensor(grad, x.layout().shape().clone());
        (like(d_q, &q), like(d_k, &k), like(d_v, &v))
    }
}
