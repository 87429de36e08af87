//! What a page asks for.

use super::HubAccess;
use crate::config::{DataConfig, GenerateConfig, Run};
use serde::{Deserialize, Serialize};

/// Work for a session, one at a time. Keys name bytes in the session's store; bytes are never part of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Look at a model's files and read its tokenizer; answered by [`Update::Model`](super::Update::Model).
    OpenModel {
        /// Its folder, or its GGUF file.
        key: String,
        /// How run files and adapters call it.
        name: String,
    },
    /// Read and check a data file with the model's tokenizer; answered by [`Update::Data`](super::Update::Data).
    ReadData {
        /// The file.
        key: String,
        /// Its name for messages; its ending tells the format.
        name: String,
        /// How rows are read.
        settings: DataConfig,
        /// Seed of the split.
        seed: u64,
    },
    /// Train the opened model on the data read last, into the folder `run.out`.
    Train {
        /// Settings.
        run: Box<Run>,
    },
    /// Go on with a stopped run from its newest checkpoint.
    Resume {
        /// The settings it began with.
        run: Box<Run>,
    },
    /// Make the newest checkpoint of a stopped run its result.
    Keep {
        /// The settings it began with.
        run: Box<Run>,
    },
    /// Continue a text; answered by pieces of text and [`Update::Answer`](super::Update::Answer).
    Generate {
        /// What to continue.
        prompt: Prompt,
        /// With or without what was trained.
        voice: Voice,
        /// Sampling.
        sampling: GenerateConfig,
        /// Seed of the draw.
        seed: u64,
    },
    /// Make a run that left a result the last run again; answered by [`Update::Trained`](super::Update::Trained).
    Reopen {
        /// Its settings.
        run: Box<Run>,
    },
    /// Say what a run would need and which of its settings are wrong; answered by
    /// [`Update::Estimated`](super::Update::Estimated).
    Estimate {
        /// Settings.
        run: Box<Run>,
        /// Memory that the device can give, where the page knows it, in bytes.
        limit_bytes: Option<u64>,
    },
    /// Tell what is stored; answered by [`Update::Stored`](super::Update::Stored).
    List,
    /// Delete a stored file, or a folder with everything in it.
    Remove {
        /// Its key.
        key: String,
    },
    /// Give a stored run a name; an empty one takes it away.
    Rename {
        /// The run's folder.
        key: String,
        /// The name.
        name: String,
    },
    /// Make a file of the last run's result, to be taken home; answered by
    /// [`Update::Packed`](super::Update::Packed).
    Pack {
        /// Which.
        parcel: Parcel,
    },
    /// Take in what was taken home: an adapter, a run file or the archive of a run, whose files lie in a new folder
    /// of the runs. Answered by [`Update::Returned`](super::Update::Returned) and, where an adapter came,
    /// [`Update::Trained`](super::Update::Trained). What is refused is removed.
    BringBack {
        /// The folder.
        folder: String,
    },
    /// Show rows of the data read last as prompts with their answers, rows that a run holds out where it holds out
    /// any; answered by [`Update::Examples`](super::Update::Examples).
    Examples {
        /// The run.
        run: Box<Run>,
    },
}

/// What can be taken home in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parcel {
    /// The adapter as PEFT's folder.
    Adapter,
    /// The tuned model as transformers' folder.
    Merged,
    /// Settings, figures and adapter: a run that can be brought back.
    Run,
    /// The figures as a table.
    Csv,
    /// The figures as lines.
    Log,
}

impl Parcel {
    /// Name of the file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Adapter => "adapter.zip",
            Self::Merged => "merged.zip",
            Self::Run => "run.zip",
            Self::Csv => "metrics.csv",
            Self::Log => "training-log.txt",
        }
    }
}

/// What a continuation follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Plain text.
    Text(String),
    /// A conversation, rendered by the model's template.
    Chat(Vec<Turn>),
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// system, user or assistant.
    pub role: String,
    /// The text.
    pub content: String,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Voice {
    /// The model as it was opened.
    Base,
    /// The result of the last run.
    Tuned,
}

/// What the page asks its worker for: work for the session, and what only a browser has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Work, done in the order it is asked for.
    Work(Command),
    /// Stop the work under way at its next safe point.
    Stop,
    /// Copy the files that come with this message into the store, as `FOLDER/NAME`.
    Import {
        /// Where they go.
        folder: String,
    },
    /// Copy a file that is served beside the page into the store, unless it is there.
    Fetch {
        /// Address, relative to the page.
        url: String,
        /// Key it gets.
        key: String,
    },
    /// Read the figures of a stored run, at once, whatever is under way; answered by
    /// [`Update::Figures`](super::Update::Figures) and nothing else.
    Figures {
        /// Its folder.
        key: String,
    },
    /// Copy a model of the hub into the store, going on where an earlier call broke off; answered by
    /// [`Reply::Fetched`](super::Reply::Fetched), or by [`Reply::Choose`](super::Reply::Choose) where the
    /// repository holds several GGUF files and `id` names none.
    FetchModel {
        /// `owner/name[@revision][:file.gguf]`
        id: String,
        /// From where.
        hub: HubAccess,
    },
    /// Look for models on the hub, beside the work under way; answered by [`Reply::Found`](super::Reply::Found).
    Search {
        /// Part of a name.
        text: String,
        /// Where.
        hub: HubAccess,
    },
    /// Hand out a stored file for saving; answered by [`Reply::File`](super::Reply::File).
    Give {
        /// Its key.
        key: String,
        /// The name it is saved as.
        name: String,
    },
}
