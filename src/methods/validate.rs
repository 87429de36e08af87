//! Ranges of the methods' settings.

use super::{LoraConfig, MethodConfig};
use crate::{Error, Result};

impl MethodConfig {
    /// Settings out of range, all of them.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Lora(config) => config.validate(),
            Self::Full(_) => Ok(()),
        }
    }
}

impl LoraConfig {
    /// Settings out of range, all of them.
    pub fn validate(&self) -> Result<()> {
        let mut errors = Vec::new();
        if self.rank == 0 || self.rank > 4096 {
            errors.push(Error::input("method.rank", self.rank.to_string(), "a number from 1 to 4096"));
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            errors.push(Error::input("method.alpha", self.alpha.to_string(), "a positive number"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            errors.push(Error::input(
                "method.dropout",
                self.dropout.to_string(),
                "a number from 0 to below 1",
            ));
        }
        if let Err(e) = self.target_modules.matcher() {
            errors.push(e);
        }
        Error::all(errors)
    }
}
