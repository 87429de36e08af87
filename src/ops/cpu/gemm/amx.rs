//! Products on a processor's matrix unit (Intel AMX), which multiplies bf16 and adds up in f32: each f32 is taken apart
//! into three bf16 (1904.06376), and six products of parts make one that is as exact as f32's own; where a matrix is of
//! bf16, three make one that is exact, and of f16 five. The unit is up to 16 times as fast as vectors of f32.
//!
//! One side, the smaller, is taken apart once for all cores; each core takes the other apart as it goes.

mod four;
mod levels;
mod parts;
mod split;
mod tile;

use super::Sides;
use super::group::{Line, Pass, at_least};
use super::kernel::{Place, lay_down};
use super::sharing::{n_cores, passes};
use crate::ops::cpu::{Out, tasks};
use levels::{Levels, Room};
use split::{ROOM, Role, STEP, Split, Step, UNIT, n_blocks, steps};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use tile::{BLOCK, Pairs, Products, SIDE, Tiles};

/// Outer indices of the shared side that are taken apart at a time.
const SHARED: usize = 6 * UNIT;
/// Outer indices of either side below which the other kernel is faster.
const FEW: usize = 32;

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
    let (role, n_shared, own, n_own) = if n_rows < n_columns {
        (Role::Rows, n_rows, Role::Columns, n_columns)
    } else {
        (Role::Columns, n_columns, Role::Rows, n_rows)
    };
    let parts = parts(n_own, n_cores);
    // Taken, not borrowed: a thread that waits for others may begin another product.
    let mut room = SHARED_TILES.take();
    for (i, pass) in passes.iter().enumerate() {
        for first in (0..n_shared).step_by(SHARED) {
            let range = first..(first + SHARED).min(n_shared);
            let steps = steps(pass);
            let shared = share(pass, role, range.clone(), n_cores, &mut room);
            tasks::for_each_task(n_cores, parts.len(), |task| {
                let product = Product { pass, steps: &steps, is_turned, is_added: i > 0, out, step: n };
                product.write(&shared, own, parts[task].clone());
            });
        }
    }
    SHARED_TILES.set(room);
}

/// Parts of the own side that are tasks: the last ones are small, so that no core waits long for another.
fn parts(n: usize, n_cores: usize) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut first = 0;
    while first < n {
        let fair = if n_cores == 1 { UNIT } else { (n - first) / (2 * n_cores) };
        let end = n.min(first + fair.next_multiple_of(2 * SIDE).clamp(2 * SIDE, UNIT));
        parts.push(first..end);
        first = end;
    }
    parts
}

/// What is taken apart for all cores.
struct Shared<'a> {
    role: Role,
    outer: Range<usize>,
    /// Runs of all blocks.
    tiles: &'a [u16],
    /// Of each block of each unit.
    n_parts: Vec<AtomicU8>,
}

/// Takes some of the shared side apart.
fn share<'a>(
    pass: &Pass,
    role: Role,
    outer: Range<usize>,
    n_cores: usize,
    tiles: &'a mut Vec<Line>,
) -> Shared<'a> {
    let n_blocks = n_blocks(pass);
    let unit_len = n_blocks * BLOCK * UNIT / SIDE;
    let n_units = outer.len().div_ceil(UNIT);
    let n_parts: Vec<AtomicU8> = (0..n_units * n_blocks).map(|_| AtomicU8::default()).collect();
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
            pulp::Arch::new().dispatch(Split {
                pass,
                role,
                outer: part,
                blocks: 0..n_blocks,
                out: tiles,
                n_parts: &n_parts[task / 3 * n_blocks..][..n_blocks],
                room,
            });
        });
    });
    Shared { role, outer, tiles, n_parts }
}

/// A pass of a product under way.
struct Product<'a, 'b> {
    pass: &'b Pass<'a>,
    steps: &'b [Step],
    is_turned: bool,
    is_added: bool,
    out: &'b Out,
    /// From one row of the result to the next.
    step: usize,
}

impl Product<'_, '_> {
    /// Writes what some of the own side makes with all that is shared.
    fn write(&self, shared: &Shared, role: Role, part: Range<usize>) {
        let n_blocks = n_blocks(self.pass);
        let run_len = n_blocks * BLOCK;
        let Range { start, end } = shared.outer;
        SCRATCH.with_borrow_mut(|Scratch { own, room, sums }| {
            let own: &mut [u16] = bytemuck::cast_slice_mut(at_least(own, STEP * BLOCK * UNIT / SIDE / 2));
            let room = at_least(room, ROOM);
            let sums = at_least(sums, SHARED / UNIT * UNIT * UNIT);
            let units = || (start..end).step_by(UNIT).map(|first| first..(first + UNIT).min(end));
            let n_of = |unit: &Range<usize>| match shared.role {
                Role::Rows => [unit.len(), part.len()],
                Role::Columns => [part.len(), unit.len()],
            };
            let (tiles, mut products) = (Tiles::new(), Room::new());
            for Step { blocks, is_levels } in self.steps {
                let (pass, outer) = (self.pass, part.clone());
                let n_parts = &[const { AtomicU8::new(0) }; STEP];
                pulp::Arch::new().dispatch(Split {
                    pass,
                    role,
                    outer,
                    blocks: blocks.clone(),
                    out: own,
                    n_parts,
                    room,
                });
                let own = Runs { values: own, len: blocks.len() * BLOCK, from: 0 };
                for (i, (range, sums)) in units().zip(sums.chunks_exact_mut(UNIT * UNIT)).enumerate() {
                    let values = &shared.tiles[i * run_len * UNIT / SIDE..][..run_len * UNIT / SIDE];
                    let unit = Runs { values, len: run_len, from: blocks.start * BLOCK };
                    let (rows, columns) = match shared.role {
                        Role::Rows => (unit, own),
                        Role::Columns => (own, unit),
                    };
                    let unit = Unit { n: n_of(&range), rows, columns, n_blocks: blocks.len() };
                    let is_first = blocks.start == 0;
                    if *is_levels {
                        unit.multiply_levels(&tiles, sums, is_first, &mut products);
                    } else {
                        let shared_parts = &shared.n_parts[i * n_blocks..][blocks.clone()];
                        let mut products = [Products::Six; STEP];
                        for (products, n) in products.iter_mut().zip(shared_parts.iter().zip(n_parts)) {
                            let (rows, columns) = match shared.role {
                                Role::Rows => n,
                                Role::Columns => (n.1, n.0),
                            };
                            *products = Products::of([rows, columns].map(|n| n.load(Ordering::Relaxed)));
                        }
                        unit.multiply(&tiles, &products[..blocks.len()], sums, is_first);
                    }
                }
            }
            for (unit, sums) in units().zip(sums.chunks_exact(UNIT * UNIT)) {
                let n = n_of(&unit);
                let [row, column] = match shared.role {
                    Role::Rows => [unit.start, part.start],
                    Role::Columns => [part.start, unit.start],
                };
                let first = if self.is_turned { [column, row] } else { [row, column] };
                let place = Place {
                    at: self.out.at(first[0] * self.step + first[1]),
                    step: self.step,
                    width: n[1],
                    is_turned: self.is_turned,
                    is_added: self.is_added,
                };
                // SAFETY: these rows and columns of the result are this task's alone.
                unsafe { lay_down(sums, UNIT, n, place) };
            }
        });
    }
}

/// Runs of one side, one after the other, from a block on.
#[derive(Clone, Copy)]
struct Runs<'a> {
    values: &'a [u16],
    /// Of a run.
    len: usize,
    from: usize,
}

impl Runs<'_> {
    /// Where a tile's run has those blocks.
    fn at(&self, outer: usize, n_blocks: usize) -> *const u16 {
        self.values[outer / SIDE * self.len..][..self.len][self.from..][..n_blocks * BLOCK].as_ptr()
    }

    fn pair(&self, outer: usize, n_blocks: usize) -> [*const u16; 2] {
        [self.at(outer, n_blocks), self.at(outer + SIDE, n_blocks)]
    }
}

/// Some blocks of rows and of columns, at most [`UNIT`] of each.
struct Unit<'a> {
    n: [usize; 2],
    rows: Runs<'a>,
    columns: Runs<'a>,
    n_blocks: usize,
}

impl Unit<'_> {
    /// Adds their products to `sums`, rows [`UNIT`] values apart, or writes them where they are the first. Places past the
    /// last row and column get anything.
    fn multiply(&self, tiles: &Tiles, products: &[Products], sums: &mut [f32], is_first: bool) {
        let Self { n: [n_rows, n_columns], rows, columns, n_blocks } = *self;
        assert_eq!(products.len(), n_blocks, "each block has its products");
        for column in (0..n_columns).step_by(2 * SIDE) {
            for row in (0..n_rows).step_by(2 * SIDE) {
                let place = self.place(sums, row, column);
                let c = [0, SIDE, SIDE * UNIT, SIDE * UNIT + SIDE].map(|at| place.wrapping_add(at));
                let pairs = Pairs { rows: rows.pair(row, n_blocks), columns: columns.pair(column, n_blocks) };
                // SAFETY: each run was found to hold these blocks, and there is room for whole pairs of tiles.
                unsafe { tiles.multiply(pairs, products, c, UNIT, is_first) };
            }
        }
    }

    /// As [`Self::multiply`] of rows of whole numbers.
    fn multiply_levels(&self, tiles: &Tiles, sums: &mut [f32], is_first: bool, room: &mut Room) {
        let Self { n: [n_rows, n_columns], rows, columns, n_blocks: n } = *self;
        for column in (0..n_columns).step_by(SIDE) {
            for row in (0..n_rows).step_by(2 * SIDE) {
                let place = self.place(sums, row, column);
                let c = [place, place.wrapping_add(SIDE * UNIT)];
                let product = Levels { rows: rows.pair(row, n), columns: columns.at(column, n), n };
                // SAFETY: as above.
                unsafe { tiles.multiply_levels(product, c, UNIT, is_first, room) };
            }
        }
    }

    fn place(&self, sums: &mut [f32], row: usize, column: usize) -> *mut f32 {
        assert!(row.max(column) < UNIT, "there is room for a unit's sums");
        sums[..UNIT * UNIT][row * UNIT + column..].as_mut_ptr()
    }
}

/// What a core works in, kept for its next task.
#[derive(Default)]
struct Scratch {
    /// Some blocks of a unit of the own side.
    own: Vec<Line>,
    /// Values before they are taken apart.
    room: Vec<Line>,
    /// A part of the result.
    sums: Vec<Line>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// Of the thread that asks for a product.
    static SHARED_TILES: RefCell<Vec<Line>> = RefCell::default();
}
