//! Products of two tiles through shared memory: 64 lines of one matrix with 64 of another, a unit making 8×4 sums in
//! registers.
//!
//! A unit's rows are two fours of lines that lie together; its columns are every sixteenth line, so that sixteen lines
//! at a time can go on as a factor of the next product, four values of each unit.

use super::EDGE;
use crate::ops::gpu::Fold;
use burn_cubecl::cubecl::{self, prelude::*};

pub(super) type Four = Vector<f32, Const<4>>;

/// Units of a workgroup.
pub(super) const UNITS: usize = DOWN * ACROSS;
const DOWN: usize = 8;
const ACROSS: usize = 16;
/// Fours of rows of a unit's block.
pub(super) const FOURS: usize = EDGE / (4 * DOWN);
/// Rows of it.
pub(super) const ROWS: usize = 4 * FOURS;
/// Inner indices in shared memory at a time.
const DEPTH: usize = 16;
/// Of these, how many a loop's body has: the instructions of all would not fit their cache.
const UNROLLED: usize = 4;
/// Fours from one inner index to the next in shared memory. One more than needed, so that the fours of a row do not all
/// lie in the same banks.
const PITCH: usize = EDGE / 4 + 1;
/// Values of a line beyond which fewer lines are in shared memory at a time.
const WIDE: usize = 128;

/// Lines of a matrix, whose values lie side by side, and the first of them that a tile has.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Lines {
    /// Where the matrix begins.
    pub base: u32,
    /// Values from one line to the next.
    pub step: u32,
    pub first: u32,
    /// All lines.
    pub end: u32,
}

/// The columns of a result that a workgroup makes, of all that there are.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct Columns {
    /// How many a workgroup makes; a multiple of four, as all.
    pub width: usize,
    pub all: usize,
}

impl Columns {
    /// Fours of columns of a unit.
    pub const fn of_unit(&self) -> usize {
        (self.width / 4).div_ceil(ACROSS)
    }

    /// Lines in shared memory at a time: 16 KiB have to suffice, which every device has.
    const fn lines(&self) -> usize {
        if self.width <= WIDE { DEPTH } else { DEPTH / 2 }
    }

    /// Fours from one line to the next in shared memory.
    const fn pitch(&self) -> usize {
        self.width / 4 + 1
    }

    /// Fours of shared memory.
    pub const fn shared(&self) -> usize {
        let weighed = DEPTH * PITCH + self.lines() * self.pitch();
        if weighed > 2 * DEPTH * PITCH { weighed } else { 2 * DEPTH * PITCH }
    }

    /// Bytes of shared memory, two bounds of a loop included.
    pub const fn bytes(&self) -> usize {
        16 * self.shared() + 8
    }
}

/// Where this unit's block is: row and column, in units. A plane is as square as it can be: the fewer rows and columns it
/// has, the fewer values it reads.
#[cube]
pub(super) fn place() -> (usize, usize) {
    let unit = UNIT_POS as usize;
    let (lane, plane) = (unit % 32, unit / 32);
    (plane / 2 * 4 + lane / 8, plane % 2 * 8 + lane % 8)
}

/// The line of the tile that this unit's four of rows begins at.
#[cube]
pub(super) fn first_row(#[comptime] four: usize) -> u32 {
    let (down, _) = place();
    ((four * DOWN + down) * 4) as u32
}

/// The line of the tile that this unit has in a column.
#[cube]
pub(super) fn line_of_column(#[comptime] column: usize) -> u32 {
    let (_, across) = place();
    (column * ACROSS + across) as u32
}

#[cube]
pub(super) fn clear(sums: &mut Array<Four>, #[comptime] n: usize) {
    #[unroll]
    for i in 0..n {
        sums[i] = Four::new(0.0f32);
    }
}

/// Four lines' values at one inner index.
#[cube]
fn across_lines(
    x: &[f32],
    of: &Lines,
    line: u32,
    inner: u32,
    #[comptime] spread: usize,
    #[comptime] d: usize,
) -> Four {
    let mut values = Four::new(0.0f32);
    let at = of.base + min(inner, comptime!(d as u32 - 1));
    #[unroll]
    for j in 0..4usize {
        // Beyond the edge the last one is read again; it is masked, or not written.
        let line = min(of.first + line + comptime!((j * spread) as u32), of.end - 1);
        let value = x[(at + line * of.step) as usize];
        values.insert(j, select(inner < comptime!(d as u32), value, 0.0f32));
    }
    values
}

/// Adds the inner products of two tiles' lines: a four of the block is a row, a line of `a`.
#[cube]
pub(super) fn add_dots(
    sums: &mut Array<Four>,
    shared: &mut Shared<[Four]>,
    a: &[f32],
    a_lines: &Lines,
    b: &[f32],
    b_lines: &Lines,
    #[comptime] d: usize,
) {
    let loads = comptime!(EDGE / 4 * DEPTH / UNITS);
    let b_start = comptime!(DEPTH * PITCH);
    let (down, across) = place();
    let unit = UNIT_POS as usize;
    let mut next_a = Array::<Four>::new(loads);
    let mut next_b = Array::<Four>::new(loads);
    let n_steps = comptime!(d.div_ceil(DEPTH)).runtime() as u32;
    for step in 0..n_steps + 1 {
        // What the next step needs is on its way while this step is computed.
        if step < n_steps {
            #[unroll]
            for i in 0..loads {
                let v = unit + i * UNITS;
                let (line, inner) = ((v / DEPTH) as u32, step * comptime!(DEPTH as u32) + (v % DEPTH) as u32);
                next_a[i] = across_lines(a, a_lines, line * 4, inner, 1usize, d);
                next_b[i] = across_lines(b, b_lines, line, inner, ACROSS, d);
            }
        }
        if step > 0 {
            for start in range_stepped(0u32, comptime!(DEPTH as u32), comptime!(UNROLLED as u32)) {
                #[unroll]
                for k in 0..UNROLLED {
                    let inner = start as usize + k;
                    let column = shared[b_start + inner * PITCH + across];
                    #[unroll]
                    for i in 0..FOURS {
                        let row = shared[inner * PITCH + i * DOWN + down];
                        #[unroll]
                        for l in 0..4usize {
                            let sum = comptime!(i * 4 + l);
                            sums[sum] = fma(Four::new(row.extract(l)), column, sums[sum]);
                        }
                    }
                }
            }
            sync_cube();
        }
        if step < n_steps {
            #[unroll]
            for i in 0..loads {
                let v = unit + i * UNITS;
                let (line, inner) = (v / DEPTH, v % DEPTH);
                shared[inner * PITCH + line] = next_a[i];
                shared[b_start + inner * PITCH + line] = next_b[i];
            }
            sync_cube();
        }
    }
}

/// Adds the product of a tile, of which each unit has the block `weights`, with the lines of another, columns `from`
/// on. A unit's sums of its rows' columns lie in fours, row by row.
#[cube]
pub(super) fn add_weighed(
    sums: &mut Array<Four>,
    shared: &mut Shared<[Four]>,
    weights: &Array<Four>,
    b: &[f32],
    b_lines: &Lines,
    from: u32,
    #[comptime] columns: Columns,
) {
    let lines = comptime!(columns.lines());
    let fours = comptime!(columns.width / 4);
    let pitch = comptime!(columns.pitch());
    let of_unit = comptime!(columns.of_unit());
    let loads = comptime!((lines * fours).div_ceil(UNITS));
    let b_start = comptime!(DEPTH * PITCH);
    let n_stages = comptime!(EDGE / lines).runtime() as u32;
    let (down, across) = place();
    let mut next = Array::<Four>::new(loads);
    next_lines(&mut next, b, b_lines, 0u32, from, columns);
    for stage in 0..n_stages {
        let line = stage * comptime!(lines as u32);
        let first = line % comptime!(DEPTH as u32);
        // Sixteen lines' weights: one column of each unit.
        if first == 0 {
            let column = line / comptime!(DEPTH as u32);
            #[unroll]
            for i in 0..FOURS {
                let mut four = Four::new(0.0f32);
                #[unroll]
                for l in 0..4usize {
                    four.insert(l, pick(weights[comptime!(i * 4 + l)], column));
                }
                shared[across * PITCH + i * DOWN + down] = four;
            }
        }
        #[unroll]
        for i in 0..loads {
            let v = UNIT_POS as usize + i * UNITS;
            if comptime!((lines * fours).is_multiple_of(UNITS)) || v < comptime!(lines * fours) {
                shared[b_start + v / fours * pitch + v % fours] = next[i];
            }
        }
        sync_cube();
        if stage + 1 < n_stages {
            next_lines(&mut next, b, b_lines, line + comptime!(lines as u32), from, columns);
        }
        for start in range_stepped(0u32, comptime!(lines as u32), comptime!(UNROLLED as u32)) {
            #[unroll]
            for l in 0..UNROLLED {
                let line = start as usize + l;
                let mut values = Array::<Four>::new(of_unit);
                #[unroll]
                for j in 0..of_unit {
                    values[j] = shared[b_start + line * pitch + min(j * ACROSS + across, fours - 1)];
                }
                #[unroll]
                for i in 0..FOURS {
                    let rows = shared[(first as usize + line) * PITCH + i * DOWN + down];
                    #[unroll]
                    for r in 0..4usize {
                        let weight = Four::new(rows.extract(r));
                        #[unroll]
                        for j in 0..of_unit {
                            let sum = comptime!((i * 4 + r) * of_unit + j);
                            sums[sum] = fma(weight, values[j], sums[sum]);
                        }
                    }
                }
            }
        }
        sync_cube();
    }
}

/// A column's value: an index that is not known beforehand would take the row out of registers.
#[cube]
fn pick(row: Four, column: u32) -> f32 {
    let low = select(column == 0, row.extract(0usize), row.extract(1usize));
    let high = select(column == 2, row.extract(2usize), row.extract(3usize));
    select(column < 2, low, high)
}

/// This unit's share of the lines that come next.
#[cube]
fn next_lines(
    next: &mut Array<Four>,
    b: &[f32],
    of: &Lines,
    line: u32,
    from: u32,
    #[comptime] columns: Columns,
) {
    let fours = comptime!(columns.width / 4);
    let n = comptime!(columns.lines() * fours);
    let last = comptime!(columns.all as u32 - 4);
    #[unroll]
    for i in 0..comptime!(n.div_ceil(UNITS)) {
        let v = UNIT_POS as usize + i * UNITS;
        let line = min(of.first + line + (v / fours) as u32, of.end - 1);
        let at = of.base + line * of.step + min(from + (v % fours * 4) as u32, last);
        let mut four = Four::new(0.0f32);
        #[unroll]
        for c in 0..4usize {
            four.insert(c, b[(at + c as u32) as usize]);
        }
        next[i] = four;
    }
}

/// Writes the sums of [`add_weighed`], each row times its factor.
#[cube]
pub(super) fn write(
    sums: &Array<Four>,
    factors: &Array<Four>,
    out: &mut [f32],
    to: &Lines,
    from: u32,
    #[comptime] columns: Columns,
) {
    let of_unit = comptime!(columns.of_unit());
    let (_, across) = place();
    #[unroll]
    for i in 0..FOURS {
        #[unroll]
        for l in 0..4usize {
            let line = to.first + first_row(i) + comptime!(l as u32);
            #[unroll]
            for j in 0..of_unit {
                let four = j * ACROSS + across;
                let column = from + (four * 4) as u32;
                if line < to.end
                    && four < comptime!(columns.width / 4)
                    && column < comptime!(columns.all as u32)
                {
                    let values =
                        sums[comptime!((i * 4 + l) * of_unit + j)] * Four::new(factors[i].extract(l));
                    #[unroll]
                    for c in 0..4usize {
                        out[(to.base + line * to.step + column + c as u32) as usize] = values.extract(c);
                    }
                }
            }
        }
    }
}

/// Combines what the units of a row have for it; their `mine` hold their rows in fours.
#[cube]
pub(super) fn fold_rows(mine: &mut Array<Four>, shared: &mut Shared<[Four]>, #[comptime] fold: Fold) {
    let (down, across) = place();
    #[unroll]
    for i in 0..FOURS {
        shared[across * PITCH + i * DOWN + down] = mine[i];
    }
    sync_cube();
    #[unroll]
    for i in 0..FOURS {
        let mut all = shared[i * DOWN + down];
        for other in range_stepped(1u32, comptime!(ACROSS as u32), 1u32) {
            let value = shared[other as usize * PITCH + i * DOWN + down];
            all = match comptime!(fold) {
                Fold::Sum => all + value,
                Fold::Largest => max(all, value),
            };
        }
        mine[i] = all;
    }
    sync_cube();
}

/// What a row's four values come to.
#[cube]
pub(super) fn fold_four(row: Four, #[comptime] fold: Fold) -> f32 {
    let mut all = row.extract(0usize);
    #[unroll]
    for c in 1..4usize {
        let value = row.extract(c);
        all = match comptime!(fold) {
            Fold::Sum => all + value,
            Fold::Largest => max(all, value),
        };
    }
    all
}
