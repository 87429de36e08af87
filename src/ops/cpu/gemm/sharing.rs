//! How a product is cut into passes and tasks.

use super::Sides;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::amx;
use super::group::{FEW_ROWS, Line, Pass, Segment, Work, at_least, multiply};
use super::kernel::{MOST_ROWS, MOST_STRIPS};
use super::operand::{GROUP_STEP, MOST_COLUMNS};
use crate::ops::cpu::{Out, tasks};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Multiply-adds below which handing a part to another core costs more than it saves.
const MIN_PART: usize = 1 << 21;
/// Multiply-adds that reading one value counts for.
const READ: usize = 16;
/// Values of a group of panels: they stay in a core's own cache while rows pass.
const GROUP: usize = 160 * 1024;
/// Inner indices that are added up before the sums leave their registers: a tile's rows stay in the first cache.
const INNER: usize = 1024;
/// An inner index where a pass may end: whole blocks of a packed matrix.
const INNER_STEP: usize = 32;
/// Tasks a core, at least: cores are not equally fast, and one may come late.
const TASKS: usize = 2;

/// Cuts the inner sides into passes; a short term goes along with the one before it.
pub(super) fn passes<'a>(sides: &[Sides<'a>], is_turned: bool) -> Vec<Pass<'a>> {
    let mut passes: Vec<Pass> = Vec::new();
    for &Sides { lhs, rhs } in sides {
        let (rows, panels) = if is_turned { (rhs, lhs) } else { (lhs, rhs) };
        let inner = lhs.n_inner();
        let length = inner.div_ceil(inner.div_ceil(INNER)).next_multiple_of(INNER_STEP);
        for start in (0..inner).step_by(length) {
            let segment = Segment { rows, panels, start, len: length.min(inner - start) };
            match passes.last_mut() {
                Some(pass)
                    if pass.n_segments < MOST_STRIPS && pass.len + segment.len <= INNER + INNER_STEP =>
                {
                    pass.segments[pass.n_segments] = segment;
                    pass.n_segments += 1;
                    pass.len += segment.len;
                }
                _ => passes.push(Pass { segments: [segment; MOST_STRIPS], n_segments: 1, len: segment.len }),
            }
        }
    }
    passes
}

/// Cores that share a product.
pub(super) fn n_cores([m, n]: [usize; 2], inner: usize) -> usize {
    // Reading a value that is in no cache takes as long as some multiply-adds.
    let work = m * inner * n + READ * inner * (m + n);
    (work / MIN_PART).clamp(1, tasks::n_cores())
}

/// Writes the sum of the terms.
pub(super) fn by_tiles(sides: &[Sides], [m, n]: [usize; 2], out: Out) {
    let decides = sides.iter().find(|sides| sides.rhs.is_packed()).unwrap_or(&sides[0]);
    let is_turned = decides.is_turned();
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if amx::serves(sides, [m, n]) {
        return amx::by_tiles(sides, [m, n], is_turned, &out);
    }
    let passes = passes(sides, is_turned);
    let (n_rows, n_columns) = if is_turned { (n, m) } else { (m, n) };
    let inner: usize = passes.iter().map(|pass| pass.len).sum();
    let longest = passes.iter().map(|pass| pass.len).max().unwrap_or(1);
    let n_cores = n_cores([m, n], inner);
    let most = (GROUP / longest / GROUP_STEP * GROUP_STEP).clamp(GROUP_STEP, MOST_COLUMNS);
    let work = Work { is_turned, n_rows, out: &out, step: n };

    // A core takes a group of panels with all rows, and copies it for itself.
    let n_tasks = if n_cores == 1 { 1 } else { TASKS * n_cores };
    let even = (n_columns / n_tasks / GROUP_STEP).max(1) * GROUP_STEP;
    let length = if n_cores == 1 { most } else { most.min(even) };
    let n_groups = n_columns.div_ceil(length);
    if n_groups >= n_tasks || n_rows <= FEW_ROWS {
        return tasks::for_each_task(n_cores, n_groups, |group| {
            let columns = group * length..((group + 1) * length).min(n_columns);
            SCRATCH.with_borrow_mut(|Scratch { panels, rows, holds }| {
                let panels = at_least(panels, longest * columns.len().next_multiple_of(GROUP_STEP));
                *holds = None;
                for (i, pass) in passes.iter().enumerate() {
                    let group = work.of(pass, columns.clone(), i > 0);
                    group.copy(panels);
                    multiply(&group.copied(panels), 0..n_rows, rows);
                }
            });
        });
    }
    // Few columns, as of a short row: each core copies the panels once, and takes rows as it comes.
    let n_groups = n_columns.div_ceil(most);
    let part = n_rows.div_ceil(n_tasks.div_ceil(n_groups)).next_multiple_of(MOST_ROWS);
    let n_parts = n_rows.div_ceil(part);
    for (i, pass) in passes.iter().enumerate() {
        let number = PASSES.fetch_add(1, Ordering::Relaxed);
        tasks::for_each_task(n_cores, n_groups * n_parts, |index| {
            let (group, first) = (index / n_parts, index % n_parts * part);
            SCRATCH.with_borrow_mut(|Scratch { panels, rows, holds }| {
                let columns = group * most..((group + 1) * most).min(n_columns);
                let panels = at_least(panels, longest * columns.len().next_multiple_of(GROUP_STEP));
                let held = Some((number, group));
                let group = work.of(pass, columns, i > 0);
                if *holds != held {
                    group.copy(panels);
                    *holds = held;
                }
                multiply(&group.copied(panels), first..(first + part).min(n_rows), rows);
            });
        });
    }
}

/// Numbers of passes whose panels are kept from one task to the next.
static PASSES: AtomicU64 = AtomicU64::new(0);

/// Copies of a core, kept for its next task.
#[derive(Default)]
struct Scratch {
    panels: Vec<Line>,
    rows: Vec<Line>,
    /// Pass and group whose panels these are.
    holds: Option<(u64, usize)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}
