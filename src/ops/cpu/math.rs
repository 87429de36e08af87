//! `exp` and what is built on it, written so that the compiler vectorises loops over them.

/// eˣ within 2 ulp for x ≤ 88.37, 0 below −87.3; branch-free.
///
/// Cody–Waite reduction to |r| ≤ ln2/2 and a degree-6 polynomial (the scheme of Cephes' `expf`).
#[inline(always)]
pub(in crate::ops) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 split so that n·LN2_HI is exact for |n| < 2^9.
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Adding 1.5·2^23 rounds to the nearest integer and leaves it in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.3, 88.37);
    let shifted = clamped * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HI) - n * LN2_LO;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < -87.3 { 0.0 } else { y * scale }
}

/// 1 / (1 + e⁻ˣ)
#[inline(always)]
pub(in crate::ops) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent by [`exp`].
#[inline(always)]
pub(in crate::ops) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x.clamp(-20.0, 20.0)))
}

/// Partial sums are kept apart so that the compiler may vectorise reductions it must not reorder.
const LANES: usize = 32;

/// Folds `f(i)` for `i` in `0..len` in [`LANES`] interleaved accumulators.
#[inline(always)]
fn fold(len: usize, start: f32, step: impl Fn(f32, usize) -> f32, merge: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let whole = len - len % LANES;
    let mut base = 0;
    while base < whole {
        for (k, lane) in lanes.iter_mut().enumerate() {
            *lane = step(*lane, base + k);
        }
        base += LANES;
    }
    // One after the other, each of 32 would wait for the one before.
    let mut width = if whole > 0 { LANES / 2 } else { 0 };
    while width > 0 {
        let (left, right) = lanes.split_at_mut(width);
        left.iter_mut().zip(right).for_each(|(left, right)| *left = merge(*left, *right));
        width /= 2;
    }
    (whole..len).fold(lanes[0], step)
}

/// Σ a·b
#[inline(always)]
pub(in crate::ops) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len()];
    fold(a.len(), 0.0, |sum, i| sum + a[i] * b[i], |x, y| x + y)
}

/// Σ a·b·c
#[inline(always)]
pub(in crate::ops) fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let (b, c) = (&b[..a.len()], &c[..a.len()]);
    fold(a.len(), 0.0, |sum, i| sum + a[i] * b[i] * c[i], |x, y| x + y)
}

/// Σ a
#[inline(always)]
pub(in crate::ops) fn sum(a: &[f32]) -> f32 {
    fold(a.len(), 0.0, |sum, i| sum + a[i], |x, y| x + y)
}

/// Largest element, −∞ for none.
#[inline(always)]
pub(in crate::ops) fn max(a: &[f32]) -> f32 {
    let larger = |x: f32, y: f32| if y > x { y } else { x };
    fold(a.len(), f32::NEG_INFINITY, |m, i| larger(m, a[i]), larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp_of_libm() {
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let want = (f64::from(x)).exp();
            let ulp = f64::from(f32::EPSILON) * want;
            assert!((f64::from(exp(x)) - want).abs() <= 2.0 * ulp, "exp({x}) = {} instead of {want}", exp(x));
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-100.0), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_and_sigmoid_agree_with_libm() {
        for i in -3000..3000 {
            let x = i as f32 * 0.01;
            assert!((tanh(x) - x.tanh()).abs() < 3e-7, "tanh({x})");
            assert!((sigmoid(x) - 1.0 / (1.0 + (-x).exp())).abs() < 3e-7, "sigmoid({x})");
        }
    }
}
