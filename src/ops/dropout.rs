//! Dropout masks and noise from counter-based random numbers: the same on every device, with no state to save.

/// `keep / (1 − rate)` or 0 for each of `len` elements, a pure function of `seed` and the index.
///
/// Scaling the kept elements keeps the expectation (1207.0580, inverted as PyTorch does).
pub fn dropout_mask(len: usize, rate: f64, seed: u64) -> Vec<f32> {
    let keep_scale = (1.0 / (1.0 - rate)) as f32;
    // Integers of 32 bits below the threshold are dropped.
    let threshold = (rate * 4_294_967_296.0) as u64;
    (0..len as u64).map(|i| if u64::from(hash(seed, i)) < threshold { 0.0 } else { keep_scale }).collect()
}

/// `len` values uniform in ±`magnitude`, a pure function of `seed` and the index.
pub fn uniform_noise(len: usize, magnitude: f32, seed: u64) -> Vec<f32> {
    (0..len as u64).map(|i| (hash(seed, i) as f32 / 2_147_483_648.0 - 1.0) * magnitude).collect()
}

/// 32 well-mixed bits of a seed and a counter: SplitMix64's finaliser (Steele et al. 2014).
fn hash(seed: u64, counter: u64) -> u32 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_stated_share_and_the_expectation() {
        for rate in [0.1, 0.5] {
            let mask = dropout_mask(100_000, rate, 7);
            let dropped = mask.iter().filter(|&&m| m == 0.0).count() as f64 / 1e5;
            assert!((dropped - rate).abs() < 0.01, "{dropped}");
            let mean = mask.iter().map(|&m| f64::from(m)).sum::<f64>() / 1e5;
            assert!((mean - 1.0).abs() < 0.01, "{mean}");
        }
        assert_eq!(dropout_mask(64, 0.5, 1), dropout_mask(64, 0.5, 1));
        assert_ne!(dropout_mask(64, 0.5, 1), dropout_mask(64, 0.5, 2));
        assert!(dropout_mask(64, 0.0, 1).iter().all(|&m| m == 1.0));
    }
}
