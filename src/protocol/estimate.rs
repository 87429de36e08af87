//! What a run would need, as data: said before anything is loaded.

use serde::{Deserialize, Serialize};

/// What a run would need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Memory at its peak, in bytes by part.
    pub memory: Memory,
    /// The sum of all parts.
    pub peak_bytes: u64,
    /// What the device can give, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// The largest tensor: some devices bound a single one.
    pub largest_tensor_bytes: u64,
    /// Time; `None` without rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeEstimate>,
    /// Changes of settings that would need less, where the memory does not suffice; each alone is enough, or the
    /// last that was tried.
    pub advice: Vec<Advice>,
}

/// Bytes by part, at the moment of a run that needs the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The model's weights as computed with, f32 whatever they are stored in.
    pub weights: u64,
    /// What a method attached, and copies of modules trained in full.
    pub adapter: u64,
    /// Trained values before the last update, to go back to where a step goes wrong.
    pub kept: u64,
    /// Gradients of the trained values.
    pub gradients: u64,
    /// The optimizer's state.
    pub optimizer: u64,
    /// What the forward pass keeps for the backward pass, and what computing a layer takes.
    pub activations: u64,
    /// A block of logits with its gradient.
    pub logits: u64,
    /// The program itself: code, tokenizer, rows.
    pub program: u64,
}

impl Memory {
    /// Each part with its name, in the order above.
    pub fn parts(&self) -> [(&'static str, u64); 8] {
        [
            ("weights", self.weights),
            ("adapter", self.adapter),
            ("kept values", self.kept),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("logits", self.logits),
            ("program", self.program),
        ]
    }

    /// The sum of all parts.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|(_, n_bytes)| n_bytes).sum()
    }
}

/// How long a run would take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeEstimate {
    /// Optimizer steps in all.
    pub total_steps: usize,
    /// Floating-point operations of a step, in the mean.
    pub flop_per_step: f64,
    /// Floating-point operations a second that `secs` is reckoned with.
    pub flop_per_sec: f64,
    /// Where that rate is from.
    pub rate_from: RateFrom,
    /// Seconds in all, evaluations included.
    pub secs: f64,
}

/// Where a rate of computing is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateFrom {
    /// Steps of an earlier run on this device.
    Steps,
    /// One matrix product, timed: a rough guess.
    Product,
}

/// One change that would need less memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// Settings by their keys in the run file, each with the value to give it.
    pub changes: Vec<(String, String)>,
    /// Memory with the change, in bytes.
    pub peak_bytes: u64,
    /// Whether that is within the limit.
    pub fits: bool,
}

/// A setting that is out of range, or does not fit another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingProblem {
    /// Its key in the run file.
    pub key: String,
    /// What it is.
    pub found: String,
    /// What would be right.
    pub expected: String,
}
