//! Llama 3's position scaling, recovered from the divisors that a GGUF file keeps instead of its settings.
//!
//! The rule (transformers, `modeling_rope_utils.py`, `_compute_llama3_parameters`): frequencies of
//! wavelength above `original / low` are divided by `factor`, those below `original / high` stay, and
//! between them the frequency is `(1 − s)/factor + s` of itself with
//! `s = (original/wavelength − low)/(high − low)`.

use super::config::Config;
use crate::store::{TensorInfo, tensor_place};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::f64::consts::TAU;

/// The tensor of divisors, one for each frequency.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// Every Llama 3 has these two; only `original` and `factor` differ.
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;
/// Where no wavelength lies between the bands: what Llama 3.1 and 3.2 were trained on.
const DEFAULT_ORIGINAL: f64 = 8192.0;

/// Refuses a tensor of divisors that has not one for each frequency, before it is read.
pub(super) fn check_length(info: &TensorInfo, config: &Config, file: &str) -> Result<()> {
    let half = config.head_dim as usize / 2;
    if info.shape == [half] {
        return Ok(());
    }
    let expected = format!("[{half}], one value for each frequency");
    Err(Error::input(tensor_place(file, FACTORS), format!("shape {:?}", info.shape), expected))
}

/// The settings that give these divisors, refused where no such settings do; `file` is for messages.
/// [`check_length`] has accepted the tensor.
pub(super) fn llama3_scaling(divisors: &[f32], config: &Config, file: &str) -> Result<Value> {
    let half = divisors.len();
    let factor = divisors.iter().copied().map(f64::from).fold(1.0, f64::max);
    if factor == 1.0 {
        return Ok(config.rope_scaling.clone());
    }
    let wavelength = |i: usize| TAU * config.rope_theta.powf(i as f64 / half as f64);
    let between =
        divisors.iter().position(|&d| f64::from(d) > 1.0 + 1e-4 && f64::from(d) < factor * (1.0 - 1e-4));
    let original = between.map_or(DEFAULT_ORIGINAL, |i| {
        let s = (1.0 / f64::from(divisors[i]) - 1.0 / factor) / (1.0 - 1.0 / factor);
        (wavelength(i) * (LOW_FREQ_FACTOR + s * (HIGH_FREQ_FACTOR - LOW_FREQ_FACTOR))).round()
    });
    let fits = (0..half).all(|i| {
        let expected = divisor(wavelength(i), factor, original);
        (f64::from(divisors[i]) - expected).abs() <= 1e-3 * expected
    });
    if !fits {
        return Err(Error::Unsupported {
            what: format!("{}: a position scaling unlike Llama 3's", tensor_place(file, FACTORS)),
            supported: "divisors by Llama 3's rule with low_freq_factor 1 and high_freq_factor 4".into(),
        });
    }
    Ok(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW_FREQ_FACTOR,
        "high_freq_factor": HIGH_FREQ_FACTOR,
        "original_max_position_embeddings": original as u64,
    }))
}

fn divisor(wavelength: f64, factor: f64, original: f64) -> f64 {
    let s = (original / wavelength - LOW_FREQ_FACTOR) / (HIGH_FREQ_FACTOR - LOW_FREQ_FACTOR);
    let s = s.clamp(0.0, 1.0);
    1.0 / ((1.0 - s) / factor + s)
}
