//! Which column of a file holds what, where its names are others than a shape's.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Fields of a row's shape and the file's columns they are read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Columns(pub BTreeMap<Field, String>);

/// A field of some [`Shape`](super::Shape).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// Shape text.
    Text,
    /// Shape prompt-completion.
    Prompt,
    /// Shape prompt-completion.
    Completion,
    /// Shape alpaca.
    Instruction,
    /// Shape alpaca; need not be there.
    Input,
    /// Shape alpaca.
    Output,
    /// Shape chat.
    Messages,
    /// Shape sharegpt.
    Conversations,
}

impl Field {
    /// Every field, those of one shape together.
    pub const ALL: [Self; 8] = [
        Self::Prompt,
        Self::Completion,
        Self::Text,
        Self::Instruction,
        Self::Input,
        Self::Output,
        Self::Messages,
        Self::Conversations,
    ];

    /// As rows and run files call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Prompt => "prompt",
            Self::Completion => "completion",
            Self::Instruction => "instruction",
            Self::Input => "input",
            Self::Output => "output",
            Self::Messages => "messages",
            Self::Conversations => "conversations",
        }
    }
}
