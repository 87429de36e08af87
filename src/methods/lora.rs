//! LoRA (2106.09685) with PEFT's initialisation, scaling and key names.

use crate::config::{Group, Look, settings};
use serde::{Deserialize, Serialize};

settings! {
    /// Low-rank adapters on linear layers: `y = x·W + (alpha / rank)·(dropout(x)·A)·B`.
    pub struct LoraConfig in "method" {
        /// Rank of the update (PEFT's `r`).
        rank: usize = 8; Look::of(Group::Method).first(),
        /// Numerator of the scale alpha / rank (PEFT's `lora_alpha`, whose default is 8).
        alpha: f64 = 16.0; Look::of(Group::Method).first(),
        /// Dropout on the adapter's input (PEFT's `lora_dropout`).
        dropout: f64 = 0.0; Look::of(Group::Regularisation),
        /// Scale by alpha / √rank instead of alpha / rank (rsLoRA, 2312.03732; PEFT's `use_rslora`).
        rslora: bool = false; Look::of(Group::Method).called("rsLoRA"),
        /// Linear layers that get an adapter: all-linear, or names as `q_proj,v_proj`, or a pattern in slashes as `/.*attn.*/`.
        target_modules: TargetModules = TargetModules::AllLinear; Look::of(Group::Method).called("Layers with an adapter"),
        /// Further modules that are trained in full and saved with the adapter (PEFT's `modules_to_save`).
        modules_to_save: Vec<String> = Vec::new(); Look::of(Group::Method).called("Modules trained in full"),
    }
}

/// Which linear layers a method touches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TargetsFile", into = "TargetsFile")]
pub enum TargetModules {
    /// Every linear layer but the output head, as PEFT's `all-linear`.
    AllLinear,
    /// Layers whose dotted name is, or ends in, one of these.
    Names(Vec<String>),
    /// Layers whose whole dotted name matches this regular expression.
    Pattern(String),
}

/// [`TargetModules`] as files and flags write it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TargetsFile {
    Word(String),
    List(Vec<String>),
}

impl From<TargetsFile> for TargetModules {
    fn from(file: TargetsFile) -> Self {
        match file {
            TargetsFile::List(names) => Self::Names(names),
            TargetsFile::Word(word) if word == "all-linear" => Self::AllLinear,
            TargetsFile::Word(word) => match word.strip_prefix('/').and_then(|w| w.strip_suffix('/')) {
                Some(pattern) => Self::Pattern(pattern.to_string()),
                None => Self::Names(word.split(',').map(|n| n.trim().to_string()).collect()),
            },
        }
    }
}

impl From<TargetModules> for TargetsFile {
    fn from(targets: TargetModules) -> Self {
        match targets {
            TargetModules::AllLinear => Self::Word("all-linear".into()),
            TargetModules::Names(names) => Self::List(names),
            TargetModules::Pattern(pattern) => Self::Word(format!("/{pattern}/")),
        }
    }
}

impl LoraConfig {
    /// Factor on the update.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}
