//! What a page is told.

use super::{EvalMetrics, Event, Report, Sample, Sign, StepMetrics, TrainSummary};
use crate::config::Run;
use serde::{Deserialize, Serialize};

/// What a session tells while it works, and what it found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "update", rename_all = "snake_case")]
pub enum Update {
    /// The work went on.
    Event(Event),
    /// A model was opened.
    Model(ModelCard),
    /// Data was read.
    Data(Box<DataView>),
    /// A run left a result.
    Trained(Trained),
    /// The next piece of a continuation.
    Text {
        /// The piece.
        piece: String,
    },
    /// A continuation is complete.
    Answer(Answer),
    /// An archive was written.
    Packed(StoredFile),
    /// What is stored.
    Stored(Stored),
    /// A run's curves, asked for by [`Request::Figures`](super::Request::Figures).
    Figures(Box<Figures>),
}

/// What a session's store holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// Models, each a file or a folder.
    pub models: Vec<StoredFile>,
    /// Runs that began at least, the newest first.
    pub runs: Vec<StoredRun>,
}

/// A run in the session's store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredRun {
    /// Its settings; `out` is its folder.
    pub run: Run,
    /// Key of the model it began with.
    pub model: String,
    /// Key of its rows.
    pub data: String,
    /// Its number among the runs of this store, from 1; 0 where it has none.
    pub number: usize,
    /// The name it was given, if it was.
    pub name: Option<String>,
    /// Its last optimizer step, if it did one.
    pub last_step: Option<StepMetrics>,
    /// Its last evaluation, if it made one.
    pub last_eval: Option<EvalMetrics>,
    /// Whether it left a result.
    pub is_done: bool,
    /// Whether it has a checkpoint to go on from.
    pub has_checkpoint: bool,
    /// Bytes of its folder.
    pub n_bytes: u64,
}

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The run's folder.
    pub key: String,
    /// Optimizer steps; of a long run some, evenly spread, the last among them.
    pub steps: Vec<StepMetrics>,
    /// Every evaluation.
    pub evals: Vec<EvalMetrics>,
    /// Every answer to a sample prompt.
    pub samples: Vec<Sample>,
    /// Signs of trouble.
    pub signs: Vec<Sign>,
}

/// A model as a person wants to know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// How run files call it.
    pub name: String,
    /// `model_type` of its configuration.
    pub architecture: String,
    /// Parameters in all.
    pub n_params: usize,
    /// Bytes of its tensors as stored.
    pub n_bytes: u64,
    /// Layers.
    pub n_layers: usize,
    /// Width of the hidden state.
    pub hidden_size: usize,
    /// Tokens it knows.
    pub vocab_size: usize,
    /// Longest context in tokens.
    pub max_positions: usize,
    /// Whether it is made for conversations.
    pub has_chat_template: bool,
}

/// Data as a person wants to see it before a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataView {
    /// File.
    pub name: String,
    /// What there is to say about it; of many problems the first.
    pub report: Report,
    /// The first rows, token by token.
    pub rows: Vec<ShownRow>,
}

/// A row as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownRow {
    /// Line in the file.
    pub line: usize,
    /// Its tokens in order.
    pub tokens: Vec<ShownToken>,
}

/// A token of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownToken {
    /// Its text; empty within a character.
    pub text: String,
    /// Its weight as a target; 0 for context.
    pub weight: f32,
}

/// A run's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// How it ended; `None` where it was stopped and kept.
    pub summary: Option<TrainSummary>,
    /// The files of its folder that are of use elsewhere.
    pub files: Vec<StoredFile>,
    /// Whether the result is an adapter, not a whole model.
    pub is_adapter: bool,
}

/// A file in the session's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its key.
    pub key: String,
    /// Its name without the folder.
    pub name: String,
    /// Its size.
    pub n_bytes: u64,
}

/// How a continuation ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// eos, stop, length or interrupted.
    pub finish_reason: String,
    /// Tokens made.
    pub n_tokens: usize,
    /// Wall time without loading.
    pub duration_secs: f64,
}

/// Where the page's worker computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceView {
    /// `webgpu` or `cpu`.
    pub name: String,
    /// The part's own name, or what stands in for it.
    pub description: String,
    /// Why it is not the first choice, where it is not.
    pub reason: Option<String>,
}

/// What the page's worker answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The worker's code is on its way.
    Loading {
        /// Bytes so far.
        done: u64,
        /// Bytes in all; 0 when unknown.
        total: u64,
    },
    /// The worker can be asked.
    Ready {
        /// Where it computes.
        device: DeviceView,
    },
    /// From the session.
    Update(Update),
    /// The file asked for comes with this message.
    File {
        /// The name it is saved as.
        name: String,
    },
    /// What the worker's code holds of the machine's memory; a GPU's is not part of it.
    Memory {
        /// Bytes.
        n_bytes: u64,
    },
    /// A request is done.
    Done,
    /// A request failed, or the worker did; the sentence says what to do.
    Failed {
        /// The sentence.
        message: String,
        /// Whether a stop was asked for and this is its end.
        is_stop: bool,
    },
}
