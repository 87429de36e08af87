//! Methods: what is trained and what is attached to a model, without knowing which model it is.
//!
//! A method is one file and one line in each `match` below.

mod full;
mod lora;
#[cfg(feature = "engine")]
mod lora_init;
#[cfg(feature = "engine")]
mod targets;
#[cfg(feature = "engine")]
mod validate;

pub use full::FullConfig;
pub use lora::{LoraConfig, TargetModules};
#[cfg(feature = "engine")]
pub use targets::{Matcher, is_or_ends_in, shortest_names};

use crate::config::Setting;
use serde::{Deserialize, Serialize};

/// The method of a run with its settings, told apart by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MethodConfig {
    /// Low-rank adapters (2106.09685).
    Lora(LoraConfig),
    /// Every weight is trained.
    Full(FullConfig),
}

/// Settings of all methods.
pub const SETTINGS: &[&[Setting]] = &[LoraConfig::SETTINGS, FullConfig::SETTINGS];

/// Names that `--method` takes, each with its settings.
pub const KINDS: &[(&str, &[Setting])] = &[("lora", LoraConfig::SETTINGS), ("full", FullConfig::SETTINGS)];

impl Default for MethodConfig {
    fn default() -> Self {
        Self::Lora(LoraConfig::default())
    }
}

impl MethodConfig {
    /// Peak learning rate when the run states none.
    pub fn default_learning_rate(&self) -> f64 {
        match self {
            Self::Lora(_) => 2e-4,
            Self::Full(_) => 2e-5,
        }
    }
}
