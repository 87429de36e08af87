//! Initial values of LoRA's factors.

use super::LoraConfig;
use rand::{RngExt, SeedableRng};

impl LoraConfig {
    /// Values of a fresh down-projection `[rank, d_in]`, row-major: PEFT's `kaiming_uniform_(a=√5)`, that is
    /// uniform in ±1/√d_in. The up-projection starts at zero, so that a fresh adapter changes nothing.
    ///
    /// The draw depends on the seed and the module's name only, not on the order of modules.
    pub fn initial_a(&self, module: &str, d_in: usize, seed: u64) -> Vec<f32> {
        let digest = <sha2::Sha256 as sha2::Digest>::digest(format!("{seed}/{module}"));
        let mut rng = rand_chacha::ChaCha8Rng::from_seed(digest.into());
        let bound = (d_in as f32).sqrt().recip();
        (0..self.rank * d_in).map(|_| rng.random_range(-bound..bound)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_factors_stay_in_bounds_and_depend_on_seed_and_name() {
        let config = LoraConfig::default();
        let a = config.initial_a("x", 64, 1);
        assert_eq!(a.len(), 8 * 64);
        assert!(a.iter().all(|v| v.abs() <= 0.125));
        assert!(a.iter().any(|v| v.abs() > 0.1));
        assert_ne!(a, config.initial_a("y", 64, 1));
        assert_ne!(a, config.initial_a("x", 64, 2));
    }
}
