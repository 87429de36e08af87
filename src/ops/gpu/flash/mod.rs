//! Attention in one operation (FlashAttention-2, 2307.08691): a workgroup keeps a tile's scores in registers, and
//! between the passes there is one number a query and head.

mod backward;
mod forward;
mod place;
mod tile;

use super::{MOST_WORKGROUPS, empty_like, furthest, is_software, rows_of};
use crate::ops::attention::{EDGE, Flash, FlashKernel, Kept, Visible};
use crate::ops::cpu::attention::Shape as Dims;
use backward::KnownLaunch;
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{IntDType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use place::{InputsLaunch, SizesLaunch, Steps};
use tile::{Columns, UNITS};

/// Columns of two results whose sums fit in registers together.
const WIDEST_OF_TWO: usize = 128;
/// Buffers that a kernel reads and writes, its numbers included: what browsers give, which is more than WebGPU promises.
const MOST_BUFFERS: u32 = 9;

/// Whether these kernels serve a device: workgroups share memory, and do not crawl at barriers.
pub(in crate::ops) fn serves_device(client: &Client) -> bool {
    let hardware = &client.properties().hardware;
    !is_software(client)
        && hardware.max_units_per_cube >= UNITS as u32
        && hardware.max_bindings >= MOST_BUFFERS
}

/// Whether a device holds an attention of such dimensions; `d` is a multiple of four.
pub(in crate::ops) fn serves(client: &Client, dims: Dims) -> bool {
    let Dims { batch, kv_heads, group, queries, keys, d } = dims;
    let heads = kv_heads * group;
    let largest = batch * heads * queries.max(keys) * d;
    serves_device(client)
        && [queries, keys].into_iter().all(|n| (1..=MOST_WORKGROUPS * EDGE).contains(&n))
        && [batch, 2 * heads].into_iter().all(|n| (1..=MOST_WORKGROUPS).contains(&n))
        && i32::try_from(largest).is_ok()
        && client.properties().hardware.max_shared_memory_size >= whole(d).bytes().max(part(d).bytes())
}

/// The columns of one result.
fn whole(d: usize) -> Columns {
    Columns { width: d, all: d }
}

/// The columns of two results that a workgroup makes.
fn part(d: usize) -> Columns {
    let width = d.div_ceil(d.div_ceil(WIDEST_OF_TWO)).next_multiple_of(4);
    Columns { width, all: d }
}

/// Inputs as kernels read them.
struct Bound {
    inputs: [CubeTensor; 3],
    seen: CubeTensor,
    dims: Dims,
    scale: f32,
}

impl Bound {
    fn of(inputs: [CubeTensor; 3], visible: Visible<CubeBackend>, scale: f32) -> Self {
        let shapes = [&inputs[0], &inputs[1]].map(|x| x.meta.shape());
        let dims = visible.dims(shapes[0], shapes[1]);
        let seen = into_contiguous(CubeBackend::int_cast(visible.tiles, IntDType::I32));
        Self { inputs: inputs.map(in_lines), seen, dims, scale }
    }

    fn launch(&self) -> (InputsLaunch, SizesLaunch) {
        let [q, k, v] = &self.inputs;
        let Dims { batch, kv_heads, group, queries, keys, .. } = self.dims;
        let [batch, kv_heads, group, queries, keys] =
            [batch, kv_heads, group, queries, keys].map(|n| n as u32);
        let [q_steps, k_steps, v_steps] = [q, k, v].map(|x| Steps::launch(x.meta.strides()));
        let sizes =
            SizesLaunch::new(batch, kv_heads, group, queries, keys, self.scale, q_steps, k_steps, v_steps);
        let [q, k, v, seen] = [q, k, v, &self.seen].map(|x| x.clone().into_buffer_arg());
        (InputsLaunch::new(q, k, v, seen), sizes)
    }

    /// A workgroup for each tile of each head's queries.
    fn of_queries(&self) -> CubeCount {
        let Dims { batch, kv_heads, group, queries, .. } = self.dims;
        count([queries.div_ceil(EDGE), kv_heads * group, batch])
    }

    fn like_inputs(&self) -> [CubeTensor; 3] {
        self.inputs.each_ref().map(|x| empty_like(x, x.meta.shape().clone()))
    }
}

fn count(workgroups: [usize; 3]) -> CubeCount {
    let [x, y, z] = workgroups.map(|n| n as u32);
    CubeCount::Static(x, y, z)
}

/// The tensor as it lies, where the values of a head lie side by side and an index fits its type.
fn in_lines(x: CubeTensor) -> CubeTensor {
    if x.meta.strides()[3] == 1 && u32::try_from(furthest(&x)).is_ok() { x } else { into_contiguous(x) }
}

impl Flash for CubeBackend {
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

impl FlashKernel for CubeBackend {
    fn forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        visible: Visible<Self>,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let client = q.client.clone();
        let bound = Bound::of([q, k, v], visible, scale);
        let Dims { batch, kv_heads, group, queries, d, .. } = bound.dims;
        let heads = kv_heads * group;
        let like = &bound.inputs[0];
        let y = empty_like(like, Shape::new([batch * queries, heads * d]));
        let log_sum = empty_like(like, Shape::new([batch * queries * heads]));
        let (inputs, sizes) = bound.launch();
        // SAFETY: the kernel holds its reads and writes within the sizes it is given; `visible` has all its tiles.
        unsafe {
            forward::attend::launch_unchecked(
                &client,
                bound.of_queries(),
                CubeDim::new_1d(UNITS as u32),
                inputs,
                y.clone().into_buffer_arg(),
                log_sum.clone().into_buffer_arg(),
                sizes,
                whole(d),
            );
        }
        (y, log_sum)
    }

    fn backward(
        kept: Kept<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let Kept { q, k, v, y, log_sum, visible, scale } = kept;
        let [y, log_sum, grad] = [y, log_sum, grad].map(into_contiguous);
        let client = q.client.clone();
        let bound = Bound::of([q, k, v], visible, scale);
        let Dims { batch, kv_heads, keys, d, .. } = bound.dims;
        let n_rows = log_sum.meta.shape().num_elements();
        let figures = empty_like(&log_sum, Shape::new([n_rows, 2]));
        let (rows, units_of_row, sharing) = rows_of(&client, n_rows, d);
        let [d_q, d_k, d_v] = bound.like_inputs();
        let units = CubeDim::new_1d(UNITS as u32);
        let known = || {
            let [grad, figures] = [&grad, &figures].map(|x| x.clone().into_buffer_arg());
            KnownLaunch::new(grad, figures)
        };
        let of_keys = count([keys.div_ceil(EDGE), kv_heads * d.div_ceil(part(d).width), batch]);
        // SAFETY: as above.
        unsafe {
            backward::dots::launch_unchecked(
                &client,
                rows,
                units_of_row,
                y.into_buffer_arg(),
                grad.clone().into_buffer_arg(),
                log_sum.into_buffer_arg(),
                figures.clone().into_buffer_arg(),
                n_rows as u32,
                d as u32,
                sharing,
            );
            let (inputs, sizes) = bound.launch();
            backward::of_queries::launch_unchecked(
                &client,
                bound.of_queries(),
                units,
                inputs,
                known(),
                d_q.clone().into_buffer_arg(),
                sizes,
                whole(d),
            );
            let (inputs, sizes) = bound.launch();
            backward::of_keys::launch_unchecked(
                &client,
                of_keys,
                units,
                inputs,
                known(),
                d_k.clone().into_buffer_arg(),
                d_v.clone().into_buffer_arg(),
                sizes,
                part(d),
            );
        }
        (d_q, d_k, d_v)
    }
}
