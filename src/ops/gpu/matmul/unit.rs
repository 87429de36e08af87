//! Matrix product with one tile of the result in each unit's registers: no barriers.

use super::{Steps, padded};
use crate::ops::gpu::{SOFTWARE_UNITS, empty_like};
use crate::ops::matmul::shape_of;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

/// Rows and columns of a unit's tile: 64 products for 16 loads. On SwiftShader loads cost most: measured
/// 0.2 · 10⁹ multiply-adds a second at 1, 0.7 at 4, 2 at 8, fewer again at 16.
const TILE: usize = 8;

pub(super) fn product(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
    let out = empty_like(&lhs, shape_of(lhs.meta.shape(), rhs.meta.shape()));
    let (left, right) = (Steps::launch(Steps::of(&lhs)), Steps::launch(Steps::of(&rhs)));
    let [outer, inner, m, k] = padded(lhs.meta.shape(), 1);
    let n = padded(rhs.meta.shape(), 1)[3];
    let tiles = [n, m].map(|length| (length as u32).div_ceil(TILE as u32));
    // Units that lie along the longer side all have a tile to make.
    let wide = tiles[0].next_power_of_two().min(4);
    let units = [wide, SOFTWARE_UNITS / wide];
    let client = lhs.client.clone();
    let count =
        CubeCount::Static(tiles[0].div_ceil(units[0]), tiles[1].div_ceil(units[1]), (outer * inner) as u32);
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
