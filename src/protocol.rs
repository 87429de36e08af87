//! What a session is told and what it tells: plain data, the same for the page, the command line
//! and files. Field names are those of `metrics.jsonl`.

mod command;
mod estimate;
mod hub;
mod lines;
mod report;
mod sign;
mod update;

pub use command::{Command, Parcel, Prompt, Request, Turn, Voice};
pub use estimate::{Advice, Estimate, Memory, RateFrom, SettingProblem, TimeEstimate};
pub use hub::{FoundModel, HubAccess};
pub use report::{Column, HeldOutReport, LengthBucket, Place, Report, SameContent, TokenReport};
pub use sign::{Sign, SignKind};
pub use update::{
    Answer, BadRow, DataView, DeviceLimits, DeviceView, Example, Examples, Figures, ModelCard, Reply,
    Returned, ShownField, ShownRow, ShownToken, SourceChange, Stored, StoredFile, StoredRun, Trained,
    Unfinished, Update,
};

use serde::{Deserialize, Serialize};

/// The listener's answer to an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Stop at the next safe point and keep what is done: a checkpoint is written first.
    Stop,
}

/// One line of `metrics.jsonl`, and what the progress display shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Work began that has a known end, such as loading or downloading.
    Progress {
        /// What is being done, as a verb phrase: "loading model".
        task: String,
        /// Units done.
        done: u64,
        /// Units in all; 0 when unknown.
        total: u64,
    },
    /// Something the user should read.
    Note {
        /// The sentence.
        message: String,
    },
    /// The rows were read: what is wrong with them, what is kept, how long they are.
    Data(Box<Report>),
    /// What the run will need, before the model is loaded.
    Estimate(Box<Estimate>),
    /// An optimizer step is done.
    Step(StepMetrics),
    /// Held-out rows were evaluated.
    Eval(EvalMetrics),
    /// A prompt was answered, to show what is learned by now.
    Sample(Sample),
    /// The figures show an early sign of trouble.
    Sign(Sign),
    /// A checkpoint is on disk, verified.
    Checkpoint {
        /// Optimizer step it holds.
        step: usize,
        /// Where.
        path: String,
        /// Whether it has the lowest held-out loss so far.
        best: bool,
    },
    /// Training ended.
    Done(TrainSummary),
}

/// Figures of one optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Optimizer step, counted from 1.
    pub step: usize,
    /// Steps in all.
    pub total_steps: usize,
    /// Passes over the data so far.
    pub epoch: f64,
    /// Mean loss over the target tokens of the accumulated batch, in nats.
    pub loss: f64,
    /// Learning rate of this step.
    pub lr: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Tokens of this step, padding excluded.
    pub n_tokens: usize,
    /// Tokens a second of this step, padding excluded.
    pub tokens_per_sec: f64,
    /// Seconds since training began, over all resumptions.
    pub elapsed_secs: f64,
}

/// Figures of one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalMetrics {
    /// Optimizer step after which it was made.
    pub step: usize,
    /// Mean loss over all target tokens, in nats.
    pub eval_loss: f64,
    /// exp(eval_loss).
    pub eval_perplexity: f64,
    /// Share of target tokens that are the model's first choice.
    pub eval_token_accuracy: f64,
    /// Share of rows answered right, where the rows are questions with a few possible answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_accuracy: Option<f64>,
    /// Target tokens.
    pub n_targets: usize,
}

/// A prompt and what the model being trained says to it, with the likeliest tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Optimizer steps done; 0 is the model as it was.
    pub step: usize,
    /// Plain text; of a conversation its last message.
    pub prompt: String,
    /// The answer, cut after `train.sample_tokens` tokens.
    pub text: String,
}

/// How training ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Optimizer steps done.
    pub steps: usize,
    /// Mean loss over all steps.
    pub train_loss: f64,
    /// Lowest held-out loss and its step.
    pub best_eval: Option<(usize, f64)>,
    /// Parameters trained.
    pub trainable_params: usize,
    /// Parameters in all.
    pub total_params: usize,
    /// Whether patience ran out before the last step.
    pub stopped_early: bool,
    /// Wall time.
    pub duration_secs: f64,
}
