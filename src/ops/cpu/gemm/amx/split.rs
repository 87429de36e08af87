//! f32 as the sum of three bf16, laid out in tiles.

use super::tile::{INNER, PARTS, SIDE, TILE};
use crate::ops::cpu::gemm::group::{Pass, Segment};
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

/// Values of a run: all parts of 16 outer indices.
pub(super) fn run_len(pass: &Pass) -> usize {
    n_blocks(pass) * PARTS * TILE
}

/// Outer indices that are split together: whole panels, whole blocks of a packed matrix, and whole pairs of tiles.
pub(super) const UNIT: usize = 96;
/// Inner indices that are split together: they stay in the first cache.
const STEP: usize = 2 * INNER;

/// Room for what is split: some lines of a unit, or a row.
pub(super) const ROOM: usize = UNIT * STEP;

/// Writes the runs of some outer indices, at most [`UNIT`], one after the other, and says in which blocks of inner
/// indices the first parts are all there is, a bit a block. Runs past the last index are left as
/// they are, and so are the places of indices past it: they make no result.
pub(super) struct Split<'a, 'b> {
    pub pass: &'b Pass<'a>,
    pub role: Role,
    pub outer: Range<usize>,
    pub out: &'b mut [u16],
    pub room: &'b mut [f32],
}

impl WithSimd for Split<'_, '_> {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> u64 {
        let Self { pass, role, outer, out, room } = self;
        let run_len = run_len(pass);
        let mut more = 0;
        let mut block = 0;
        for segment in pass.segments() {
            match role {
                Role::Rows => {
                    for (i, index) in outer.clone().enumerate() {
                        let run = &mut out[i / SIDE * run_len..][..run_len];
                        more |= split_row(segment, index, i % SIDE, block, run, room);
                    }
                }
                Role::Columns => more |= split_columns(segment, outer.clone(), block, out, run_len, room),
            }
            block += segment.len.div_ceil(INNER);
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
    let values = match rows.row(index, start) {
        Some(row) => &row[..len],
        None => {
            rows.copy_row(index, start, &mut room[..len]);
            &room[..len]
        }
    };
    // SAFETY: a processor with tiles has vectors of 16 values.
    unsafe { split_values(values, row, &mut run[first * PARTS * TILE..]) << first }
}

/// Writes the parts of a row's values, filled up with zeros; says in which blocks there is more than first parts.
#[target_feature(enable = "avx512f")]
fn split_values(values: &[f32], row: usize, blocks: &mut [u16]) -> u64 {
    let mut more = 0;
    let (whole, rest) = values.as_chunks::<INNER>();
    let mut last = [0.0; INNER];
    last[..rest.len()].copy_from_slice(rest);
    let last: &[[f32; INNER]] = if rest.is_empty() { &[] } else { &[last] };
    let blocks = whole.iter().chain(last).zip(blocks.chunks_exact_mut(PARTS * TILE));
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
    for begin in (0..len).step_by(STEP) {
        let n = STEP.min(len - begin);
        let (lines, step) = panels.lines(outer.clone(), start + begin, n, room, UNIT);
        for tile in 0..outer.len().div_ceil(SIDE) {
            let column = tile * SIDE;
            let run = &mut out[tile * run_len..][..run_len];
            let blocks = run[(first + begin / INNER) * PARTS * TILE..].chunks_exact_mut(PARTS * TILE);
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
        let lanes = u16::MAX >> (SIDE - width);
        let line = |i: usize| {
            // SAFETY: no more is read than there is.
            if i < n {
                unsafe { _mm512_maskz_loadu_ps(lanes, values[i * step..][..width].as_ptr()) }
            } else {
                _mm512_setzero_ps()
            }
        };
        let mut rest = _mm512_setzero_si512();
        for row in 0..SIDE {
            rest = _mm512_or_si512(rest, write_row(line(row), line(row + SIDE), row, block));
        }
        has_more(rest)
    }
}

/// Whether any value but a zero of either sign is among these.
#[target_feature(enable = "avx512f")]
fn has_more(rest: __m512i) -> bool {
    _mm512_test_epi32_mask(rest, _mm512_set1_epi32(0x7FFF_FFFF)) != 0
}

/// Writes a row of the parts' tiles; gives the bits of all but first parts. Beside an inner index stands the one 16 further, on both sides of a product: so
/// two vectors become one without moving a value from lane to lane.
#[target_feature(enable = "avx512f")]
fn write_row(left: __m512, right: __m512, row: usize, block: &mut [u16]) -> __m512i {
    let (left, right) = (split(left), split(right));
    for (part, tile) in block.chunks_exact_mut(TILE).enumerate() {
        let both = _mm512_or_si512(_mm512_srli_epi32::<16>(left[part]), right[part]);
        // SAFETY: a row has 32 values.
        unsafe { _mm512_storeu_si512(tile[row * INNER..][..INNER].as_mut_ptr().cast(), both) };
    }
    let rest = |[_, second, third]: [__m512i; PARTS]| _mm512_or_si512(second, third);
    _mm512_or_si512(rest(left), rest(right))
}

/// The bits of three bf16, each in the upper half, whose sum is the value: 8 bits of 24 each. What is not finite becomes
/// NaN.
#[target_feature(enable = "avx512f")]
fn split(x: __m512) -> [__m512i; PARTS] {
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
