//! Ranges of the training settings, checked before anything is loaded.

use super::schedule::POLYNOMIAL_LR_END;
use crate::config::{SchedulerKind, TrainConfig};
use crate::{Error, Result};

impl TrainConfig {
    /// Reports every setting out of range at once.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        let mut check = |fits: bool, setting: &str, value: String, expected: &str| {
            if !fits {
                problems.push(Error::input(format!("train.{setting}"), value, expected));
            }
        };
        let mut number = |setting: &str, value: f64, fits: fn(f64) -> bool, expected: &str| {
            check(value.is_finite() && fits(value), setting, value.to_string(), expected);
        };
        let from_zero = "a number from 0";
        let share = "a number from 0 up to, but not including, 1";
        if let Some(lr) = self.learning_rate {
            number("learning_rate", lr, |v| v > 0.0, "a number above 0");
            if self.lr_scheduler == SchedulerKind::Polynomial && lr > 0.0 {
                number(
                    "learning_rate",
                    lr,
                    |v| v > POLYNOMIAL_LR_END,
                    "above 1e-7, where the polynomial schedule ends",
                );
            }
        }
        number("warmup_ratio", self.warmup_ratio, |v| (0.0..=1.0).contains(&v), "a number from 0 to 1");
        number("lr_power", self.lr_power, |v| v > 0.0, "a number above 0");
        number("adam_beta1", self.adam_beta1, |v| (0.0..1.0).contains(&v), share);
        number("adam_beta2", self.adam_beta2, |v| (0.0..1.0).contains(&v), share);
        // Smaller ones vanish in f32, and a zero gradient divides by zero.
        number(
            "adam_epsilon",
            self.adam_epsilon,
            |v| v >= f64::from(f32::MIN_POSITIVE),
            "a number above 1.2e-38",
        );
        number("momentum", self.momentum, |v| (0.0..1.0).contains(&v), share);
        number("weight_decay", self.weight_decay, |v| v >= 0.0, from_zero);
        number(
            "max_grad_norm",
            self.max_grad_norm,
            |v| v >= 0.0,
            "a number from 0, where 0 turns clipping off",
        );
        number("label_smoothing", self.label_smoothing, |v| (0.0..1.0).contains(&v), share);
        number("neftune_alpha", self.neftune_alpha, |v| v >= 0.0, from_zero);
        if self.max_steps.is_none() {
            number("epochs", self.epochs, |v| v > 0.0 && v <= 1e6, "a number above 0, at most 1000000");
        }
        let whole = "a whole number from 1";
        for (setting, value) in [
            ("lr_cycles", self.lr_cycles),
            ("batch_size", self.batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("eval_batch_size", self.eval_batch_size),
            ("sample_tokens", self.sample_tokens),
            ("max_steps", self.max_steps.unwrap_or(1)),
        ] {
            check(value >= 1, setting, value.to_string(), whole);
        }
        if self.sample_prompts.iter().any(String::is_empty) {
            check(false, "sample_prompts", "an empty text".into(), "texts that are not empty");
        }
        Error::all(problems)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn defaults_are_in_range() {
        TrainConfig::default().validate().unwrap();
    }

    #[test]
    fn all_settings_out_of_range_are_named_with_value_and_range() {
        let config = TrainConfig {
            learning_rate: Some(-1.0),
            warmup_ratio: 1.5,
            adam_beta2: 1.0,
            adam_epsilon: 0.0,
            weight_decay: f64::NAN,
            batch_size: 0,
            epochs: 0.0,
            ..TrainConfig::default()
        };
        let error = config.validate().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert_eq!(text.lines().count(), 7, "{text}");
        for line in [
            "train.learning_rate: -1; expected a number above 0",
            "train.warmup_ratio: 1.5; expected a number from 0 to 1",
            "train.adam_beta2: 1;",
            "train.weight_decay: NaN;",
            "train.batch_size: 0; expected a whole number from 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn polynomial_must_start_above_its_end() {
        let config = TrainConfig {
            learning_rate: Some(1e-8),
            lr_scheduler: SchedulerKind::Polynomial,
            ..TrainConfig::default()
        };
        assert!(config.validate().unwrap_err().to_string().contains("above 1e-7"));
        TrainConfig { lr_scheduler: SchedulerKind::Linear, ..config }.validate().unwrap();
    }
}
