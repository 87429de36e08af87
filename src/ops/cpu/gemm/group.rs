//! Some panels of a product, and all rows that are multiplied with them.

use super::kernel::{self, MOST_ROWS, MOST_STRIPS, Place, Strip, panel_width, rows_of_a_tile};
use super::operand::Operand;
use crate::ops::cpu::{Out, arch};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Rows for which panels are read where they lie.
pub(super) const FEW_ROWS: usize = 2 * MOST_ROWS;

/// Part of a term: some inner indices.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    pub rows: Operand<'a>,
    pub panels: Operand<'a>,
    pub start: usize,
    pub len: usize,
}

/// Segments whose sums leave the registers together.
pub(super) struct Pass<'a> {
    pub segments: [Segment<'a>; MOST_STRIPS],
    pub n_segments: usize,
    pub len: usize,
}

impl<'a> Pass<'a> {
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments[..self.n_segments]
    }
}

/// A product under way.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub is_turned: bool,
    pub n_rows: usize,
    pub out: &'a Out,
    /// From one row of the result to the next.
    pub step: usize,
}

impl<'a> Work<'a> {
    /// Those columns' panels.
    pub fn of(self, pass: &'a Pass<'a>, columns: Range<usize>, is_added: bool) -> Group<'a> {
        Group { work: self, pass, columns, is_added }
    }
}

/// Some panels in a pass.
pub(super) struct Group<'a> {
    work: Work<'a>,
    pass: &'a Pass<'a>,
    columns: Range<usize>,
    /// Whether earlier passes have written the result.
    is_added: bool,
}

/// A group whose panels lie ready.
pub(super) struct Ready<'a> {
    group: Group<'a>,
    panels: [Panels; MOST_STRIPS],
}

/// A segment's panels in a group.
#[derive(Clone, Copy)]
struct Panels {
    values: *const f32,
    /// From one row of a panel to the next.
    step: usize,
    /// From one panel to the next.
    panel_step: usize,
}

impl<'a> Group<'a> {
    /// Copies the panels to where vectors read them.
    pub fn copy(&self, room: &mut [f32]) {
        arch().dispatch(Copy { group: self, room });
    }

    /// The panels that [`Self::copy`] copied.
    pub fn copied(self, room: &[f32]) -> Ready<'a> {
        struct Located<'b, 'a>(&'b Group<'a>, &'b [f32]);
        impl WithSimd for Located<'_, '_> {
            type Output = [Panels; MOST_STRIPS];

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> [Panels; MOST_STRIPS] {
                self.0.locate::<S>(self.1)
            }
        }
        let panels = arch().dispatch(Located(&self, room));
        Ready { group: self, panels }
    }

    /// Where a segment's panels are read without a copy: for few rows a copy does not pay. A panel that is not whole is
    /// copied all the same, because a copy ends with zeros.
    #[inline(always)]
    fn in_place<S: Simd>(&self, segment: &Segment) -> Option<Panels> {
        let width = panel_width::<S>();
        if self.work.n_rows > FEW_ROWS || !self.columns.len().is_multiple_of(width) {
            return None;
        }
        let (values, step) = segment.panels.columns(self.columns.start, segment.start)?;
        Some(Panels { values: values.as_ptr(), step, panel_step: width })
    }

    #[inline(always)]
    fn locate<S: Simd>(&self, room: &[f32]) -> [Panels; MOST_STRIPS] {
        let width = panel_width::<S>();
        let n_panels = self.columns.len().div_ceil(width);
        let mut panels = [Panels { values: room.as_ptr(), step: width, panel_step: 0 }; MOST_STRIPS];
        let mut start = 0;
        for (segment, panels) in self.pass.segments().iter().zip(&mut panels) {
            let own = &room[start..][..segment.len * n_panels * width];
            start += own.len();
            let copied = Panels { values: own.as_ptr(), step: width, panel_step: segment.len * width };
            *panels = self.in_place::<S>(segment).unwrap_or(copied);
        }
        panels
    }
}

struct Copy<'b, 'a> {
    group: &'b Group<'a>,
    room: &'b mut [f32],
}

impl WithSimd for Copy<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { group, room } = self;
        let width = panel_width::<S>();
        let n_panels = group.columns.len().div_ceil(width);
        let mut rest = room;
        for segment in group.pass.segments() {
            let (own, others) = rest.split_at_mut(segment.len * n_panels * width);
            rest = others;
            if group.in_place::<S>(segment).is_none() {
                segment.panels.copy_panels(simd, group.columns.clone(), segment.start, segment.len, own);
            }
        }
    }
}

/// Writes the products of some rows with the panels.
pub(super) fn multiply(ready: &Ready, rows: Range<usize>, scratch: &mut Vec<Line>) {
    let room = at_least(scratch, MOST_ROWS * ready.group.pass.len);
    arch().dispatch(Multiply { ready, rows, room });
}

struct Multiply<'b, 'a> {
    ready: &'b Ready<'a>,
    rows: Range<usize>,
    room: &'b mut [f32],
}

impl WithSimd for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { ready: Ready { group, panels }, rows, room } = self;
        let Group { work: Work { is_turned, out, step, .. }, pass, columns, is_added } = group;
        let (width, segments) = (panel_width::<S>(), pass.segments());
        let tile_rows = rows_of_a_tile::<S>();
        let nothing = Strip { rows: [room.as_ptr(); MOST_ROWS], panel: room.as_ptr(), panel_step: 0, len: 0 };
        for first in rows.clone().step_by(tile_rows) {
            let n_rows = tile_rows.min(rows.end - first);
            let mut strips = [nothing; MOST_STRIPS];
            let mut rest = &mut *room;
            for (segment, strip) in segments.iter().zip(&mut strips) {
                strip.len = segment.len;
                for i in 0..n_rows {
                    let (own, others) = rest.split_at_mut(segment.len);
                    rest = others;
                    strip.rows[i] = match segment.rows.row(first + i, segment.start) {
                        Some(row) => row.as_ptr(),
                        None => {
                            segment.rows.copy_row(first + i, segment.start, own);
                            own.as_ptr()
                        }
                    };
                }
            }
            let strips = &mut strips[..segments.len()];
            for (panel, column) in columns.clone().step_by(width).enumerate() {
                for (strip, panels) in strips.iter_mut().zip(panels) {
                    strip.panel = panels.values.wrapping_add(panel * panels.panel_step);
                    strip.panel_step = panels.step;
                }
                let place = if *is_turned { column * step + first } else { first * step + column };
                let place = Place {
                    at: out.at(place),
                    step: *step,
                    width: width.min(columns.end - column),
                    is_turned: *is_turned,
                    is_added: *is_added,
                };
                // SAFETY: rows and panels are within their operands, which lie within their values, or are copies of
                // that size; no other task has these rows and columns of the result.
                unsafe { kernel::write(simd, strips, n_rows, place) };
            }
        }
    }
}

/// A line of the cache, which no vector crosses.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line([f32; 16]);

pub(super) fn at_least(lines: &mut Vec<Line>, len: usize) -> &mut [f32] {
    let n_lines = len.div_ceil(16);
    lines.resize(lines.len().max(n_lines), Line([0.0; 16]));
    &mut bytemuck::cast_slice_mut(lines)[..len]
}
