//! Matrix product. Where a workgroup shares memory well, it makes a tile of the result together; an adapter that is a
//! program has a kernel without barriers.

pub(super) mod cooperative;
mod tiled;
mod unit;

use super::{MOST_WORKGROUPS, empty_like, furthest, is_software, one_each, packed};
use crate::config::Precision;
use crate::ops::linear::{SumOfProducts, Weight};
use crate::ops::matmul::{Product, shape_of};
use crate::ops::precision::precision;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::features::MmaConfig;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;
use half::bf16;

/// Workgroups that keep a large GPU busy.
const ENOUGH: usize = 264;
/// With fewer the inner dimension is cut as well, and its parts are added up.
const FEW: usize = 96;
/// Inner indices that a part has at least.
const SHORTEST_PART: usize = 128;
/// More parts than this cost more to add up than they bring.
const MOST_PARTS: usize = 32;
/// Inner indices that some kernel has in shared memory at a time.
const DEEPEST: usize = 64;
/// Rows or columns up to which a product counts as narrow.
const NARROW: usize = 16;

impl Product for CubeBackend {
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        match Plan::of(&lhs, &rhs) {
            Some(plan) => plan.launch([lhs, rhs], None, 1.0),
            None if is_software(&lhs.client) => unit::product(lhs, rhs),
            None => Self::float_matmul(lhs, rhs),
        }
    }

    fn scaled_product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        match Plan::of(&lhs, &rhs) {
            Some(plan) => plan.launch([lhs, rhs], None, scale),
            None => Self::float_mul_scalar(Self::product(lhs, rhs), scale.into()),
        }
    }
}

impl SumOfProducts for CubeBackend {
    fn sum_of_products(
        x: FloatTensor<Self>,
        weight: Weight<Self>,
        is_turned: bool,
        down: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let weight = match weight {
            Weight::Dense(weight) => weight,
            Weight::Packed(parts) => packed::unpacked(&parts, None),
        };
        let weight = if is_turned { Self::float_transpose(weight) } else { weight };
        match Plan::of(&x, &weight) {
            Some(plan) => plan.launch([x, weight], Some([down, up]), 1.0),
            None => Self::float_add(Self::product(x, weight), Self::product(down, up)),
        }
    }
}

/// Elements from one entry of each dimension to the next.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Steps {
    outer: u32,
    inner: u32,
    row: u32,
    column: u32,
}

impl Steps {
    fn of(x: &CubeTensor) -> [u32; 4] {
        padded(x.meta.strides(), 0).map(|step| step as u32)
    }

    fn launch([outer, inner, row, column]: [u32; 4]) -> StepsLaunch {
        StepsLaunch::new(outer, inner, row, column)
    }
}

/// The last four entries, with `fill` in front where there are fewer.
fn padded(dims: &[usize], fill: usize) -> [usize; 4] {
    let mut last = [fill; 4];
    last[4 - dims.len()..].copy_from_slice(dims);
    last
}

/// Two factors.
#[derive(CubeType, CubeLaunch)]
struct Factors {
    lhs: Box<[f32]>,
    rhs: Box<[f32]>,
    left: Steps,
    right: Steps,
    /// Inner indices.
    k: u32,
}

/// Whether neighbours in memory have neighbouring inner indices.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Lies {
    lhs_along_inner: bool,
    rhs_along_inner: bool,
}

/// What a workgroup makes.
#[derive(CubeType, Clone, Copy)]
struct Place {
    outer: u32,
    inner: u32,
    /// First row and column.
    row: u32,
    column: u32,
    /// All rows and columns.
    m: u32,
    n: u32,
}

/// This workgroup's place, for tiles of so many rows and columns, and which part of the inner dimension it has.
#[cube]
fn here(sizes: &Sizes, #[comptime] rows: u32, #[comptime] columns: u32) -> (Place, u32) {
    let batch = CUBE_POS_Z / sizes.parts;
    let place = Place {
        outer: batch / sizes.inner,
        inner: batch % sizes.inner,
        row: CUBE_POS_Y * rows,
        column: CUBE_POS_X * columns,
        m: sizes.m,
        n: sizes.n,
    };
    (place, CUBE_POS_Z % sizes.parts)
}

/// Where this workgroup's matrix begins: parts lie one after the other.
#[cube]
fn result_start(sizes: &Sizes, part: u32) -> u32 {
    let n_batches = CUBE_COUNT_Z / sizes.parts;
    (part * n_batches + CUBE_POS_Z / sizes.parts) * sizes.m * sizes.n
}

/// Dimensions of a product, and the parts that its inner one is cut into.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    inner: u32,
    m: u32,
    n: u32,
    parts: u32,
    part_k: u32,
    /// Elements between rows of the result.
    out_row: u32,
    /// Elements between its columns.
    out_column: u32,
    scale: f32,
}

/// One of the kernels with its tile.
#[derive(Clone, Copy)]
enum Kernel {
    Tiled(tiled::Tile),
    Cooperative(cooperative::Tile),
}

impl Kernel {
    /// Rows and columns of the result that a workgroup makes, and its units.
    fn dims(self) -> ([usize; 2], usize) {
        match self {
            Self::Tiled(tile) => ([tile.rows, tile.columns], tile.units().iter().product()),
            Self::Cooperative(tile) => ([tile.rows, tile.columns], tile.units()),
        }
    }
}

/// How a product is made.
struct Plan {
    kernel: Kernel,
    /// Outer and inner batch.
    batch: [usize; 2],
    m: usize,
    n: usize,
    parts: usize,
    /// Inner indices of a part.
    part_k: usize,
    /// Whether the factors change places, as `(l·r)ᵀ = rᵀ·lᵀ`: the narrow kernel is narrow in columns.
    is_turned: bool,
}

impl Plan {
    /// None on an adapter that is a program, and where an index does not fit its type.
    fn of(lhs: &CubeTensor, rhs: &CubeTensor) -> Option<Self> {
        if is_software(&lhs.client) {
            return None;
        }
        let [outer, inner, m, k] = padded(lhs.meta.shape(), 1);
        let n = padded(rhs.meta.shape(), 1)[3];
        let batch = [outer, inner];
        let n_batches = outer * inner;
        let is_turned = m < n && m <= NARROW;
        let (m, n) = if is_turned { (n, m) } else { (m, n) };
        let tiles_of = |[rows, columns]: [usize; 2]| m.div_ceil(rows) * n.div_ceil(columns) * n_batches;
        let has_bf16 = precision() == Precision::Bf16 && has_bf16(&lhs.client);
        let kernels = if has_bf16 {
            use cooperative::{LARGE, MEDIUM, NARROW};
            [LARGE, MEDIUM, NARROW].map(Kernel::Cooperative)
        } else {
            use tiled::{LARGE, MEDIUM, NARROW};
            [LARGE, MEDIUM, NARROW].map(Kernel::Tiled)
        };
        let [large, medium, narrow] = kernels;
        let kernel = if n <= NARROW {
            narrow
        } else if tiles_of(large.dims().0) >= ENOUGH {
            large
        } else {
            medium
        };
        let n_tiles = tiles_of(kernel.dims().0);
        let wanted = if n_tiles < FEW { ENOUGH.div_ceil(n_tiles.max(1)) } else { 1 };
        let parts = wanted.min(k / SHORTEST_PART).clamp(1, MOST_PARTS);
        // Parts end where a step ends, and none is empty.
        let part_k = k.div_ceil(parts).next_multiple_of(DEEPEST);
        let parts = k.div_ceil(part_k);
        let plan = Self { kernel, batch, m, n, parts, part_k, is_turned };
        let out = n_batches * m * n * parts;
        let count = plan.workgroups();
        let fits = [lhs, rhs].into_iter().all(|x| u32::try_from(furthest(x)).is_ok())
            && u32::try_from(out).is_ok()
            && count.into_iter().all(|n| (1..=MOST_WORKGROUPS).contains(&n));
        (fits && k > 0).then_some(plan)
    }

    fn workgroups(&self) -> [usize; 3] {
        let [rows, columns] = self.kernel.dims().0;
        let [outer, inner] = self.batch;
        [self.n.div_ceil(columns), self.m.div_ceil(rows), outer * inner * self.parts]
    }

    /// The product, and a second one of the same result on top of it, times a number.
    fn launch(self, first: [CubeTensor; 2], second: Option<[CubeTensor; 2]>, scale: f32) -> CubeTensor {
        let [x, y, z] = self.workgroups().map(|n| n as u32);
        let Self { kernel, batch: [_, inner], m, n, parts, part_k, is_turned, .. } = self;
        let shape = shape_of(first[0].meta.shape(), first[1].meta.shape());
        let (out_row, out_column) = if is_turned { (1, m) } else { (n, 1) };
        let n_products = 1 + usize::from(second.is_some());
        let n_values = shape.num_elements();
        let like = &first[0];
        let client = like.client.clone();
        let partial =
            empty_like(like, if parts == 1 { shape.clone() } else { Shape::new([parts, n_values]) });
        // Without a second product nothing is read from its factors.
        let (second, second_lies) = bound(second.unwrap_or_else(|| first.clone()), is_turned);
        let (first, lies) = bound(first, is_turned);
        let count = CubeCount::Static(x, y, z);
        let units = CubeDim::new_1d(kernel.dims().1 as u32);
        let [inner, m, n, parts_, part_k, out_row, out_column] =
            [inner, m, n, parts, part_k, out_row, out_column].map(|n| n as u32);
        let sizes = SizesLaunch::new(inner, m, n, parts_, part_k, out_row, out_column, scale);
        let out = partial.clone().into_buffer_arg();
        let lies = [lies, second_lies];
        // SAFETY: the kernels hold their reads and writes within the sizes they are given.
        unsafe {
            match kernel {
                Kernel::Tiled(tile) => tiled::tiled::launch_unchecked(
                    &client, count, units, first, second, out, sizes, tile, lies, n_products,
                ),
                Kernel::Cooperative(tile) => cooperative::cooperative::launch_unchecked(
                    &client, count, units, first, second, out, sizes, tile, lies, n_products,
                ),
            }
        }
        if parts == 1 { partial } else { added(partial, shape, parts) }
    }
}

/// Factors as a kernel takes them; turned, they change places.
fn bound([lhs, rhs]: [CubeTensor; 2], is_turned: bool) -> (FactorsLaunch, Lies) {
    let k = padded(rhs.meta.shape(), 1)[2] as u32;
    let (left, right) = (Steps::of(&lhs), Steps::of(&rhs));
    let turned = |[outer, inner, row, column]: [u32; 4]| [outer, inner, column, row];
    let (lhs, rhs, left, right) =
        if is_turned { (rhs, lhs, turned(right), turned(left)) } else { (lhs, rhs, left, right) };
    let lies = Lies { lhs_along_inner: left[3] <= left[2], rhs_along_inner: right[2] < right[3] };
    let (left, right) = (Steps::launch(left), Steps::launch(right));
    (FactorsLaunch::new(lhs.into_buffer_arg(), rhs.into_buffer_arg(), left, right, k), lies)
}

/// Whether the device multiplies bf16 matrices of the kernel's size, with sums in f32.
pub(in crate::ops) fn has_bf16(client: &Client) -> bool {
    let [m, n, k] = [cooperative::EDGE as u32; 3];
    let [a_type, cd_type] = [bf16::elem_type_native(), f32::elem_type_native()];
    let hardware = &client.properties().hardware;
    let plane = cooperative::PLANE as u32;
    [hardware.plane_size_min, hardware.plane_size_max] == [plane; 2]
        && client.properties().features.matmul.cmma.contains(&MmaConfig {
            a_type,
            b_type: a_type,
            cd_type,
            m,
            n,
            k,
        })
}

/// The sum of the parts.
fn added(parts: CubeTensor, shape: Shape, n_parts: usize) -> CubeTensor {
    let n = shape.num_elements();
    let out = empty_like(&parts, shape);
    let client = parts.client.clone();
    let (count, units) = one_each(&client, n);
    // SAFETY: as above.
    unsafe {
        add::launch_unchecked(
            &client,
            count,
            units,
            parts.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            n as u32,
            n_parts as u32,
        );
    }
    out
}

#[cube(launch_unchecked)]
fn add(parts: &[f32], out: &mut [f32], n: u32, n_parts: u32) {
    let at = ABSOLUTE_POS as u32;
    if at < n {
        let mut sum = 0.0f32;
        for part in 0..n_parts {
            sum += parts[(part * n + at) as usize];
        }
        out[at as usize] = sum;
    }
}
