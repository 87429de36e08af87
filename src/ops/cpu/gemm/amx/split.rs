//! f32 as the sum of three bf16, laid out in tiles.

use super::tile::{BLOCK, INNER, PARTS, SIDE, TILE};
use super::{four, levels};
use crate::ops::cpu::gemm::group::{Pass, Segment};
use crate::ops::cpu::gemm::operand::Operand;
use crate::ops::cpu::packed::Way;
use crate::store::Form;
use pulp::{Simd, WithSimd};
use std::arch::x86_64::*;
use std::ops::Range;

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
pub(super) const STEP: usize = 6;
/// Inner indices that are split together: they stay in the first cache.
const LINES: usize = 2 * INNER;

/// Room for what is split: some lines of a unit, or a row.
pub(super) const ROOM: usize = UNIT * LINES;

/// Writes some blocks of the runs of some outer indices, at most [`UNIT`], runs one after the other, and says in which of
/// the blocks the first parts are all there is, a bit a block. Runs past the last index are left as they are, and so are
/// the places of indices past it: they make no result.
pub(super) struct Split<'a, 'b> {
    pub pass: &'b Pass<'a>,
    pub role: Role,
    pub outer: Range<usize>,
    pub blocks: Range<usize>,
    pub out: &'b mut [u16],
    pub room: &'b mut [f32],
}

impl WithSimd for Split<'_, '_> {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> u64 {
        let Self { pass, role, outer, blocks, out, room } = self;
        let run_len = blocks.len() * BLOCK;
        let mut more = 0;
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
                            more |= split_row(segment, index, i % SIDE, first, run, room);
                        }
                    }
                    Role::Columns => more |= split_columns(segment, outer.clone(), first, out, run_len, room),
                }
            }
            first = end;
        }
        !more
    }
}

#[inline(always)]
fn split_row(
    segment: &Segment,
    index: usize,
    row: usize,
    first: usize,
    run: &mut [u16],
    room: &mut [f32],
) -> u64 {
    let Segment { rows, start, len, .. } = *segment;
    let blocks = &mut run[first * BLOCK..];
    if is_levels(segment)
        && let Operand::Packed(matrix, _) = rows
    {
        // SAFETY: the caller found tiles.
        unsafe { levels::write_row(&matrix, [index, start, len], row, blocks) };
        return 0;
    }
    let values = match rows.row(index, start) {
        Some(row) => &row[..len],
        None => {
            rows.copy_row(index, start, &mut room[..len]);
            &room[..len]
        }
    };
    // SAFETY: a processor with tiles has vectors of 16 values.
    unsafe { split_values(values, row, blocks) << first }
}

/// Writes the parts of a row's values, filled up with zeros; says in which blocks there is more than first parts.
#[target_feature(enable = "avx512f")]
fn split_values(values: &[f32], row: usize, blocks: &mut [u16]) -> u64 {
    let mut more = 0;
    let (whole, rest) = values.as_chunks::<INNER>();
    let mut last = [0.0; INNER];
    last[..rest.len()].copy_from_slice(rest);
    let last: &[[f32; INNER]] = if rest.is_empty() { &[] } else { &[last] };
    let blocks = whole.iter().chain(last).zip(blocks.chunks_exact_mut(BLOCK));
    for (i, (values, block)) in blocks.enumerate() {
        // SAFETY: there are two vectors of 16 values.
        let [left, right] = [0, SIDE].map(|at| unsafe { _mm512_loadu_ps(values[at..][..SIDE].as_ptr()) });
        more |= u64::from(has_more(write_row(left, right, row, block))) << i;
    }
    more
}

#[inline(always)]
fn split_columns(
    segment: &Segment,
    outer: Range<usize>,
    first: usize,
    out: &mut [u16],
    run_len: usize,
    room: &mut [f32],
) -> u64 {
    let Segment { panels, start, len, .. } = *segment;
    let mut more = 0;
    if let Operand::Packed(matrix, Way::AsIs) = panels
        && matrix.form() == Form::Four
    {
        for (block, begin) in (first..).zip((0..len).step_by(INNER)) {
            let rows = start + begin..start + len.min(begin + INNER);
            let out = &mut out[block * BLOCK..];
            // SAFETY: the caller found tiles.
            let has_more = unsafe { four::split_columns(&matrix, rows, outer.clone(), out, run_len) };
            more |= u64::from(has_more) << block;
        }
        return more;
    }
    if panels.has_rows() && !panels.has_columns() {
        for (tile, column) in outer.clone().step_by(SIDE).enumerate() {
            let width = SIDE.min(outer.end - column);
            let blocks = out[tile * run_len..][first * BLOCK..run_len].chunks_exact_mut(BLOCK);
            for (i, (from, block)) in (0..len).step_by(INNER).zip(blocks).enumerate() {
                let n = INNER.min(len - from);
                let row = |i| panels.row(column + i, start + from).map_or(&[][..], |row| &row[..n]);
                // SAFETY: a processor with tiles has vectors of 16 values.
                more |= u64::from(unsafe { split_turned(row, width, block) }) << (first + i);
            }
        }
        return more;
    }
    for begin in (0..len).step_by(LINES) {
        let n = LINES.min(len - begin);
        let (lines, step) = panels.lines(outer.clone(), start + begin, n, room, UNIT);
        for tile in 0..outer.len().div_ceil(SIDE) {
            let column = tile * SIDE;
            let run = &mut out[tile * run_len..][..run_len];
            let blocks = run[(first + begin / INNER) * BLOCK..].chunks_exact_mut(BLOCK);
            for (from, block) in (0..n).step_by(INNER).zip(blocks) {
                let lines = Lines {
                    values: &lines[from * step + column..],
                    step,
                    n: INNER.min(n - from),
                    width: SIDE.min(outer.len() - column),
                };
                // SAFETY: a processor with tiles has vectors of 16 values.
                more |= u64::from(unsafe { lines.split(block) }) << (first + (begin + from) / INNER);
            }
        }
    }
    more
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
    /// Writes a block's parts; says whether there is more than first ones.
    #[target_feature(enable = "avx512f")]
    fn split(&self, block: &mut [u16]) -> bool {
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
fn split_turned<'a>(row: impl Fn(usize) -> &'a [f32], width: usize, block: &mut [u16]) -> bool {
    let (mut lefts, mut rights) = ([_mm512_setzero_ps(); SIDE], [_mm512_setzero_ps(); SIDE]);
    for (i, (to_left, to_right)) in lefts.iter_mut().zip(&mut rights).enumerate().take(width) {
        let (left, right) = row(i).split_at(SIDE.min(row(i).len()));
        (*to_left, *to_right) = (load(left), load(right));
    }
    let halves = [turned(lefts), turned(rights)];
    write_lines(|i| halves[i / SIDE][i % SIDE], block)
}

/// The first 16 values, or all there are.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> __m512 {
    let lanes = if values.len() >= SIDE { u16::MAX } else { (1 << values.len()) - 1 };
    // SAFETY: no more is read than there is.
    unsafe { _mm512_maskz_loadu_ps(lanes, values.as_ptr()) }
}

/// Rows become columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn turned(rows: [__m512; SIDE]) -> [__m512; SIDE] {
    // No `map`: what it calls is not inlined into it, for its vectors are wider.
    let mut pairs = [_mm512_setzero_pd(); SIDE];
    for (rows, pairs) in rows.chunks_exact(2).zip(pairs.chunks_exact_mut(2)) {
        pairs[0] = _mm512_castps_pd(_mm512_unpacklo_ps(rows[0], rows[1]));
        pairs[1] = _mm512_castps_pd(_mm512_unpackhi_ps(rows[0], rows[1]));
    }
    // Quarter l of vector 4i + j: column 4l + j of rows 4i to 4i + 3.
    let mut fours = [_mm512_setzero_ps(); SIDE];
    for (pairs, fours) in pairs.chunks_exact(4).zip(fours.chunks_exact_mut(4)) {
        for j in 0..2 {
            fours[2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(pairs[j], pairs[j + 2]));
            fours[2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pairs[j], pairs[j + 2]));
        }
    }
    let mut columns = [_mm512_setzero_ps(); SIDE];
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        let (low, high) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
        columns[j] = _mm512_shuffle_f32x4::<0x88>(low, high);
        columns[8 + j] = _mm512_shuffle_f32x4::<0xDD>(low, high);
        let (low, high) = (_mm512_shuffle_f32x4::<0xDD>(a, b), _mm512_shuffle_f32x4::<0xDD>(c, d));
        columns[4 + j] = _mm512_shuffle_f32x4::<0x88>(low, high);
        columns[12 + j] = _mm512_shuffle_f32x4::<0xDD>(low, high);
    }
    columns
}

/// Writes the parts of 32 lines and the lines' sum; says whether there is more than first parts.
#[inline]
#[target_feature(enable = "avx512f")]
fn write_lines(line: impl Fn(usize) -> __m512, block: &mut [u16]) -> bool {
    let mut rest = _mm512_setzero_si512();
    let mut sums = _mm512_setzero_ps();
    for row in 0..SIDE {
        let (left, right) = (line(row), line(row + SIDE));
        sums = _mm512_add_ps(sums, _mm512_add_ps(left, right));
        rest = _mm512_or_si512(rest, write_row(left, right, row, block));
    }
    // SAFETY: there is a vector's room.
    unsafe { _mm512_storeu_ps(block[levels::SUMS..][..2 * SIDE].as_mut_ptr().cast(), sums) };
    has_more(rest)
}

/// Whether any value but a zero of either sign is among these.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn has_more(rest: __m512i) -> bool {
    _mm512_test_epi32_mask(rest, _mm512_set1_epi32(0x7FFF_FFFF)) != 0
}

/// Writes a row of the parts' tiles; gives the bits of all but first parts. Beside an inner index stands the one 16 further, on both sides of a product: so
/// two vectors become one without moving a value from lane to lane.
#[target_feature(enable = "avx512f")]
fn write_row(left: __m512, right: __m512, row: usize, block: &mut [u16]) -> __m512i {
    let (left, right) = (split(left), split(right));
    for (part, tile) in block.chunks_exact_mut(TILE).take(PARTS).enumerate() {
        let both = _mm512_or_si512(_mm512_srli_epi32::<16>(left[part]), right[part]);
        // SAFETY: a row has 32 values.
        unsafe { _mm512_storeu_si512(tile[row * INNER..][..INNER].as_mut_ptr().cast(), both) };
    }
    let rest = |[_, second, third]: [__m512i; PARTS]| _mm512_or_si512(second, third);
    _mm512_or_si512(rest(left), rest(right))
}

/// The bits of three bf16, each in the upper half, whose sum is the value: 8 bits of 24 each. What is not finite becomes
/// NaN.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn split(x: __m512) -> [__m512i; PARTS] {
    let upper = _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed());
    // To the nearest, from the middle away from zero.
    let rounded = |x: __m512| {
        let bits = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
        _mm512_and_si512(bits, upper)
    };
    let first = rounded(x);
    let rest = _mm512_sub_ps(x, _mm512_castsi512_ps(first));
    let second = rounded(rest);
    let last = _mm512_sub_ps(rest, _mm512_castsi512_ps(second));
    [first, second, _mm512_and_si512(_mm512_castps_si512(last), upper)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[target_feature(enable = "avx512f")]
    fn sums(values: &[f32; SIDE]) -> [f32; SIDE] {
        let [first, second, third] =
            split(unsafe { _mm512_loadu_ps(values.as_ptr()) }).map(|bits| _mm512_castsi512_ps(bits));
        let mut sums = [0.0; SIDE];
        // SAFETY: as many values as a vector has.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), _mm512_add_ps(first, _mm512_add_ps(second, third))) };
        sums
    }

    #[test]
    fn three_parts_are_the_whole_value() {
        if !super::super::tile::is_there() {
            return eprintln!("this processor has no tiles");
        }
        for i in 0..10_000u32 {
            let value = |j: usize| {
                let bits = (i * 16 + j as u32).wrapping_mul(2_654_435_761);
                f32::from_bits(bits & 0x8000_0000 | (0x2000_0000 + bits % 0x3F00_0000))
            };
            let values = std::array::from_fn(value);
            // SAFETY: there are tiles, so there are vectors of 16 values.
            assert_eq!(unsafe { sums(&values) }, values);
        }
        let odd = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::from_bits(0x7FFF_FFFF),
            f32::from_bits(0xFF80_0001),
        ];
        for x in odd {
            // SAFETY: as above.
            assert!(unsafe { sums(&[x; SIDE]) }[0].is_nan(), "{x}");
        }
    }
}
