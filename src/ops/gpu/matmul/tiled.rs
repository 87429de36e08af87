//! Matrix product through shared memory: a workgroup makes a tile of the result, each unit a block of it in registers.

use super::{Factors, Lies, Place, Sizes, here, result_start};
use burn_cubecl::cubecl::{self, prelude::*};

type Four = Vector<f32, Const<4>>;

/// A workgroup's part of the result, how many inner indices are in shared memory at a time, and a unit's block.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct Tile {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Inner indices.
    pub depth: usize,
    /// Fours of rows of a unit's block.
    pub unit_rows: usize,
    /// Fours of columns of a unit's block.
    pub unit_columns: usize,
}

/// The most work for what is read.
pub(super) const LARGE: Tile = Tile { rows: 128, columns: 128, depth: 8, unit_rows: 2, unit_columns: 2 };
/// More workgroups.
pub(super) const MEDIUM: Tile = Tile { rows: 64, columns: 64, depth: 16, unit_rows: 1, unit_columns: 1 };
/// Few columns.
pub(super) const NARROW: Tile = Tile { rows: 128, columns: 8, depth: 32, unit_rows: 1, unit_columns: 1 };

impl Tile {
    /// Fours from one inner index to the next in shared memory. One more than needed, so that the fours of a row do not
    /// all lie in the same banks.
    const fn pitches(&self) -> [usize; 2] {
        [self.rows / 4 + 1, self.columns / 4 + 1]
    }

    /// Units down and across.
    pub const fn units(&self) -> [usize; 2] {
        [self.rows / (4 * self.unit_rows), self.columns / (4 * self.unit_columns)]
    }
}

/// Where this unit's block is, in units. A plane is as square as it can be: the fewer rows and columns it has, the
/// fewer values it reads.
#[cube]
fn place(#[comptime] across: usize) -> (usize, usize) {
    let unit = UNIT_POS as usize;
    if comptime!(across.is_multiple_of(8)) {
        let (lane, plane) = (unit % 32, unit / 32);
        let planes_across = comptime!(across / 8);
        (plane / planes_across * 4 + lane / 8, plane % planes_across * 8 + lane % 8)
    } else {
        (unit / across, unit % across)
    }
}

/// Four rows' (or columns') values at one inner index.
#[cube]
fn four(x: &[f32], base: u32, at: u32, along: u32, end: u32, k: u32, step: u32, k_end: u32) -> Four {
    let mut values = Four::new(0.0f32);
    let inner = min(k, k_end - 1) * step + base;
    #[unroll]
    for j in 0..4usize {
        // Beyond the edge the last one is read again; it is not written.
        let value = x[(inner + min(at + j as u32, end - 1) * along) as usize];
        values.insert(j, select(k < k_end, value, 0.0f32));
    }
    values
}

/// Which four and which inner index the `v`-th load is: neighbours in memory go to neighbouring units.
#[cube]
fn spot(
    v: usize,
    #[comptime] fours: usize,
    #[comptime] depth: usize,
    #[comptime] along_inner: bool,
) -> (usize, usize) {
    if comptime!(along_inner) { (v / depth, v % depth) } else { (v % fours, v / fours) }
}

/// Adds what one product brings to this unit's block.
#[cube]
#[allow(clippy::too_many_arguments)]
fn accumulate(
    sums: &mut Array<Four>,
    a: &mut Shared<[Four]>,
    b: &mut Shared<[Four]>,
    of: &Factors,
    at: &Place,
    k_begin: u32,
    k_end: u32,
    #[comptime] tile: Tile,
    #[comptime] lies: Lies,
) {
    let down = comptime!(tile.units()[0]);
    let across = comptime!(tile.units()[1]);
    let units = comptime!(down * across);
    let depth = comptime!(tile.depth);
    let (row_fours, column_fours) = comptime!((tile.rows / 4, tile.columns / 4));
    let (a_pitch, b_pitch) = comptime!((tile.pitches()[0], tile.pitches()[1]));
    let (ur, uc) = comptime!((tile.unit_rows, tile.unit_columns));
    let (a_loads, b_loads) =
        comptime!(((row_fours * depth).div_ceil(units), (column_fours * depth).div_ceil(units)));
    let lhs_base = at.outer * of.left.outer + at.inner * of.left.inner;
    let rhs_base = at.outer * of.right.outer + at.inner * of.right.inner;
    let (uy, ux) = place(across);
    let mut next_a = Array::<Four>::new(a_loads);
    let mut next_b = Array::<Four>::new(b_loads);
    let n_steps = (k_end - k_begin).div_ceil(comptime!(depth as u32));

    for step in 0..n_steps + 1 {
        // What the next step needs is on its way while this step is computed.
        if step < n_steps {
            let k = k_begin + step * comptime!(depth as u32);
            #[unroll]
            for i in 0..a_loads {
                let (r, d) =
                    spot(UNIT_POS as usize + i * units, row_fours, depth, comptime!(lies.lhs_along_inner));
                let row = at.row + 4 * r as u32;
                next_a[i] =
                    four(&of.lhs, lhs_base, row, of.left.row, at.m, k + d as u32, of.left.column, k_end);
            }
            #[unroll]
            for i in 0..b_loads {
                let (c, d) =
                    spot(UNIT_POS as usize + i * units, column_fours, depth, comptime!(lies.rhs_along_inner));
                let column = at.column + 4 * c as u32;
                next_b[i] =
                    four(&of.rhs, rhs_base, column, of.right.column, at.n, k + d as u32, of.right.row, k_end);
            }
        }
        if step > 0 {
            #[unroll]
            for d in 0..depth {
                let mut rows = Array::<Four>::new(ur);
                let mut columns = Array::<Four>::new(uc);
                #[unroll]
                for i in 0..ur {
                    rows[i] = a[d * a_pitch + i * down + uy];
                }
                #[unroll]
                for j in 0..uc {
                    columns[j] = b[d * b_pitch + j * across + ux];
                }
                #[unroll]
                for i in 0..ur {
                    #[unroll]
                    for l in 0..4usize {
                        let x = Four::new(rows[i].extract(l));
                        #[unroll]
                        for j in 0..uc {
                            let sum = comptime!((i * 4 + l) * uc + j);
                            sums[sum] = fma(x, columns[j], sums[sum]);
                        }
                    }
                }
            }
            sync_cube();
        }
        if step < n_steps {
            #[unroll]
            for i in 0..a_loads {
                let (r, d) =
                    spot(UNIT_POS as usize + i * units, row_fours, depth, comptime!(lies.lhs_along_inner));
                if d < depth && r < row_fours {
                    a[d * a_pitch + r] = next_a[i];
                }
            }
            #[unroll]
            for i in 0..b_loads {
                let (c, d) =
                    spot(UNIT_POS as usize + i * units, column_fours, depth, comptime!(lies.rhs_along_inner));
                if d < depth && c < column_fours {
                    b[d * b_pitch + c] = next_b[i];
                }
            }
            sync_cube();
        }
    }
}

#[cube(launch_unchecked)]
pub(super) fn tiled(
    first: Factors,
    second: Factors,
    out: &mut [f32],
    sizes: Sizes,
    #[comptime] tile: Tile,
    #[comptime] lies: [Lies; 2],
    #[comptime] n_products: usize,
) {
    let down = comptime!(tile.units()[0]);
    let across = comptime!(tile.units()[1]);
    let depth = comptime!(tile.depth);
    let (ur, uc) = comptime!((tile.unit_rows, tile.unit_columns));
    let mut a = Shared::<[Four]>::new_slice(comptime!(depth * tile.pitches()[0]));
    let mut b = Shared::<[Four]>::new_slice(comptime!(depth * tile.pitches()[1]));
    let mut sums = Array::<Four>::new(comptime!(ur * 4 * uc));
    #[unroll]
    for i in 0..ur * 4 * uc {
        sums[i] = Four::new(0.0f32);
    }
    let (at, part) = here(&sizes, comptime!(tile.rows as u32), comptime!(tile.columns as u32));
    let k_begin = part * sizes.part_k;
    let k_end = min(k_begin + sizes.part_k, first.k);
    accumulate(&mut sums, &mut a, &mut b, &first, &at, k_begin, k_end, tile, comptime!(lies[0]));
    if comptime!(n_products == 2) {
        // The first part has the whole second product.
        let k_end = select(part == 0, second.k, 0u32);
        accumulate(&mut sums, &mut a, &mut b, &second, &at, 0u32, k_end, tile, comptime!(lies[1]));
    }
    let (uy, ux) = place(across);
    let start = result_start(&sizes, part);
    #[unroll]
    for i in 0..ur {
        #[unroll]
        for l in 0..4usize {
            let row = at.row + ((i * down + uy) * 4 + l) as u32;
            #[unroll]
            for j in 0..uc {
                let column = at.column + ((j * across + ux) * 4) as u32;
                let values = sums[comptime!((i * 4 + l) * uc + j)];
                #[unroll]
                for c in 0..4usize {
                    if row < sizes.m && column + (c as u32) < sizes.n {
                        let index = start + row * sizes.out_row + (column + c as u32) * sizes.out_column;
                        out[index as usize] = values.extract(c) * sizes.scale;
                    }
                }
            }
        }
    }
}
