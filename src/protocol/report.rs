//! The state of a data set as data.

use crate::config::Shape;
use serde::{Deserialize, Serialize};

/// The state of a data set; serialises to what `--json` prints, displays as plain text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Rows kept to train on.
    pub n_rows: usize,
    /// Rows left out, held-out ones included.
    pub n_bad_rows: usize,
    /// Every fault and problem, with its place and what was expected.
    pub problems: Vec<String>,
    /// Remarks that stop nothing.
    pub notes: Vec<String>,
    /// The file's own fields or columns, with their first values.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// Shape of the rows as the run file names it; `None` if no row told it.
    pub shape: Option<Shape>,
    /// Rows whose content appeared before.
    pub duplicates: Vec<SameContent>,
    /// Held-out rows (`again`) whose content is also trained on (`first`).
    pub overlap: Vec<SameContent>,
    /// What needs a tokenizer; `None` without one.
    pub tokens: Option<TokenReport>,
    /// The rows to evaluate on, if there are any.
    pub held_out: Option<HeldOutReport>,
}

/// A field of the file's rows, or a column of its table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// As the file names it.
    pub name: String,
    /// Its first values, cut short.
    pub values: Vec<String>,
}

/// The rows that training does not see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutReport {
    /// Rows kept.
    pub n_rows: usize,
    /// What needs a tokenizer; `None` without one.
    pub tokens: Option<TokenReport>,
}

/// Two rows with the same content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SameContent {
    /// Where it stands first.
    pub first: Place,
    /// Where it stands again.
    pub again: Place,
}

/// The rows as tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenReport {
    /// All tokens, special ones included.
    pub n_tokens: usize,
    /// Tokens that carry loss.
    pub n_target_tokens: usize,
    /// Tokens of the longest row.
    pub longest: usize,
    /// Tokens of the row in the middle, by length.
    pub median: usize,
    /// Rows by length, from the shortest bucket to the longest.
    pub lengths: Vec<LengthBucket>,
    /// Rows cut at `max_length`.
    pub truncated: Vec<Place>,
    /// Rows without a token that carries loss: nothing can be learned from them.
    pub without_loss: Vec<Place>,
}

/// A bar of the length histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LengthBucket {
    /// Longest row counted here, a power of two; the bucket before ends where this one begins.
    pub up_to_tokens: usize,
    /// Rows.
    pub n_rows: usize,
}

/// Where a row came from, for messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// File as the user named it.
    pub file: String,
    /// Line, counted from 1; row number for formats without lines.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
