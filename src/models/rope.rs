//! Rotary frequencies: plain, linearly scaled, and Llama 3's.

use super::spec::{parse, refuse};
use crate::{Error, Result};
use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;
use serde_json::Value;

/// Frequencies of one kind of layer.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// Base of the geometric series.
    pub theta: f64,
    /// Change to the series.
    pub scaling: Scaling,
}

/// How the frequencies are stretched beyond the trained length.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All by the same factor (2306.15595).
    Linear {
        /// Divides every frequency.
        factor: f64,
    },
    /// Long waves by the factor, short ones not, between them a blend (transformers' `_compute_llama3_parameters`).
    Llama3 {
        /// Divides the low frequencies.
        factor: f64,
        /// Waves longer than `original_length / low` are scaled in full.
        low_freq_factor: f64,
        /// Waves shorter than `original_length / high` are not scaled.
        high_freq_factor: f64,
        /// Length of the first training.
        original_length: f64,
    },
}

/// `rope_parameters` (transformers 5) or `rope_scaling` (before).
#[derive(Deserialize)]
struct RopeFile {
    rope_type: Option<String>,
    /// The older name of `rope_type`; some files have both, and transformers takes the new one.
    r#type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl RopeSpec {
    /// From a model's config in either of transformers' layouts.
    pub fn from_config(config: &Value, default_theta: f64) -> Result<Self> {
        refuse(config, "partial_rotary_factor", "1", |v| v.as_f64() == Some(1.0))?;
        let theta = config.get("rope_theta").and_then(Value::as_f64).unwrap_or(default_theta);
        let theta = positive(Some(theta), "rope_theta")?;
        let parameters = ["rope_parameters", "rope_scaling"]
            .into_iter()
            .find_map(|k| config.get(k).filter(|v| !v.is_null()));
        parameters.map_or(Ok(Self { theta, scaling: Scaling::None }), |p| Self::from_parameters(p, theta))
    }

    /// From one `rope_parameters` object.
    pub fn from_parameters(parameters: &Value, theta: f64) -> Result<Self> {
        let file: RopeFile = parse(parameters)?;
        let scaling = match file.rope_type.or(file.r#type).as_deref() {
            None | Some("default") => Scaling::None,
            Some("linear") => Scaling::Linear { factor: positive(file.factor, "factor")? },
            Some("llama3") => Scaling::Llama3 {
                factor: positive(file.factor, "factor")?,
                low_freq_factor: positive(file.low_freq_factor, "low_freq_factor")?,
                high_freq_factor: positive(file.high_freq_factor, "high_freq_factor")?,
                original_length: positive(
                    file.original_max_position_embeddings,
                    "original_max_position_embeddings",
                )?,
            },
            Some(other) => {
                return Err(Error::Unsupported {
                    what: format!("rope_type `{other}`"),
                    supported: "default, linear, llama3".into(),
                });
            }
        };
        Ok(Self { theta: positive(Some(file.rope_theta.unwrap_or(theta)), "rope_theta")?, scaling })
    }

    /// Radians a position turns each pair of a head, `head_dim / 2` of them.
    fn frequencies(&self, head_dim: usize) -> Vec<f32> {
        let plain = (0..head_dim / 2).map(|i| 1.0 / self.theta.powf(2.0 * i as f64 / head_dim as f64));
        let scale = |f: f64| match self.scaling {
            Scaling::None => f,
            Scaling::Linear { factor } => f / factor,
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_length } => {
                let wave = 2.0 * std::f64::consts::PI / f;
                if wave > original_length / low_freq_factor {
                    f / factor
                } else if wave < original_length / high_freq_factor {
                    f
                } else {
                    let blend =
                        (original_length / wave - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - blend) * f / factor + blend * f
                }
            }
        };
        plain.map(|f| scale(f) as f32).collect()
    }

    /// Cosines and sines of every position.
    ///
    /// # Shapes
    /// `positions`: `[batch, seq]`, row-major · results: `[batch, seq, head_dim / 2]`
    pub fn tables(
        &self,
        positions: &[i32],
        batch: usize,
        head_dim: usize,
        device: &Device,
    ) -> [Tensor<3>; 2] {
        let frequencies = self.frequencies(head_dim);
        let shape = [batch, positions.len() / batch.max(1), head_dim / 2];
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> =
                positions.iter().flat_map(|&p| frequencies.iter().map(move |&w| f(p as f32 * w))).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        [table(f32::cos), table(f32::sin)]
    }
}

fn positive(value: Option<f64>, name: &str) -> Result<f64> {
    value.filter(|v| *v > 0.0).ok_or_else(|| {
        Error::input(format!("config.json: rope {name}"), "missing or not positive", "a positive number")
    })
}
