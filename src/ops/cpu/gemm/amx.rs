//! Products on a processor's matrix unit (Intel AMX), which multiplies bf16 and adds up in f32: each f32 is taken apart
//! into three bf16 (1904.06376), and six products of parts make one that is as exact as f32's own, in less than half the
//! time.
//!
//! One side, the smaller, is taken apart once for all cores; each core takes the other apart as it goes.

mod split;
mod tile;

use super::Sides;
use super::group::{Line, Pass, at_least};
use super::kernel::turned_block;
use super::sharing::{n_cores, passes};
use crate::ops::cpu::{Out, tasks};
use split::{ROOM, Role, Split, UNIT, n_blocks, run_len};
use std::cell::RefCell;
use std::ops::Range;
use tile::{PARTS, SIDE, TILE, Tiles};

/// Outer indices of the shared side that are taken apart at a time.
const SHARED: usize = 4 * UNIT;
/// Outer indices of either side below which the other kernel is faster.
const FEW: usize = 32;
/// Blocks of inner indices that a pair of units goes through at a time.
const STEP: usize = 6;
/// Tasks a core, at least.
const TASKS: usize = 3;

/// Whether this is the faster way.
pub(super) fn serves(sides: &[Sides], [m, n]: [usize; 2]) -> bool {
    m >= FEW && n >= FEW && sides.iter().any(|sides| sides.lhs.n_inner() >= FEW) && tile::is_there()
}

/// Writes the sum of the terms.
pub(super) fn by_tiles(sides: &[Sides], [m, n]: [usize; 2], is_turned: bool, out: &Out) {
    let (n_rows, n_columns) = if is_turned { (n, m) } else { (m, n) };
    let passes = passes(sides, is_turned);
    let inner: usize = passes.iter().map(|pass| pass.len).sum();
    let n_cores = n_cores([m, n], inner);
    let (shared, n_shared, own, n_own) = if n_rows < n_columns {
        (Role::Rows, n_rows, Role::Columns, n_columns)
    } else {
        (Role::Columns, n_columns, Role::Rows, n_rows)
    };
    let length = (n_own / (TASKS * n_cores)).next_multiple_of(2 * SIDE).clamp(2 * SIDE, UNIT);
    // Taken, not borrowed: a thread that waits for others may begin another product.
    let mut room = SHARED_TILES.take();
    for (i, pass) in passes.iter().enumerate() {
        for first in (0..n_shared).step_by(SHARED) {
            let range = first..(first + SHARED).min(n_shared);
            let tiles = share(pass, shared, range.clone(), n_cores, &mut room);
            tasks::for_each_task(n_cores, n_own.div_ceil(length), |task| {
                let part = task * length..((task + 1) * length).min(n_own);
                let product = Product { pass, is_turned, is_added: i > 0, out, step: n };
                product.write(tiles, shared, range.clone(), own, part);
            });
        }
    }
    SHARED_TILES.set(room);
}

/// Takes some of the shared side apart.
fn share<'a>(
    pass: &Pass,
    role: Role,
    outer: Range<usize>,
    n_cores: usize,
    tiles: &'a mut Vec<Line>,
) -> &'a [u16] {
    let unit_len = run_len(pass) * UNIT / SIDE;
    let n_units = outer.len().div_ceil(UNIT);
    let tiles: &mut [u16] = bytemuck::cast_slice_mut(at_least(tiles, n_units * unit_len / 2));
    let place = Out(tiles.as_mut_ptr().cast());
    // Thirds of a unit, so that cores have like shares of a short row.
    tasks::for_each_task(n_cores, outer.len().div_ceil(UNIT / 3), |task| {
        let first = outer.start + task * UNIT / 3;
        let part = first..(first + UNIT / 3).min(outer.end);
        let start = place.at(task * (unit_len / 3) / 2).cast::<u16>();
        // SAFETY: this third is this task's alone.
        let tiles = unsafe { std::slice::from_raw_parts_mut(start, unit_len / 3) };
        SCRATCH.with_borrow_mut(|Scratch { room, .. }| {
            let room = at_least(room, ROOM);
            pulp::Arch::new().dispatch(Split { pass, role, outer: part, out: tiles, room });
        });
    });
    tiles
}

/// A pass of a product under way.
struct Product<'a, 'b> {
    pass: &'b Pass<'a>,
    is_turned: bool,
    is_added: bool,
    out: &'b Out,
    /// From one row of the result to the next.
    step: usize,
}

impl Product<'_, '_> {
    /// Writes what some of the own side makes with all that is shared.
    fn write(&self, shared: &[u16], shared_role: Role, range: Range<usize>, role: Role, part: Range<usize>) {
        let (run_len, n_blocks) = (run_len(self.pass), n_blocks(self.pass));
        SCRATCH.with_borrow_mut(|Scratch { own, room, sums }| {
            let own: &mut [u16] = bytemuck::cast_slice_mut(at_least(own, run_len * UNIT / SIDE / 2));
            let room = at_least(room, ROOM);
            pulp::Arch::new().dispatch(Split { pass: self.pass, role, outer: part.clone(), out: own, room });
            let sums = at_least(sums, UNIT * UNIT);
            let tiles = Tiles::new();
            let units = range.clone().step_by(UNIT).zip(shared.chunks_exact(run_len * UNIT / SIDE));
            for (first, unit) in units {
                let unit_range = first..(first + UNIT).min(range.end);
                let (rows, columns, a, b) = match shared_role {
                    Role::Rows => (unit_range, part.clone(), unit, &*own),
                    Role::Columns => (part.clone(), unit_range, &*own, unit),
                };
                for block in (0..n_blocks).step_by(STEP) {
                    let n = STEP.min(n_blocks - block);
                    for column in (0..columns.len()).step_by(2 * SIDE) {
                        for row in (0..rows.len()).step_by(2 * SIDE) {
                            let run = |runs: &[u16], outer: usize| {
                                let of = |tile| runs[tile * run_len + block * PARTS * TILE..].as_ptr();
                                [of(outer / SIDE), of(outer / SIDE + 1)]
                            };
                            let place = |i: usize, j: usize| {
                                sums[(row + i) * UNIT + column + j..].as_ptr().cast_mut()
                            };
                            let c = [place(0, 0), place(0, SIDE), place(SIDE, 0), place(SIDE, SIDE)];
                            // SAFETY: runs of whole pairs lie in the room of a unit, and so do their results.
                            unsafe { tiles.multiply(run(a, row), run(b, column), n, c, UNIT, block == 0) };
                        }
                    }
                }
                self.lay_down(sums, rows, columns);
            }
        });
    }

    /// Brings the sums of some rows and columns to the result.
    fn lay_down(&self, sums: &[f32], rows: Range<usize>, columns: Range<usize>) {
        let Self { is_turned, is_added, out, step, .. } = *self;
        let (n_rows, n_columns) = (rows.len(), columns.len());
        let write = |at: *mut [f32; 4], values: [f32; 4]| {
            // SAFETY: these rows and columns of the result are this task's alone.
            unsafe {
                let old = if is_added { at.read_unaligned() } else { [0.0; 4] };
                at.write_unaligned(std::array::from_fn(|i| values[i] + old[i]));
            }
        };
        let (whole_rows, whole_columns) = if is_turned {
            (n_rows - n_rows % 4, n_columns - n_columns % 4)
        } else {
            (n_rows, n_columns - n_columns % 4)
        };
        if is_turned {
            for column in (0..whole_columns).step_by(4) {
                for row in (0..whole_rows).step_by(4) {
                    let mut block = [[0.0f32; 4]; 4];
                    for (i, block) in block.iter_mut().enumerate() {
                        block.copy_from_slice(&sums[(row + i) * UNIT + column..][..4]);
                    }
                    for (j, values) in turned_block(block).into_iter().enumerate() {
                        write(out.at((columns.start + column + j) * step + rows.start + row).cast(), values);
                    }
                }
            }
        } else {
            for row in 0..whole_rows {
                for (i, values) in sums[row * UNIT..][..whole_columns].as_chunks::<4>().0.iter().enumerate() {
                    write(out.at((rows.start + row) * step + columns.start + i * 4).cast(), *values);
                }
            }
        }
        for row in 0..n_rows {
            for column in (if row < whole_rows { whole_columns } else { 0 })..n_columns {
                let (i, j) = (rows.start + row, columns.start + column);
                let at = out.at(if is_turned { j * step + i } else { i * step + j });
                let value = sums[row * UNIT + column];
                // SAFETY: as above.
                unsafe { at.write(if is_added { *at + value } else { value }) };
            }
        }
    }
}

/// What a core works in, kept for its next task.
#[derive(Default)]
struct Scratch {
    /// A unit of the own side.
    own: Vec<Line>,
    /// Values before they are taken apart.
    room: Vec<Line>,
    /// A block of the result.
    sums: Vec<Line>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// Of the thread that asks for a product.
    static SHARED_TILES: RefCell<Vec<Line>> = RefCell::default();
}
