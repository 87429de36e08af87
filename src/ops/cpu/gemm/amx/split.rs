//! Factors taken apart, laid out in tiles.

use super::parts::{Rest, load, turned, write_lines, write_row};
use super::tile::{BLOCK, INNER, SIDE};
use super::{four, levels};
use crate::ops::cpu::gemm::group::{Pass, Segment};
use crate::ops::cpu::gemm::operand::Operand;
use crate::ops::cpu::packed::Way;
use crate::store::Form;
use pulp::{Simd, WithSimd};
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::atomic::AtomicU8;

/// Which side of a product a matrix is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Its tiles have an outer index a row.
    Rows,
    /// Its tiles have two inner indices a row, for all columns.
    Columns,
}

/// Tiles that take the inner indices of a pass, one after the other.
pub(super) fn n_blocks(pass: &Pass) -> usize {
    pass.segments().iter().map(|segment| segment.len.div_ceil(INNER)).sum()
}

/// Some blocks of a pass that are multiplied in one way, one after the other.
#[derive(Clone)]
pub(super) struct Step {
    pub blocks: Range<usize>,
    /// Whether their rows are whole numbers.
    pub is_levels: bool,
}

/// The steps of a pass, at most so many blocks each.
pub(super) fn steps(pass: &Pass) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut first = 0;
    for segment in pass.segments() {
        let is_levels = is_levels(segment);
        let most = if is_levels { levels::STEP } else { STEP };
        let end = first + segment.len.div_ceil(INNER);
        while first < end {
            let n = most.min(end - first);
            match steps.last_mut() {
                Some(step) if step.is_levels == is_levels && step.blocks.len() + n <= most => {
                    step.blocks.end += n
                }
                _ => steps.push(Step { blocks: first..first + n, is_levels }),
            }
            first += n;
        }
    }
    steps
}

fn is_levels(segment: &Segment) -> bool {
    matches!(segment.rows, Operand::Packed(matrix, Way::Turned) if levels::serve(matrix.form()))
}

/// Outer indices that are split together: whole panels, whole blocks of a packed matrix, and whole pairs of tiles.
pub(super) const UNIT: usize = 96;
/// Blocks that a pair of units goes through at a time.
pub(super) const STEP: usize = 9;
/// Inner indices that are split together: they stay in the first cache.
const LINES: usize = 2 * INNER;

/// Room for what is split: some lines of a unit, or a row.
pub(super) const ROOM: usize = UNIT * LINES;

/// Writes some blocks of the runs of some outer indices, at most [`UNIT`], runs one after the other, and notes how many
/// parts there are in each. RunsMut past the last index are left as they are, and so are the places of indices past it: they
/// make no result.
pub(super) struct Split<'a, 'b> {
    pub pass: &'b Pass<'a>,
    pub role: Role,
    pub outer: Range<usize>,
    pub blocks: Range<usize>,
    pub out: &'b mut [u16],
    /// Of each block, raised.
    pub n_parts: &'b [AtomicU8],
    pub room: &'b mut [f32],
}

impl WithSimd for Split<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { pass, role, outer, blocks, out, n_parts, room } = self;
        let run_len = blocks.len() * BLOCK;
        let mut first = 0;
        for segment in pass.segments() {
            let end = first + segment.len.div_ceil(INNER);
            let part = blocks.start.max(first)..blocks.end.min(end);
            if !part.is_empty() {
                let start = (part.start - first) * INNER;
                let len = ((part.end - first) * INNER).min(segment.len) - start;
                let segment = &Segment { start: segment.start + start, len, ..*segment };
                let first = part.start - blocks.start;
                match role {
                    Role::Rows => {
                        for (i, index) in outer.clone().enumerate() {
                            let run = &mut out[i / SIDE * run_len..][..run_len];
                            split_row(
                                segment,
                                index,
                                i % SIDE,
                                &mut run[first * BLOCK..],
                                &n_parts[first..],
                                room,
                            );
                        }
                    }
                    Role::Columns => {
                        let out = RunsMut {
                            blocks: &mut out[first * BLOCK..],
                            run_len,
                            n_parts: &n_parts[first..],
                        };
                        split_columns(segment, outer.clone(), out, room);
                    }
                }
            }
            first = end;
        }
    }
}

/// Where whole runs go, from a block on.
pub(super) struct RunsMut<'a> {
    blocks: &'a mut [u16],
    run_len: usize,
    n_parts: &'a [AtomicU8],
}

impl RunsMut<'_> {
    /// A block of a run.
    pub fn block(&mut self, run: usize, block: usize) -> &mut [u16] {
        &mut self.blocks[run * self.run_len + block * BLOCK..][..BLOCK]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn note(&self, block: usize, rest: &Rest) {
        rest.note(&self.n_parts[block]);
    }
}

#[inline(always)]
fn split_row(
    segment: &Segment,
    index: usize,
    row: usize,
    blocks: &mut [u16],
    n_parts: &[AtomicU8],
    room: &mut [f32],
) {
    let Segment { rows, start, len, .. } = *segment;
    if is_levels(segment)
        && let Operand::Packed(matrix, _) = rows
    {
        // SAFETY: the caller found tiles.
        return unsafe { levels::write_row(&matrix, [index, start, len], row, blocks) };
    }
    let values = match rows.row(index, start) {
        Some(row) => &row[..len],
        None => {
            rows.copy_row(index, start, &mut room[..len]);
            &room[..len]
        }
    };
    // SAFETY: a processor with tiles has vectors of 16 values.
    unsafe { split_values(values, row, blocks, n_parts) }
}

/// Writes the parts of a row's values, filled up with zeros.
#[target_feature(enable = "avx512f")]
fn split_values(values: &[f32], row: usize, blocks: &mut [u16], n_parts: &[AtomicU8]) {
    let (whole, rest) = values.as_chunks::<INNER>();
    let mut last = [0.0; INNER];
    last[..rest.len()].copy_from_slice(rest);
    let last: &[[f32; INNER]] = if rest.is_empty() { &[] } else { &[last] };
    let blocks = blocks.chunks_exact_mut(BLOCK).zip(n_parts);
    for (values, (block, n_parts)) in whole.iter().chain(last).zip(blocks) {
        // SAFETY: there are two vectors of 16 values.
        let [left, right] = [0, SIDE].map(|at| unsafe { _mm512_loadu_ps(values[at..][..SIDE].as_ptr()) });
        let mut rest = Rest::none();
        rest.add(write_row(left, right, row, block));
        rest.note(n_parts);
    }
}

#[inline(always)]
fn split_columns(segment: &Segment, outer: Range<usize>, mut out: RunsMut, room: &mut [f32]) {
    let Segment { panels, start, len, .. } = *segment;
    if let Operand::Packed(matrix, Way::AsIs) = panels
        && matrix.form() == Form::Four
    {
        for (block, begin) in (0..len).step_by(INNER).enumerate() {
            let rows = start + begin..start + len.min(begin + INNER);
            // SAFETY: the caller found tiles.
            unsafe { four::split_columns(&matrix, rows, outer.clone(), block, &mut out) };
        }
        return;
    }
    if panels.has_rows() && !panels.has_columns() {
        for (tile, column) in outer.clone().step_by(SIDE).enumerate() {
            let width = SIDE.min(outer.end - column);
            for (block, from) in (0..len).step_by(INNER).enumerate() {
                let n = INNER.min(len - from);
                let row = |i| panels.row(column + i, start + from).map_or(&[][..], |row| &row[..n]);
                // SAFETY: a processor with tiles has vectors of 16 values.
                unsafe {
                    let rest = split_turned(row, width, out.block(tile, block));
                    out.note(block, &rest);
                }
            }
        }
        return;
    }
    for begin in (0..len).step_by(LINES) {
        let n = LINES.min(len - begin);
        let (lines, step) = panels.lines(outer.clone(), start + begin, n, room, UNIT);
        for tile in 0..outer.len().div_ceil(SIDE) {
            let column = tile * SIDE;
            for from in (0..n).step_by(INNER) {
                let lines = Lines {
                    values: &lines[from * step + column..],
                    step,
                    n: INNER.min(n - from),
                    width: SIDE.min(outer.len() - column),
                };
                let block = (begin + from) / INNER;
                // SAFETY: a processor with tiles has vectors of 16 values.
                unsafe {
                    let rest = lines.split(out.block(tile, block));
                    out.note(block, &rest);
                }
            }
        }
    }
}

/// Values of some inner indices, `step` apart.
struct Lines<'a> {
    values: &'a [f32],
    step: usize,
    n: usize,
    /// Of an inner index, at most as many as a vector has.
    width: usize,
}

impl Lines<'_> {
    /// Writes a block's parts.
    #[target_feature(enable = "avx512f")]
    fn split(&self, block: &mut [u16]) -> Rest {
        let Self { values, step, n, width } = *self;
        let line = |i: usize| {
            let values = if i < n { &values[i * step..][..width] } else { &[] };
            load(values)
        };
        write_lines(line, block)
    }
}

/// As [`Lines::split`], of the first `width` rows of at most [`INNER`] values each.
#[target_feature(enable = "avx512f")]
fn split_turned<'a>(row: impl Fn(usize) -> &'a [f32], width: usize, block: &mut [u16]) -> Rest {
    let (mut lefts, mut rights) = ([_mm512_setzero_ps(); SIDE], [_mm512_setzero_ps(); SIDE]);
    for (i, (to_left, to_right)) in lefts.iter_mut().zip(&mut rights).enumerate().take(width) {
        let (left, right) = row(i).split_at(SIDE.min(row(i).len()));
        (*to_left, *to_right) = (load(left), load(right));
    }
    let halves = [turned(lefts), turned(rights)];
    write_lines(|i| halves[i / SIDE][i % SIDE], block)
}
