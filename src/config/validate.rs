//! Ranges that the types do not state, part by part; the training loop checks its own.

use super::{DataConfig, Run, WeightFormat};
use crate::methods::MethodConfig;
use crate::{Error, Result};

impl DataConfig {
    /// Reports every setting out of range at once.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        let fraction = self.eval_fraction;
        if !(0.0..1.0).contains(&fraction) {
            let expected = "a number from 0 up to, but not including, 1";
            problems.push(Error::input("data.eval_fraction", fraction.to_string(), expected));
        }
        // One token has nothing to predict.
        if self.max_length < 2 {
            problems.push(Error::input(
                "data.max_length",
                self.max_length.to_string(),
                "a whole number from 2",
            ));
        }
        Error::all(problems)
    }
}

impl Run {
    /// Reports every setting of every part that is out of range, before anything is loaded.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        if self.model.is_empty() {
            problems.push(Error::input("model", "not given", "a folder, a GGUF file, a hub id or an alias"));
        }
        if self.data.path.is_none() {
            problems.push(Error::input("data.path", "not given", "a file of training rows"));
        }
        for part in [self.method.validate(), self.data.validate(), self.train.validate()] {
            match part {
                Ok(()) => {}
                Err(Error::Inputs(several)) => problems.extend(several),
                Err(one) => problems.push(one),
            }
        }
        let is_full = matches!(self.method, MethodConfig::Full(_));
        if is_full && !matches!(self.weights, WeightFormat::Auto | WeightFormat::F32) {
            problems.push(Error::input(
                "weights",
                "few bits a value",
                "auto or f32: full tuning trains every weight",
            ));
        }
        Error::all(problems)
    }

    /// How the weights are held: full tuning needs them in floating point.
    pub fn weight_format(&self) -> WeightFormat {
        match self.method {
            MethodConfig::Full(_) => WeightFormat::F32,
            MethodConfig::Lora(_) => self.weights,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_once_there_are_model_and_data() {
        let mut run = Run { model: "m".into(), ..Run::default() };
        run.data.path = Some("rows.jsonl".into());
        run.validate().unwrap();
        let text = Run::default().validate().unwrap_err().to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("model: not given") && text.contains("data.path: not given"), "{text}");
    }

    #[test]
    fn what_is_out_of_range_is_named_across_the_parts() {
        let mut run = Run { model: "m".into(), ..Run::default() };
        run.data.path = Some("rows.jsonl".into());
        run.data.eval_fraction = 1.0;
        run.data.max_length = 1;
        run.train.epochs = f64::NAN;
        if let MethodConfig::Lora(lora) = &mut run.method {
            lora.rank = 0;
            lora.dropout = 1.0;
        }
        let error = run.validate().unwrap_err();
        let text = error.to_string();
        for name in [
            "method.rank: 0",
            "method.dropout: 1",
            "data.eval_fraction: 1",
            "data.max_length: 1",
            "train.epochs: NaN",
        ] {
            assert!(text.contains(name), "{name} not in\n{text}");
        }
        assert_eq!((text.lines().count(), error.exit_code()), (5, 2), "{text}");
    }
}
