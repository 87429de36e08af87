//! Dot products of packed rows where vectors have sixteen values: what is unpacked stays in registers, and serves several
//! factors. A block of four bits has as many different values as a vector, so that one look-up makes sixteen.

use super::{EightBits, FourBits};
use std::arch::x86_64::*;

/// Whether there are such vectors.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// The products of a row with each `x`.
///
/// # Safety
/// [`is_there`] says so.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn fours<'a, const N: usize>(
    blocks: impl Iterator<Item = FourBits<'a>>,
    x: [&[f32]; N],
) -> [f32; N] {
    let levels = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
    let mut sums = Sums::new(x);
    for (block, FourBits { values, scale, min }) in blocks.take(sums.n_blocks).enumerate() {
        // Rounded as everywhere: multiplied, then added.
        let table = _mm512_add_ps(_mm512_mul_ps(levels, _mm512_set1_ps(scale)), _mm512_set1_ps(min));
        // SAFETY: there are sixteen bytes.
        let low = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(values.as_ptr().cast()) });
        // A look-up heeds four bits.
        let high = _mm512_srli_epi32::<4>(low);
        // SAFETY: no more blocks are taken than there are.
        unsafe { sums.add(block, _mm512_permutexvar_ps(low, table), _mm512_permutexvar_ps(high, table)) };
    }
    sums.all()
}

/// The products of a row with each `x`.
///
/// # Safety
/// As of [`fours`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn eights<'a, const N: usize>(
    blocks: impl Iterator<Item = EightBits<'a>>,
    x: [&[f32]; N],
) -> [f32; N] {
    let mut sums = Sums::new(x);
    for (block, EightBits { values, scale, min }) in blocks.take(sums.n_blocks).enumerate() {
        let (scale, min) = (_mm512_set1_ps(scale), _mm512_set1_ps(min));
        let (left, right) = values.split_at(16);
        // SAFETY: there are two times sixteen bytes.
        let [low, high] =
            unsafe { [_mm_loadu_si128(left.as_ptr().cast()), _mm_loadu_si128(right.as_ptr().cast())] };
        let low = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low)), scale);
        let high = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high)), scale);
        // SAFETY: no more blocks are taken than there are.
        unsafe { sums.add(block, _mm512_add_ps(low, min), _mm512_add_ps(high, min)) };
    }
    sums.all()
}

/// The products of a row with each `x` so far.
struct Sums<'x, const N: usize> {
    x: [&'x [f32]; N],
    n_blocks: usize,
    lows: [__m512; N],
    highs: [__m512; N],
}

impl<'x, const N: usize> Sums<'x, N> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(x: [&'x [f32]; N]) -> Self {
        let n_blocks = x[0].len() / 32;
        assert!(x.iter().all(|x| x.len() >= 32 * n_blocks), "each has a value for each of the row's");
        Self { x, n_blocks, lows: [_mm512_setzero_ps(); N], highs: [_mm512_setzero_ps(); N] }
    }

    /// Adds those of a block of the row.
    ///
    /// # Safety
    /// The block's number is below `n_blocks`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add(&mut self, block: usize, low: __m512, high: __m512) {
        for i in 0..N {
            // SAFETY: each `x` has so many blocks.
            let x = unsafe { self.x[i].as_ptr().add(32 * block) };
            // SAFETY: and a block is two times sixteen values.
            let [left, right] = unsafe { [_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(16))] };
            self.lows[i] = _mm512_fmadd_ps(low, left, self.lows[i]);
            self.highs[i] = _mm512_fmadd_ps(high, right, self.highs[i]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn all(self) -> [f32; N] {
        let mut products = [0.0; N];
        for (i, product) in products.iter_mut().enumerate() {
            *product = _mm512_reduce_add_ps(_mm512_add_ps(self.lows[i], self.highs[i]));
        }
        products
    }
}
