//! Matrix product on tensor cores: values are rounded to bf16 on their way into shared memory, sums are f32.

use super::{Factors, Lies, Place, Sizes, here, result_start};
use burn_cubecl::cubecl::{self, prelude::*};
use half::bf16;

/// Rows, columns and inner indices of one instruction.
pub(super) const EDGE: usize = 16;
/// Units of a plane.
pub(super) const PLANE: usize = 32;
/// bf16s beyond a line's end in shared memory: lines of one fragment lie in different banks.
const PAD: usize = 8;

/// A workgroup's part of the result, and how its planes share it.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct Tile {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Inner indices in shared memory at a time.
    pub depth: usize,
    /// Planes down and across.
    pub planes: [usize; 2],
}

/// The most work for what is read.
pub(super) const LARGE: Tile = Tile { rows: 128, columns: 128, depth: 32, planes: [4, 2] };
/// More workgroups.
pub(super) const MEDIUM: Tile = Tile { rows: 64, columns: 64, depth: 32, planes: [2, 2] };
/// Few columns.
pub(super) const NARROW: Tile = Tile { rows: 64, columns: 16, depth: 64, planes: [4, 1] };

impl Tile {
    pub const fn units(&self) -> usize {
        self.planes[0] * self.planes[1] * PLANE
    }

    /// Fours of shared memory for each factor, however it lies.
    const fn shared(&self) -> [usize; 2] {
        const fn largest(outer: usize, depth: usize) -> usize {
            let (along_inner, along_outer) = (outer * (depth + PAD), depth * (outer + PAD));
            (if along_inner > along_outer { along_inner } else { along_outer }) / 4
        }
        [largest(self.rows, self.depth), largest(self.columns, self.depth)]
    }

    /// Fragments down and across of a plane.
    const fn fragments(&self) -> [usize; 2] {
        [self.rows / (self.planes[0] * EDGE), self.columns / (self.planes[1] * EDGE)]
    }
}

type Four = Vector<bf16, Const<4>>;

/// The nearest value that a bf16 holds, of two the even one. A driver's own conversion may cut off: through Vulkan an
/// H100's does.
#[cube]
pub(in crate::ops::gpu) fn nearest_bf16(x: f32) -> f32 {
    let bits = u32::reinterpret(x);
    let nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000;
    // A NaN's bits could overflow into a number's.
    let is_nan = (bits & 0x7FFF_FFFF) > 0x7F80_0000;
    select(is_nan, x, f32::reinterpret(nearest))
}

/// The four values from `at` on of a line, rounded; 0 beyond the inner end.
#[cube]
fn four(
    x: &[f32],
    base: u32,
    outer: u32,
    outer_end: u32,
    outer_step: u32,
    k: u32,
    k_end: u32,
    k_step: u32,
    #[comptime] along_inner: bool,
) -> Four {
    let mut values = Four::new(bf16::from_int(0));
    #[unroll]
    for j in 0..4usize {
        let (o, i) = if comptime!(along_inner) { (outer, k + j as u32) } else { (outer + j as u32, k) };
        let at = base + min(o, outer_end - 1) * outer_step + min(i, k_end - 1) * k_step;
        let value = select(i < k_end, x[at as usize], 0.0f32);
        values.insert(j, bf16::cast_from(nearest_bf16(value)));
    }
    values
}

/// Which row (or column) and which inner index the `v`-th four begins at.
#[cube]
fn spot(
    v: usize,
    #[comptime] outer: usize,
    #[comptime] depth: usize,
    #[comptime] along_inner: bool,
) -> (usize, usize) {
    if comptime!(along_inner) {
        (v / comptime!(depth / 4), v % comptime!(depth / 4) * 4)
    } else {
        (v % comptime!(outer / 4) * 4, v / comptime!(outer / 4))
    }
}

/// Adds what one product brings to this plane's fragments.
#[cube]
#[allow(clippy::too_many_arguments)]
fn accumulate(
    sums: &Sequence<cmma::Matrix<f32>>,
    a: &mut Shared<[Four]>,
    b: &mut Shared<[Four]>,
    of: &Factors,
    at: &Place,
    k_begin: u32,
    k_end: u32,
    #[comptime] tile: Tile,
    #[comptime] lies: Lies,
) {
    let units = comptime!(tile.units());
    let depth = comptime!(tile.depth);
    let (fy, fx) = comptime!((tile.fragments()[0], tile.fragments()[1]));
    let lhs_along_inner = comptime!(lies.lhs_along_inner);
    let rhs_along_inner = comptime!(lies.rhs_along_inner);
    let a_pitch = comptime!((if lhs_along_inner { depth } else { tile.rows }) + PAD);
    let b_pitch = comptime!((if rhs_along_inner { depth } else { tile.columns }) + PAD);
    let (a_end, b_end) = comptime!((tile.shared()[0], tile.shared()[1]));
    let (a_fours, b_fours) = comptime!((tile.rows * depth / 4, tile.columns * depth / 4));
    let (a_loads, b_loads) = comptime!((a_fours.div_ceil(units), b_fours.div_ceil(units)));
    let a_layout =
        if comptime!(lhs_along_inner) { cmma::MatrixLayout::RowMajor } else { cmma::MatrixLayout::ColMajor };
    let b_layout =
        if comptime!(rhs_along_inner) { cmma::MatrixLayout::ColMajor } else { cmma::MatrixLayout::RowMajor };
    let lhs_base = at.outer * of.left.outer + at.inner * of.left.inner;
    let rhs_base = at.outer * of.right.outer + at.inner * of.right.inner;
    let (plane_row, plane_column) = corner(tile);
    let mut next_a = Array::<Four>::new(a_loads);
    let mut next_b = Array::<Four>::new(b_loads);
    let n_steps = (k_end - k_begin).div_ceil(comptime!(depth as u32));

    for step in 0..n_steps + 1 {
        // What the next step needs is on its way while this step is computed.
        if step < n_steps {
            let k = k_begin + step * comptime!(depth as u32);
            #[unroll]
            for i in 0..a_loads {
                let (r, d) = spot(UNIT_POS as usize + i * units, tile.rows, depth, lhs_along_inner);
                let (row, d) = (at.row + r as u32, k + d as u32);
                next_a[i] = four(
                    &of.lhs,
                    lhs_base,
                    row,
                    at.m,
                    of.left.row,
                    d,
                    k_end,
                    of.left.column,
                    lhs_along_inner,
                );
            }
            #[unroll]
            for i in 0..b_loads {
                let (c, d) = spot(UNIT_POS as usize + i * units, tile.columns, depth, rhs_along_inner);
                let (column, d) = (at.column + c as u32, k + d as u32);
                next_b[i] = four(
                    &of.rhs,
                    rhs_base,
                    column,
                    at.n,
                    of.right.column,
                    d,
                    k_end,
                    of.right.row,
                    rhs_along_inner,
                );
            }
        }
        if step > 0 {
            #[unroll]
            for d in 0..depth / EDGE {
                let mut rows = Sequence::<cmma::Matrix<Four>>::new();
                let d = comptime!(d * EDGE);
                #[unroll]
                for i in 0..fy {
                    let row = plane_row + comptime!(i * EDGE);
                    let from = if comptime!(lhs_along_inner) { row * a_pitch + d } else { d * a_pitch + row };
                    rows.push(cmma::Matrix::<Four>::from_slice(
                        cmma::MatrixIdent::A,
                        EDGE,
                        EDGE,
                        EDGE,
                        a_layout,
                        &a[from / 4..a_end],
                        comptime!(a_pitch as u32),
                    ));
                }
                #[unroll]
                for j in 0..fx {
                    let column = plane_column + comptime!(j * EDGE);
                    let from =
                        if comptime!(rhs_along_inner) { column * b_pitch + d } else { d * b_pitch + column };
                    let columns = cmma::Matrix::<Four>::from_slice(
                        cmma::MatrixIdent::B,
                        EDGE,
                        EDGE,
                        EDGE,
                        b_layout,
                        &b[from / 4..b_end],
                        comptime!(b_pitch as u32),
                    );
                    #[unroll]
                    for i in 0..fy {
                        let sum = comptime!(i * fx + j);
                        cmma::execute(&rows[i], &columns, &sums[sum], &sums[sum]);
                    }
                }
            }
            sync_cube();
        }
        if step < n_steps {
            #[unroll]
            for i in 0..a_loads {
                let v = UNIT_POS as usize + i * units;
                let (r, d) = spot(v, tile.rows, depth, lhs_along_inner);
                let to = if comptime!(lhs_along_inner) { r * a_pitch + d } else { d * a_pitch + r };
                if comptime!(a_fours.is_multiple_of(units)) || v < a_fours {
                    a[to / 4] = next_a[i];
                }
            }
            #[unroll]
            for i in 0..b_loads {
                let v = UNIT_POS as usize + i * units;
                let (c, d) = spot(v, tile.columns, depth, rhs_along_inner);
                let to = if comptime!(rhs_along_inner) { c * b_pitch + d } else { d * b_pitch + c };
                if comptime!(b_fours.is_multiple_of(units)) || v < b_fours {
                    b[to / 4] = next_b[i];
                }
            }
            sync_cube();
        }
    }
}

#[cube(launch_unchecked)]
pub(super) fn cooperative(
    first: Factors,
    second: Factors,
    out: &mut [f32],
    sizes: Sizes,
    #[comptime] tile: Tile,
    #[comptime] lies: [Lies; 2],
    #[comptime] n_products: usize,
) {
    let (fy, fx) = comptime!((tile.fragments()[0], tile.fragments()[1]));
    let mut a = Shared::<[Four]>::new_aligned_slice(comptime!(tile.shared()[0]), 16usize);
    let mut b = Shared::<[Four]>::new_aligned_slice(comptime!(tile.shared()[1]), 16usize);
    let mut results =
        Shared::<[f32]>::new_aligned_slice(comptime!(tile.planes[0] * tile.planes[1] * EDGE * EDGE), 16usize);
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..fy * fx {
        sums.push(cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            EDGE,
            EDGE,
            EDGE,
            cmma::MatrixLayout::Undefined,
            0.0f32,
        ));
    }
    let (at, part) = here(&sizes, comptime!(tile.rows as u32), comptime!(tile.columns as u32));
    let k_begin = part * sizes.part_k;
    let k_end = min(k_begin + sizes.part_k, first.k);
    accumulate(&sums, &mut a, &mut b, &first, &at, k_begin, k_end, tile, comptime!(lies[0]));
    if comptime!(n_products == 2) {
        // The first part has the whole second product.
        let k_end = select(part == 0, second.k, 0u32);
        accumulate(&sums, &mut a, &mut b, &second, &at, 0u32, k_end, tile, comptime!(lies[1]));
    }
    let (plane, lane) = (UNIT_POS as usize / PLANE, UNIT_POS as usize % PLANE);
    let (plane_row, plane_column) = corner(tile);
    let start = result_start(&sizes, part);
    let mine = plane * comptime!(EDGE * EDGE);
    #[unroll]
    for i in 0..fy {
        #[unroll]
        for j in 0..fx {
            cmma::store(
                &mut results[mine..mine + comptime!(EDGE * EDGE)],
                &sums[comptime!(i * fx + j)],
                comptime!(EDGE as u32),
                cmma::MatrixLayout::RowMajor,
            );
            sync_cube();
            #[unroll]
            for e in 0..EDGE * EDGE / PLANE {
                let value = lane + comptime!(e * PLANE);
                let row = at.row + (plane_row + comptime!(i * EDGE) + value / EDGE) as u32;
                let column = at.column + (plane_column + comptime!(j * EDGE) + value % EDGE) as u32;
                if row < sizes.m && column < sizes.n {
                    out[(start + row * sizes.out_row + column * sizes.out_column) as usize] =
                        results[mine + value] * sizes.scale;
                }
            }
            sync_cube();
        }
    }
}

/// First row and column, within the workgroup's, of this plane's fragments.
#[cube]
fn corner(#[comptime] tile: Tile) -> (usize, usize) {
    let plane = UNIT_POS as usize / PLANE;
    let across = comptime!(tile.planes[1]);
    let (fy, fx) = comptime!((tile.fragments()[0], tile.fragments()[1]));
    (plane / across * comptime!(fy * EDGE), plane % across * comptime!(fx * EDGE))
}
