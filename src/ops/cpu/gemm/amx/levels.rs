//! Rows of whole numbers with a scale and a minimum of each 32: the numbers are bf16 as they are, so three products of
//! parts do, and scale and minimum meet their sums: Σ x·(q·scale + min) = scale · Σ x·q + min · Σ x.

use super::tile::{BLOCK, INNER, PARTS, SIDE, TILE, Tiles};
use crate::ops::cpu::packed::{EightBits, FourBits, PackedMatrix};
use crate::store::Form;
use std::arch::asm;
use std::arch::x86_64::*;

/// Blocks that are multiplied before their sums are scaled: all that takes part stays in the first cache.
pub(super) const STEP: usize = 6;

/// Whether a matrix has such rows.
pub(super) fn serve(form: Form) -> bool {
    matches!(form, Form::Four | Form::Eight { block: INNER, .. })
}

/// What four bits stand for lies about zero, so that sums of them do not nearly cancel minima's.
const MIDDLE: f32 = 8.0;

/// Where a block has its rows' scales, and after them their minima: in the room of the second part.
const SCALES: usize = TILE;
/// Where a block has its columns' sums.
pub(super) const SUMS: usize = PARTS * TILE;

/// Writes a row of each block's tile, its scale and its minimum.
///
/// # Safety
/// The processor has tiles.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn write_row(
    matrix: &PackedMatrix,
    [index, start, len]: [usize; 3],
    row: usize,
    out: &mut [u16],
) {
    let out = out.chunks_exact_mut(BLOCK);
    // What follows in the row comes next, after this of all other rows.
    for place in matrix.places(index, start + len) {
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    if matrix.form() == Form::Four {
        // A number's value in the upper half; a look-up heeds five bits.
        let levels = _mm512_setr_ps(-8., -7., -6., -5., -4., -3., -2., -1., 0., 1., 2., 3., 4., 5., 6., 7.);
        let levels = _mm512_castps_si512(levels);
        for (FourBits { values, scale, min }, out) in matrix.fours(index, start).take(len / INNER).zip(out) {
            // SAFETY: there are 16 bytes.
            let bytes = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(values.as_ptr().cast()) });
            // Beside value i stands value i + 16, the byte's upper half.
            let places = _mm512_or_si512(_mm512_slli_epi32::<1>(bytes), _mm512_slli_epi32::<13>(bytes));
            let places = _mm512_or_si512(places, _mm512_set1_epi32(0x0001_0001));
            store(_mm512_permutexvar_epi16(places, levels), row, out);
            note(scale, min + MIDDLE * scale, row, out);
        }
    } else {
        for (EightBits { values, scale, min }, out) in matrix.eights(index, start).take(len / INNER).zip(out)
        {
            let (left, right) = (numbers(values, 0), numbers(values, SIDE));
            store(_mm512_or_si512(_mm512_srli_epi32::<16>(left), right), row, out);
            note(scale, min, row, out);
        }
    }
}

/// Sixteen numbers from a place on, each a bf16 in the upper half.
#[inline]
#[target_feature(enable = "avx512f")]
fn numbers(values: &[i8; INNER], at: usize) -> __m512i {
    // SAFETY: there are 16 values.
    let values = unsafe { _mm_loadu_si128(values[at..][..SIDE].as_ptr().cast()) };
    _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(values)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(values: __m512i, row: usize, out: &mut [u16]) {
    // SAFETY: a row has 32 values.
    unsafe { _mm512_storeu_si512(out[row * INNER..][..INNER].as_mut_ptr().cast(), values) };
}

fn note(scale: f32, min: f32, row: usize, out: &mut [u16]) {
    let out: &mut [f32] = bytemuck::cast_slice_mut(&mut out[SCALES..][..4 * SIDE]);
    (out[row], out[SIDE + row]) = (scale, min);
}

/// Sums of blocks before they are scaled.
#[repr(align(64))]
pub(super) struct Room([[[f32; SIDE * SIDE]; STEP]; 2]);

impl Room {
    pub const fn new() -> Self {
        Self([[[0.0; SIDE * SIDE]; STEP]; 2])
    }
}

/// A block's products: of a pair of rows' tiles with the parts of columns.
macro_rules! block {
    ($c0:literal, $c1:literal, $rows:expr, $columns:expr, $out:expr) => {
        asm!(
            concat!("tilezero ", $c0),
            concat!("tilezero ", $c1),
            "tileloadd tmm4, [{a0} + {s}*1]",
            "tileloadd tmm6, [{b} + {s}*1]",
            "tileloadd tmm5, [{a1} + {s}*1]",
            concat!("tdpbf16ps ", $c0, ", tmm4, tmm6"),
            concat!("tdpbf16ps ", $c1, ", tmm5, tmm6"),
            "tileloadd tmm7, [{b} + {s}*1 + 1024]",
            concat!("tdpbf16ps ", $c0, ", tmm4, tmm7"),
            concat!("tdpbf16ps ", $c1, ", tmm5, tmm7"),
            "tileloadd tmm6, [{b} + {s}*1 + 2048]",
            concat!("tdpbf16ps ", $c0, ", tmm4, tmm6"),
            concat!("tdpbf16ps ", $c1, ", tmm5, tmm6"),
            concat!("tilestored [{c0} + {s}*1], ", $c0),
            concat!("tilestored [{c1} + {s}*1], ", $c1),
            a0 = in(reg) $rows[0], a1 = in(reg) $rows[1], b = in(reg) $columns,
            c0 = in(reg) $out[0], c1 = in(reg) $out[1], s = in(reg) 64usize,
            options(nostack),
        )
    };
}

impl Tiles {
    /// Adds to two tiles of results, one below the other, the products of two runs of rows of whole numbers with a run
    /// of columns; writes them where `is_first`.
    ///
    /// # Safety
    /// Each run holds `n` blocks, at most [`STEP`], those of rows are [`write_row`]'s; each place of `c` has 16 rows of
    /// 16 values, `step` values apart, that are this thread's alone.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn multiply_levels(
        &self,
        Levels { rows, columns, n }: Levels,
        c: [*mut f32; 2],
        step: usize,
        is_first: bool,
        room: &mut Room,
    ) {
        let Room([upper, lower]) = room;
        let (upper, lower) = (&mut upper[..n], &mut lower[..n]);
        // SAFETY: as the caller promises.
        unsafe {
            for block in 0..n {
                let rows = [rows[0].add(block * BLOCK), rows[1].add(block * BLOCK)];
                let columns = columns.add(block * BLOCK);
                let out = [upper[block].as_mut_ptr(), lower[block].as_mut_ptr()];
                // The next block's sums need not wait for these to be stored.
                if block % 2 == 0 {
                    block!("tmm0", "tmm1", rows, columns, out);
                } else {
                    block!("tmm2", "tmm3", rows, columns, out);
                }
            }
            for (c, (rows, products)) in c.into_iter().zip([(rows[0], &*upper), (rows[1], &*lower)]) {
                let mut sums = [_mm512_setzero_ps(); SIDE];
                if !is_first {
                    for (row, sums) in sums.iter_mut().enumerate() {
                        *sums = _mm512_loadu_ps(c.add(row * step));
                    }
                }
                for (block, products) in products.iter().enumerate() {
                    let scales = rows.add(block * BLOCK + SCALES).cast::<f32>();
                    let column_sums = _mm512_loadu_ps(columns.add(block * BLOCK + SUMS).cast());
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let product = _mm512_load_ps(products[row * SIDE..].as_ptr());
                        *sums = _mm512_fmadd_ps(product, _mm512_set1_ps(*scales.add(row)), *sums);
                        *sums = _mm512_fmadd_ps(column_sums, _mm512_set1_ps(*scales.add(SIDE + row)), *sums);
                    }
                }
                for (row, sums) in sums.into_iter().enumerate() {
                    _mm512_storeu_ps(c.add(row * step), sums);
                }
            }
        }
    }
}

/// What [`Tiles::multiply_levels`] multiplies.
pub(super) struct Levels {
    pub rows: [*const u16; 2],
    pub columns: *const u16,
    pub n: usize,
}
