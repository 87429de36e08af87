//! A panel of queries, and products of tiles with it.

use super::Rows;
use crate::ops::cpu::gemm::kernel::{self, MOST_ROWS, Place, Strip, panel_width, rows_of_a_tile};
use crate::ops::cpu::gemm::turn;
use pulp::Simd;
use std::ops::Range;

/// Values of a panel's row where vectors are widest.
pub(super) const MOST_WIDTH: usize = kernel::VECTORS * 16;

/// A panel of queries.
pub(super) struct Panel {
    pub first: usize,
    pub n: usize,
    /// Keys that one of them sees.
    pub keys: Range<usize>,
    /// What each sees, from the first of those keys on.
    starts: [u32; MOST_WIDTH],
    ends: [u32; MOST_WIDTH],
    /// Keys that all of them see.
    seen_by_all: Range<usize>,
}

impl Panel {
    /// As many queries as a vector's width has room for, from `first` on.
    pub fn of(seen: &[Range<usize>], first: usize, width: usize) -> Self {
        let n = width.min(seen.len() - first);
        let own = &seen[first..][..n];
        let start = own.iter().map(|r| r.start).min().unwrap_or(0);
        let end = own.iter().map(|r| r.end).max().unwrap_or(0);
        let (mut starts, mut ends) = ([0; MOST_WIDTH], [u32::MAX; MOST_WIDTH]);
        for (i, range) in own.iter().enumerate() {
            (starts[i], ends[i]) = ((range.start - start) as u32, (range.end - start) as u32);
        }
        let last_start = own.iter().map(|r| r.start).max().unwrap_or(0);
        let first_end = own.iter().map(|r| r.end).min().unwrap_or(0);
        Self { first, n, keys: start..end, starts, ends, seen_by_all: last_start..first_end.max(last_start) }
    }

    /// Writes `value` where a query does not see a key; `scores` is `[keys, width]`.
    #[inline(always)]
    pub fn block(&self, scores: &mut [f32], width: usize, value: f32) {
        let (starts, ends) = (&self.starts[..width], &self.ends[..width]);
        for (i, row) in scores.chunks_exact_mut(width).enumerate() {
            if self.seen_by_all.contains(&(self.keys.start + i)) {
                continue;
            }
            let key = i as u32;
            for ((x, &start), &end) in row.iter_mut().zip(starts).zip(ends) {
                *x = if start <= key && key < end { *x } else { value };
            }
        }
    }
}

/// Copies queries as columns, `[d, width]`, filled up with zeros, times `scale`.
#[inline(always)]
pub(super) fn turned_panel(rows: Rows, panel: &Panel, d: usize, width: usize, scale: f32, out: &mut [f32]) {
    if panel.n < width {
        out.fill(0.0);
    }
    turn(rows.from(panel.first), [rows.step, 1], [panel.n, d], out, width);
    if scale != 1.0 {
        out.iter_mut().for_each(|x| *x *= scale);
    }
}

/// Rows that are multiplied with a panel.
#[derive(Clone, Copy)]
pub(super) struct Multiplied {
    pub rows: *const f32,
    pub row_step: usize,
    pub n_rows: usize,
    /// Inner indices.
    pub len: usize,
    pub panel: *const f32,
    pub panel_step: usize,
}

/// Writes all tiles of rows · panel; `place` is the first's.
///
/// # Safety
/// As [`kernel::write`]'s, for all the rows.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(simd: S, of: Multiplied, place: Place) {
    let tile = rows_of_a_tile::<S>();
    for first in (0..of.n_rows).step_by(tile) {
        let n_rows = tile.min(of.n_rows - first);
        let mut rows = [of.rows; MOST_ROWS];
        for (i, row) in rows.iter_mut().enumerate().take(n_rows) {
            *row = of.rows.wrapping_add((first + i) * of.row_step);
        }
        let strip = Strip { rows, panel: of.panel, panel_step: of.panel_step, len: of.len };
        let step = if place.is_turned { 1 } else { place.step };
        unsafe {
            kernel::write(simd, &[strip], n_rows, Place { at: place.at.wrapping_add(first * step), ..place })
        };
    }
}

/// Scores `[keys, width]`: keys · queries.
#[inline(always)]
pub(super) fn scores<S: Simd>(simd: S, keys: Rows, panel: &Panel, d: usize, q: &[f32], out: &mut [f32]) {
    let width = panel_width::<S>();
    let n_rows = panel.keys.len();
    assert!(q.len() >= d * width && out.len() >= n_rows * width && n_rows > 0);
    // The last row lies within the keys, hence all.
    _ = keys.row(panel.keys.end - 1, d);
    let rows = keys.from(panel.keys.start).as_ptr();
    let of = Multiplied { rows, row_step: keys.step, n_rows, len: d, panel: q.as_ptr(), panel_step: width };
    let place = Place { at: out.as_mut_ptr(), step: width, width, is_turned: false, is_added: false };
    // SAFETY: what is checked above.
    unsafe { multiply(simd, of, place) };
}
