//! Dot products of blocks of four bits where vectors have sixteen values, as many as a block has different ones: one
//! look-up makes sixteen values.

use super::FourBits;
use std::arch::x86_64::*;

/// Whether there are such vectors.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// The product of a row with `x`.
///
/// # Safety
/// [`is_there`] says so.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn dot<'a>(blocks: impl Iterator<Item = FourBits<'a>>, x: &[f32]) -> f32 {
    let levels = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
    let (mut lows, mut highs) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    let (xs, _) = x.as_chunks::<32>();
    for (FourBits { values, scale, min }, x) in blocks.zip(xs) {
        // Rounded as everywhere: multiplied, then added.
        let table = _mm512_add_ps(_mm512_mul_ps(levels, _mm512_set1_ps(scale)), _mm512_set1_ps(min));
        // SAFETY: there are sixteen bytes, and two times sixteen values.
        unsafe {
            // A look-up heeds four bits.
            let low = _mm512_cvtepu8_epi32(_mm_loadu_si128(values.as_ptr().cast()));
            let high = _mm512_srli_epi32::<4>(low);
            lows = _mm512_fmadd_ps(_mm512_permutexvar_ps(low, table), _mm512_loadu_ps(x.as_ptr()), lows);
            let x = _mm512_loadu_ps(x[16..].as_ptr());
            highs = _mm512_fmadd_ps(_mm512_permutexvar_ps(high, table), x, highs);
        }
    }
    _mm512_reduce_add_ps(_mm512_add_ps(lows, highs))
}
