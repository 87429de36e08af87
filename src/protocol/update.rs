//! What a page is told.

use super::{
    Estimate, EvalMetrics, Event, FoundModel, Prompt, Report, Sample, SettingProblem, Sign, StepMetrics,
    TrainSummary,
};
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
    /// A file to be taken home was written.
    Packed(StoredFile),
    /// What a run would need.
    Estimated {
        /// Settings that are wrong.
        problems: Vec<SettingProblem>,
        /// `None` where settings are wrong or no model is opened.
        estimate: Option<Box<Estimate>>,
    },
    /// What was taken home came back.
    Returned(Box<Returned>),
    /// Rows as prompts with their answers.
    Examples(Examples),
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
    /// What fetching or copying left half done.
    #[serde(default)]
    pub unfinished: Vec<Unfinished>,
}

/// A model of which a part is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Its key.
    pub key: String,
    /// How people call it.
    pub name: String,
    /// Bytes so far.
    pub n_bytes: u64,
    /// Its name on the hub, where it can be gone on with.
    pub hub_id: Option<String>,
}

/// A run in the session's store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredRun {
    /// Its settings; `out` is its folder.
    pub run: Run,
    /// Key of the model it began with.
    pub model: String,
    /// Key of its rows; empty for a run that was brought back without them.
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
    /// Its licence, where its files state one.
    #[serde(default)]
    pub license: Option<String>,
}

/// Data as a person wants to see it before a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataView {
    /// File.
    pub name: String,
    /// What there is to say about it; of many problems the first.
    pub report: Report,
    /// The first rows, as read and token by token.
    pub rows: Vec<ShownRow>,
    /// The first rows that cannot be used, in the file's order.
    #[serde(default)]
    pub bad_rows: Vec<BadRow>,
    /// Rows that training sees and those that it does not, after the split.
    #[serde(default)]
    pub split: Option<(usize, usize)>,
}

/// A row that cannot be used, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    /// Line in the file, or number of the row.
    pub line: usize,
    /// The line's text, cut short; nothing for formats without lines.
    pub text: Option<String>,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

/// A field of a row as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownField {
    /// What it is: text, prompt, completion, or a speaker's role.
    pub name: String,
    /// Its text, cut short.
    pub text: String,
}

/// A row as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownRow {
    /// Line in the file.
    pub line: usize,
    /// Its fields as read.
    #[serde(default)]
    pub fields: Vec<ShownField>,
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

/// What came back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Returned {
    /// The settings, where a run file came.
    pub settings: Option<Run>,
    /// The run that the store now holds, where an adapter came.
    pub run: Option<StoredRun>,
    /// What the files name and the session has not open.
    pub differences: Vec<SourceChange>,
}

/// Something that was otherwise when a run was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceChange {
    /// Key in the run file: `model` or `data.path`.
    pub what: String,
    /// Its name then.
    pub then: String,
    /// Its name now; `None` where nothing is open.
    pub now: Option<String>,
}

/// Rows to try a model with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Examples {
    /// A few rows.
    pub rows: Vec<Example>,
    /// Whether the run does not train on them.
    pub is_held_out: bool,
}

/// A row as a question and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Line in the file.
    pub line: usize,
    /// What stands before the answer.
    pub prompt: Prompt,
    /// The answer.
    pub expected: String,
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
    /// What it takes at most, where it says so.
    #[serde(default)]
    pub limits: Option<DeviceLimits>,
}

/// What a GPU takes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLimits {
    /// Bytes of one buffer.
    pub max_buffer_bytes: u64,
    /// Bytes of one tensor: what a kernel can be given of a buffer.
    pub max_tensor_bytes: u64,
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
    /// A model of the hub is in the store.
    Fetched {
        /// Its key.
        key: String,
        /// Its name on the hub.
        name: String,
    },
    /// One of these GGUF files has to be named.
    Choose {
        /// The repository, with its revision.
        id: String,
        /// What it holds; a file's key is its path there.
        files: Vec<StoredFile>,
    },
    /// What a search found; not counted among the requests.
    Found {
        /// What was looked for.
        text: String,
        /// Small models first.
        models: Vec<FoundModel>,
        /// Why nothing could be found out.
        problem: Option<String>,
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
    /// The worker cannot go on, whatever it was doing: its device or its memory is lost. A new one can.
    Gone {
        /// What happened.
        message: String,
    },
}
