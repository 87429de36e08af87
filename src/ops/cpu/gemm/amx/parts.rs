//! f32 as the sum of three bf16.

use super::levels::SUMS;
use super::tile::{INNER, PARTS, SIDE, TILE};
use std::arch::x86_64::*;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bits of second and of third parts.
pub(super) struct Rest([__m512i; PARTS - 1]);

impl Rest {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn none() -> Self {
        Self([_mm512_setzero_si512(); PARTS - 1])
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn add(&mut self, [_, second, third]: [__m512i; PARTS]) {
        self.0 = [_mm512_or_si512(self.0[0], second), _mm512_or_si512(self.0[1], third)];
    }

    /// Raises a block's number of parts.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn note(&self, n_parts: &AtomicU8) {
        // Any value but a zero of either sign.
        let is_there = |bits| _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x7FFF_7FFF)) != 0;
        let n = if is_there(self.0[1]) { 3 } else { 1 + u8::from(is_there(self.0[0])) };
        if n > n_parts.load(Ordering::Relaxed) {
            n_parts.fetch_max(n, Ordering::Relaxed);
        }
    }
}

/// The first 16 values, or all there are.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(values: &[f32]) -> __m512 {
    let lanes = if values.len() >= SIDE { u16::MAX } else { (1 << values.len()) - 1 };
    // SAFETY: no more is read than there is.
    unsafe { _mm512_maskz_loadu_ps(lanes, values.as_ptr()) }
}

/// Rows become columns.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn turned(rows: [__m512; SIDE]) -> [__m512; SIDE] {
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

/// Writes the parts of 32 lines and the lines' sum.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn write_lines(line: impl Fn(usize) -> __m512, block: &mut [u16]) -> Rest {
    let mut rest = Rest::none();
    let mut sums = _mm512_setzero_ps();
    for row in 0..SIDE {
        let (left, right) = (line(row), line(row + SIDE));
        sums = _mm512_add_ps(sums, _mm512_add_ps(left, right));
        rest.add(write_row(left, right, row, block));
    }
    // SAFETY: there is a vector's room.
    unsafe { _mm512_storeu_ps(block[SUMS..][..2 * SIDE].as_mut_ptr().cast(), sums) };
    rest
}

/// Writes a row of the parts' tiles, and gives it. Beside an inner index stands the one 16 further, on both sides of a
/// product: so two vectors become one without moving a value from lane to lane.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn write_row(left: __m512, right: __m512, row: usize, block: &mut [u16]) -> [__m512i; PARTS] {
    let (left, right) = (split(left), split(right));
    let mut both = [_mm512_setzero_si512(); PARTS];
    for (part, (both, tile)) in both.iter_mut().zip(block.chunks_exact_mut(TILE)).enumerate() {
        *both = _mm512_or_si512(_mm512_srli_epi32::<16>(left[part]), right[part]);
        // SAFETY: a row has 32 values.
        unsafe { _mm512_storeu_si512(tile[row * INNER..][..INNER].as_mut_ptr().cast(), *both) };
    }
    both
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
