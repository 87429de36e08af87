//! Rows from files, checked; rows as tokens with loss weights; tokens as batches.
//!
//! The stages are types of their own: [`Row`] → [`Encoded`] → [`Batch`].

pub mod encode;
mod turns;
pub mod read;
mod records;
mod mapping;
mod json;
mod table;
mod text;
mod parquet;
mod columns;
mod pages;
mod shapes;
pub mod split;
pub mod check;
pub mod pack;
pub mod batches;

pub use crate::protocol::Place;
pub use records::RowsRead;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// system, user, assistant, tool …
    pub role: String,
    /// The text.
    pub content: String,
    /// Factor on the loss of this message's tokens; only meaningful for assistant turns.
    pub weight: f32,
}

/// What a row holds once its shape is recognised.
#[derive(Clone, Debug, PartialEq)]
pub enum RowContent {
    /// Plain text, learned throughout.
    Text(String),
    /// A prompt and what should follow it, joined without a template.
    PromptCompletion {
        /// Context, not learned by default.
        prompt: String,
        /// Learned.
        completion: String,
    },
    /// Turns, rendered by the model's chat template.
    Chat(Vec<Message>),
}

/// A checked row of a data set, not yet tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// What it says.
    pub content: RowContent,
}

/// A row as tokens. `ids` and `loss_weights` have the same length.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Weight of each token as a target: 0 for context. The first token is never a target.
    pub loss_weights: Vec<f32>,
    /// Whether `max_length` cut it.
    pub truncated: bool,
}

/// Rows side by side, padded on the right, in host memory. All vectors are `[batch_size, seq_len]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Number of sequences.
    pub batch_size: usize,
    /// Tokens in each sequence, padding included.
    pub seq_len: usize,
    /// Token ids; padding holds the pad token.
    pub input_ids: Vec<i32>,
    /// Position of each token within its row; restarts at each packed row.
    pub position_ids: Vec<i32>,
    /// 0 for padding, else the number (from 1) of the packed row: attention is causal within equal numbers.
    pub segment_ids: Vec<i32>,
    /// Weight of each token as the target of the token before it; 0 for context, padding and the first token of each row.
    pub loss_weights: Vec<f32>,
}

impl Batch {
    /// Tokens that are not padding.
    pub fn n_tokens(&self) -> usize {
        self.segment_ids.iter().filter(|&&s| s != 0).count()
    }

    /// Sum of the targets' weights: the denominator of the mean loss.
    pub fn target_weight(&self) -> f64 {
        self.loss_weights.iter().map(|&w| f64::from(w)).sum()
    }
}
