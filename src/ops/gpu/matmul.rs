//! Matrix product with one tile of the result in each unit's registers.

use super::empty_like;
use crate::ops::matmul::{Product, shape_of};
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

/// Rows and columns of a unit's tile: 64 products for 16 loads. On SwiftShader loads cost most: measured
/// 0.2 · 10⁹ multiply-adds a second at 1, 0.7 at 4, 2 at 8, fewer again at 16.
const TILE: usize = 8;

impl Product for CubeBackend {
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        let out = empty_like(&lhs, shape_of(lhs.meta.shape(), rhs.meta.shape()));
        let (left, right) = (Steps::of(&lhs), Steps::of(&rhs));
        let [outer, inner, m, k] = padded(lhs.meta.shape(), 1);
        let n = padded(rhs.meta.shape(), 1)[3];
        let tiles = [n, m].map(|length| (length as u32).div_ceil(TILE as u32));
        // Units that lie along the longer side all have a tile to make.
        let wide = tiles[0].next_power_of_two().min(4);
        let units = [wide, super::UNITS / wide];
        let client = lhs.client.clone();
        let count = CubeCount::Static(
            tiles[0].div_ceil(units[0]),
            tiles[1].div_ceil(units[1]),
            (outer * inner) as u32,
        );
        // SAFETY: the kernel holds its reads and writes within the sizes it is given.
        unsafe {
            tile::launch_unchecked(
                &client,
                count,
                CubeDim::new_2d(units[0], units[1]),
                lhs.into_buffer_arg(),
                rhs.into_buffer_arg(),
                out.clone().into_buffer_arg(),
                left,
                right,
                SizesLaunch::new(inner as u32, m as u32, k as u32, n as u32),
            );
        }
        out
    }
}

/// The last four entries, with `fill` in front where there are fewer.
fn padded(dims: &[usize], fill: usize) -> [usize; 4] {
    let mut last = [fill; 4];
    last[4 - dims.len()..].copy_from_slice(dims);
    last
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
    fn of(x: &CubeTensor) -> StepsLaunch {
        let [outer, inner, row, column] = padded(x.meta.strides(), 0).map(|step| step as u32);
        StepsLaunch::new(outer, inner, row, column)
    }
}

#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    inner: u32,
    m: u32,
    k: u32,
    n: u32,
}

#[cube(launch_unchecked)]
fn tile(lhs: &[f32], rhs: &[f32], out: &mut [f32], left: Steps, right: Steps, sizes: Sizes) {
    let column = ABSOLUTE_POS_X * TILE as u32;
    let row = ABSOLUTE_POS_Y * TILE as u32;
    if row < sizes.m && column < sizes.n {
        let outer = CUBE_POS_Z / sizes.inner;
        let inner = CUBE_POS_Z % sizes.inner;
        let mut lhs_at = Array::<u32>::new(TILE);
        let mut rhs_at = Array::<u32>::new(TILE);
        #[unroll]
        for i in 0..TILE {
            // Beyond the edge the last row or column is read again, and not written.
            let r = min(row + i as u32, sizes.m - 1);
            let c = min(column + i as u32, sizes.n - 1);
            lhs_at[i] = outer * left.outer + inner * left.inner + r * left.row;
            rhs_at[i] = outer * right.outer + inner * right.inner + c * right.column;
        }
        let mut sums = Array::<f32>::new(TILE * TILE);
        #[unroll]
        for i in 0..TILE * TILE {
            sums[i] = 0.0f32;
        }
        for step in 0..sizes.k {
            let mut a = Array::<f32>::new(TILE);
            let mut b = Array::<f32>::new(TILE);
            #[unroll]
            for i in 0..TILE {
                a[i] = lhs[(lhs_at[i] + step * left.column) as usize];
                b[i] = rhs[(rhs_at[i] + step * right.row) as usize];
            }
            #[unroll]
            for i in 0..TILE {
                #[unroll]
                for j in 0..TILE {
                    sums[i * TILE + j] = fma(a[i], b[j], sums[i * TILE + j]);
                }
            }
        }
        #[unroll]
        for i in 0..TILE {
            #[unroll]
            for j in 0..TILE {
                if row + (i as u32) < sizes.m && column + (j as u32) < sizes.n {
                    let r = CUBE_POS_Z * sizes.m + row + i as u32;
                    out[(r * sizes.n + column + j as u32) as usize] = sums[i * TILE + j];
                }
            }
        }
    }
}
