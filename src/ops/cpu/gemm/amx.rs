//! Products on a processor's matrix unit (Intel AMX), which multiplies bf16 and adds up in f32: each f32 is taken apart
//! into three bf16 (1904.06376), and six products of parts make one that is as exact as f32's own; where a matrix is of
//! bf16, three make one that is exact. The unit is up to 16 times as fast as vectors of f32.
//!
//! One side, the smaller, is taken apart once for all cores; each core takes the other apart as it goes.

mod split;
mod tile;

use super::Sides;
use super::group::{Line, Pass, at_least};
use super::kernel::{Place, lay_down};
use super::sharing::{n_cores, passes};
use crate::ops::cpu::{Out, tasks};
use split::{ROOM, Role, Split, UNIT, n_blocks, run_len};
use std::cell::RefCell;
use std::ops::Range;
use tile::{PARTS, Runs, SIDE, TILE, Tiles, Whole};

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
            let split = Split { pass: self.pass, role, outer: part.clone(), out: own, room };
            let whole = pulp::Arch::new().dispatch(split);
            let sums = at_least(sums, UNIT * UNIT);
            let tiles = Tiles::new();
            let units = range.clone().step_by(UNIT).zip(shared.chunks_exact(run_len * UNIT / SIDE));
            for (first, unit) in units {
                let unit_range = first..(first + UNIT).min(range.end);
                let (rows, columns, a, b) = match shared_role {
                    Role::Rows => (unit_range, part.clone(), unit, &*own),
                    Role::Columns => (part.clone(), unit_range, &*own, unit),
                };
                let unit = Unit { n: [rows.len(), columns.len()], runs: [a, b], run_len, n_blocks };
                unit.multiply(&tiles, Whole { role, blocks: whole }, sums);
                let first =
                    if self.is_turned { [columns.start, rows.start] } else { [rows.start, columns.start] };
                let place = Place {
                    at: self.out.at(first[0] * self.step + first[1]),
                    step: self.step,
                    width: columns.len(),
                    is_turned: self.is_turned,
                    is_added: self.is_added,
                };
                // SAFETY: these rows and columns of the result are this task's alone.
                unsafe { lay_down(sums, UNIT, [rows.len(), columns.len()], place) };
            }
        });
    }
}

/// Runs of rows and of columns, at most [`UNIT`] of each.
struct Unit<'a> {
    n: [usize; 2],
    runs: [&'a [u16]; 2],
    run_len: usize,
    n_blocks: usize,
}

impl Unit<'_> {
    /// Writes their products to `sums`, rows [`UNIT`] values apart. Places past the last row and column get anything.
    fn multiply(&self, tiles: &Tiles, whole: Whole, sums: &mut [f32]) {
        let Self { n: [n_rows, n_columns], runs: [rows, columns], run_len, n_blocks } = *self;
        assert!(
            sums.len() >= UNIT * UNIT && n_rows.max(n_columns) <= UNIT,
            "there is room for a unit's sums"
        );
        for block in (0..n_blocks).step_by(STEP) {
            let n = STEP.min(n_blocks - block);
            let whole = Whole { blocks: whole.blocks >> block, ..whole };
            let pair = |runs: &[u16], outer: usize| {
                let run = |tile| runs[tile * run_len..][..run_len][block * PARTS * TILE..].as_ptr();
                [run(outer / SIDE), run(outer / SIDE + 1)]
            };
            for column in (0..n_columns).step_by(2 * SIDE) {
                for row in (0..n_rows).step_by(2 * SIDE) {
                    let place = sums[row * UNIT + column..].as_mut_ptr();
                    let c = [0, SIDE, SIDE * UNIT, SIDE * UNIT + SIDE].map(|at| place.wrapping_add(at));
                    let runs = Runs { rows: pair(rows, row), columns: pair(columns, column) };
                    // SAFETY: each run was found to hold these blocks, and there is room for whole pairs of tiles.
                    unsafe { tiles.multiply(runs, n, whole, c, UNIT, block == 0) };
                }
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
