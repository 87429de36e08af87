//! Training: batches → gradients → update → events and checkpoints.
//!
//! Semantics are those of transformers' `Trainer` (v5): the loss of a step is the weighted mean over
//! the target tokens of all its micro-batches, gradients are clipped by their global norm, and the
//! learning rate is stepped after the optimizer. Nothing here blocks on the device: one read a step
//! brings back loss and gradient norm together.

mod checkpoint;
mod clip;
mod figures;
mod metrics;
mod optimizer;
mod plan;
mod samples;
mod schedule;
mod start;
mod tensorboard;
#[cfg(test)]
mod tests;
mod trainer;
mod validate;
mod watch;

pub use checkpoint::{BEST, Best, CHECKPOINT, Checkpoint, Progress, load_newest};
pub use figures::{csv, log};
pub use metrics::{HasEvals, METRICS_KEY, last_metrics, read_metrics};
pub use optimizer::Optimizer;
pub use plan::{Plan, StepBatches};
pub use samples::{SamplePrompt, Samples};
pub use schedule::Schedule;
pub use start::refuse_checkpoints;
pub use trainer::{Start, Training, train};
pub use watch::{Watch, signs};
