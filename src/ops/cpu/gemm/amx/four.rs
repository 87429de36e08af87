//! Values of four bits, taken apart by table: a block has 16 different ones, and as many are taken apart; the rest is
//! one look-up a part for 32 values.

use super::parts::{Rest, split};
use super::split::RunsMut;
use super::tile::{INNER, PARTS, SIDE, TILE};
use crate::ops::cpu::packed::{FourBits, PackedMatrix};
use std::arch::x86_64::*;
use std::ops::Range;

/// Writes the parts of what `columns` and at most 32 rows of a matrix have in common: one block of each run, whole tiles of
/// columns.
///
/// # Safety
/// The processor has tiles.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn split_columns(
    matrix: &PackedMatrix,
    rows: Range<usize>,
    columns: Range<usize>,
    block: usize,
    out: &mut RunsMut,
) {
    let mut rest = Rest::none();
    for row in 0..SIDE {
        let blocks = |row: usize| {
            let is_there = row < rows.end;
            let row = row.min(rows.end - 1);
            let blocks = matrix.fours(row, columns.start).take(columns.len() / INNER);
            blocks.map(move |block| if is_there { block } else { FourBits { scale: 0.0, min: 0.0, ..block } })
        };
        let pairs = blocks(rows.start + row).zip(blocks(rows.start + row + SIDE));
        for (pair, (left, right)) in pairs.enumerate() {
            let (tables, left, right) = ([table(&left), table(&right)], bytes(&left), bytes(&right));
            // The left row's values at even places, the right one's at odd ones.
            let mut both = [_mm512_setzero_si512(); PARTS];
            for (part, both) in both.iter_mut().enumerate() {
                *both = _mm512_or_si512(_mm512_srli_epi32::<16>(tables[0][part]), tables[1][part]);
            }
            rest.add(both);
            let lower = _mm512_or_si512(_mm512_slli_epi32::<1>(left), _mm512_slli_epi32::<17>(right));
            let upper = _mm512_or_si512(_mm512_srli_epi32::<3>(left), _mm512_slli_epi32::<13>(right));
            let odd = _mm512_set1_epi32(0x0001_0000);
            let place =
                |places| _mm512_or_si512(_mm512_andnot_si512(_mm512_set1_epi32(0x0001_0001), places), odd);
            look_up(both, place(lower), row, out.block(2 * pair, block));
            look_up(both, place(upper), row, out.block(2 * pair + 1, block));
        }
    }
    out.note(block, &rest);
}

/// The sixteen values of a block, taken apart, each part in the upper half.
#[inline]
#[target_feature(enable = "avx512f")]
fn table(block: &FourBits) -> [__m512i; PARTS] {
    let levels = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
    let multiples = _mm512_mul_ps(levels, _mm512_set1_ps(block.scale));
    split(_mm512_add_ps(multiples, _mm512_set1_ps(block.min)))
}

/// A block's bytes, one a lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn bytes(block: &FourBits) -> __m512i {
    // SAFETY: there are 16 bytes.
    _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(block.values.as_ptr().cast()) })
}

/// Writes a row of the parts' tiles: what stands in a table at these places.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn look_up(table: [__m512i; PARTS], places: __m512i, row: usize, out: &mut [u16]) {
    for (part, tile) in table.into_iter().zip(out.chunks_exact_mut(TILE)) {
        let values = _mm512_permutexvar_epi16(places, part);
        // SAFETY: a row has 32 values.
        unsafe { _mm512_storeu_si512(tile[row * INNER..][..INNER].as_mut_ptr().cast(), values) };
    }
}
