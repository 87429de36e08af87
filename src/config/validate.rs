//! Ranges that the types do not state. Everything out of range is reported at once.

use super::{DataConfig, Run, TrainConfig};
use crate::methods::MethodConfig;
use crate::{Error, Result};

/// Collects what is out of range in one section of the run file.
pub(crate) struct Ranges {
    section: &'static str,
    problems: Vec<Error>,
}

impl Ranges {
    /// For settings of `section`.
    pub(crate) fn new(section: &'static str) -> Self {
        Self { section, problems: Vec::new() }
    }

    /// Notes the setting unless it `fits`.
    pub(crate) fn check(&mut self, name: &str, value: impl std::fmt::Display, fits: bool, expected: &str) {
        if !fits {
            let place = if self.section.is_empty() { name.to_string() } else { format!("{}.{name}", self.section) };
            self.problems.push(Error::input(place, format!("{value} is out of range"), expected));
        }
    }

    /// A number of 0 or more.
    pub(crate) fn not_negative(&mut self, name: &str, value: f64) {
        self.check(name, value, value >= 0.0 && value.is_finite(), "a number of 0 or more");
    }

    /// A number above 0.
    pub(crate) fn positive(&mut self, name: &str, value: f64) {
        self.check(name, value, value > 0.0 && value.is_finite(), "a number above 0");
    }

    /// 0 ≤ value < 1.
    pub(crate) fn below_one(&mut self, name: &str, value: f64) {
        self.check(name, value, (0.0..1.0).contains(&value), "a number from 0 to below 1");
    }

    /// A whole number of 1 or more.
    pub(crate) fn at_least_one(&mut self, name: &str, value: usize) {
        self.check(name, value, value >= 1, "a whole number of 1 or more");
    }

    /// What was noted.
    pub(crate) fn into_problems(self) -> Vec<Error> {
        self.problems
    }
}

impl DataConfig {
    /// Every setting that is out of range.
    pub fn problems(&self) -> Vec<Error> {
        let mut ranges = Ranges::new("data");
        ranges.below_one("eval_fraction", self.eval_fraction);
        // One token has nothing to predict.
        ranges.check("max_length", self.max_length, self.max_length >= 2, "a whole number of 2 or more");
        ranges.into_problems()
    }
}

impl TrainConfig {
    /// Every setting that is out of range.
    pub fn problems(&self) -> Vec<Error> {
        let mut ranges = Ranges::new("train");
        if let Some(rate) = self.learning_rate {
            ranges.positive("learning_rate", rate);
        }
        ranges.check(
            "warmup_ratio",
            self.warmup_ratio,
            (0.0..=1.0).contains(&self.warmup_ratio),
            "a number from 0 to 1",
        );
        ranges.at_least_one("lr_cycles", self.lr_cycles);
        ranges.positive("lr_power", self.lr_power);
        ranges.below_one("adam_beta1", self.adam_beta1);
        ranges.below_one("adam_beta2", self.adam_beta2);
        ranges.positive("adam_epsilon", self.adam_epsilon);
        ranges.below_one("momentum", self.momentum);
        ranges.not_negative("weight_decay", self.weight_decay);
        ranges.not_negative("max_grad_norm", self.max_grad_norm);
        ranges.positive("epochs", self.epochs);
        if let Some(steps) = self.max_steps {
            ranges.at_least_one("max_steps", steps);
        }
        ranges.at_least_one("batch_size", self.batch_size);
        ranges.at_least_one("gradient_accumulation_steps", self.gradient_accumulation_steps);
        ranges.below_one("label_smoothing", self.label_smoothing);
        ranges.not_negative("neftune_alpha", self.neftune_alpha);
        ranges.at_least_one("eval_batch_size", self.eval_batch_size);
        ranges.into_problems()
    }
}

impl MethodConfig {
    /// Every setting that is out of range.
    pub fn problems(&self) -> Vec<Error> {
        match self {
            Self::Lora(lora) => lora.problems(),
            Self::Full(_) => Vec::new(),
        }
    }
}

impl Run {
    /// Checks every part.
    ///
    /// # Errors
    /// Each setting that is out of range, with its name in the run file.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        if self.model.is_empty() {
            problems.push(Error::input("model", "not given", "a folder, a GGUF file, a hub id or an alias"));
        }
        problems.extend(self.method.problems());
        problems.extend(self.data.problems());
        problems.extend(self.train.problems());
        Error::all(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_once_there_is_a_model() {
        let run = Run { model: "m".into(), ..Run::default() };
        run.validate().unwrap();
        assert!(Run::default().validate().unwrap_err().to_string().starts_with("model: not given"));
    }

    #[test]
    fn everything_out_of_range_is_named() {
        let mut run = Run { model: "m".into(), ..Run::default() };
        run.train.epochs = f64::NAN;
        run.train.batch_size = 0;
        run.train.learning_rate = Some(-1.0);
        run.data.eval_fraction = 1.0;
        if let MethodConfig::Lora(lora) = &mut run.method {
            lora.rank = 0;
            lora.dropout = 1.0;
        }
        let error = run.validate().unwrap_err();
        let text = error.to_string();
        for name in [
            "method.rank: 0", "method.dropout: 1", "data.eval_fraction: 1", "train.learning_rate: -1",
            "train.epochs: NaN", "train.batch_size: 0",
        ] {
            assert!(text.contains(name), "{name} not in\n{text}");
        }
        assert_eq!(text.lines().count(), 6, "{text}");
        assert_eq!(error.exit_code(), 2);
    }
}
