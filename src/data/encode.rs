//! Rows as tokens with loss weights.
//!
//! Ids and labels equal those of TRL's `SFTTrainer` (trl 1.16, `trainer/sft_trainer.py`): EOS ends a
//! text and a completion, a conversation ends as its template ends it; a completion begins where the
//! tokens of the prompt and of the whole row part. Where TRL trains on a row that has lost its answer,
//! the row is refused here.

use super::turns::{Turns, assistant_turns};
use super::{Encoded, Message, Row, RowContent};
use crate::config::{DataConfig, LossOn};
use crate::tokenizer::{AddSpecial, DecodeStream, GenerationPrompt, SkipSpecial, Tokenizer};
use crate::{Error, Result};

/// Encodes a row and weights the tokens that `config.loss_on` asks for, cut at `config.max_length`.
///
/// # Errors
/// [`Error::Input`] naming the row: the model lacks EOS or a chat template, the template refuses the
/// conversation, or no token carries loss.
pub fn encode(row: &Row, tokenizer: &Tokenizer, config: &DataConfig) -> Result<EncodedRow> {
    let Weighted { mut ids, mut loss_weights, prompt_merges } =
        weighted(&row.content, tokenizer, config.loss_on).map_err(|e| at_row(row, e))?;
    let n_tokens = ids.len();
    let truncated = n_tokens > config.max_length;
    ids.truncate(config.max_length);
    loss_weights.truncate(config.max_length);
    // Nothing predicts the first token.
    let whole_carried = loss_weights.first().is_some_and(|&w| w != 0.0);
    if let Some(first) = loss_weights.first_mut() {
        *first = 0.0;
    }
    if loss_weights.iter().all(|&w| w == 0.0) {
        let problem = if truncated {
            format!(
                "no token that carries loss is left of {n_tokens} after cutting at max_length {}",
                config.max_length
            )
        } else if whole_carried {
            "its only token that carries loss is the first, which nothing predicts".to_string()
        } else {
            "no token carries loss".to_string()
        };
        return Err(Error::input(place(row), problem, expected(&row.content, truncated, config.max_length)));
    }
    Ok(EncodedRow { tokens: Encoded { ids, loss_weights, truncated }, prompt_merges })
}

/// A row as tokens, and what is remarkable about them.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedRow {
    /// The tokens.
    pub tokens: Encoded,
    /// Whether the last tokens of the prompt differ once the completion follows, because letters merge across
    /// the boundary: the model then trains on another context than it is asked with. A prompt that ends before
    /// a space avoids it. TRL warns about the same rows.
    pub prompt_merges: bool,
}

/// What a model lacks to learn from such rows; it is no fault of any row of them.
pub fn model_faults(rows: &[Row], tokenizer: &Tokenizer) -> Vec<Error> {
    let is_chat = |row: &Row| matches!(row.content, RowContent::Chat(_));
    let mut faults = Vec::new();
    if !tokenizer.has_chat_template() && rows.iter().any(is_chat) {
        faults.extend(tokenizer.render_chat(&[], GenerationPrompt::No).err());
    }
    if !rows.iter().all(is_chat) {
        faults.extend(end_token(tokenizer).err());
    }
    faults
}

/// Each token as text with its loss weight; the texts join to the decoded row. A character of several
/// tokens stands at its last.
pub fn show(encoded: &Encoded, tokenizer: &Tokenizer) -> Result<Vec<Shown>> {
    let mut stream = DecodeStream::new(tokenizer, SkipSpecial::No);
    let mut shown = Vec::with_capacity(encoded.ids.len());
    for (&id, &weight) in encoded.ids.iter().zip(&encoded.loss_weights) {
        shown.push(Shown { text: stream.push(id)?, weight });
    }
    if let Some(last) = shown.last_mut() {
        last.text.push_str(&stream.finish()?);
    }
    Ok(shown)
}

/// A token for people to see.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its text; empty within a character.
    pub text: String,
    /// Its weight as a target; 0 for context.
    pub weight: f32,
}

/// Ids of a row with the weight of each, before cutting.
struct Weighted {
    ids: Vec<u32>,
    loss_weights: Vec<f32>,
    prompt_merges: bool,
}

fn weighted(content: &RowContent, tokenizer: &Tokenizer, loss_on: LossOn) -> Result<Weighted> {
    match content {
        RowContent::Text(_) if loss_on == LossOn::Completions => Err(Error::input(
            "loss-on",
            "completions, but the row is plain text",
            "rows of `prompt` and `completion` or `messages`, or --loss-on auto",
        )),
        RowContent::Text(text) => {
            let ids = encode_ended(text, tokenizer)?;
            Ok(Weighted { loss_weights: vec![1.0; ids.len()], ids, prompt_merges: false })
        }
        RowContent::PromptCompletion { prompt, completion } => {
            let ids = encode_ended(&format!("{prompt}{completion}"), tokenizer)?;
            // The whole sequence is what counts; the prompt's own tokens only show where it ends.
            let alone = tokenizer.encode(prompt, AddSpecial::Yes)?;
            let n_same = alone.iter().zip(&ids).take_while(|(a, b)| a == b).count();
            // An EOS that the post-processor puts behind the prompt is none of the prompt's.
            let prompt_merges = alone[n_same..].iter().any(|id| !tokenizer.eos_ids().contains(id));
            let n_prompt = match loss_on {
                LossOn::All => 0,
                // The end is always learned.
                LossOn::Auto | LossOn::Completions => n_same.min(ids.len().saturating_sub(1)),
            };
            let loss_weights = (0..ids.len()).map(|i| if i < n_prompt { 0.0 } else { 1.0 }).collect();
            Ok(Weighted { ids, loss_weights, prompt_merges })
        }
        RowContent::Chat(messages) => chat(messages, tokenizer, loss_on),
    }
}

/// A text with what the tokenizer adds to texts and with EOS at its end, once.
fn encode_ended(text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let EndToken { text: eos, id: eos_id } = end_token(tokenizer)?;
    let mut ids = if text.ends_with(eos) {
        tokenizer.encode(text, AddSpecial::Yes)?
    } else {
        tokenizer.encode(&format!("{text}{eos}"), AddSpecial::Yes)?
    };
    if ids.last() != Some(&eos_id) {
        ids.push(eos_id);
    }
    Ok(ids)
}

struct EndToken<'t> {
    text: &'t str,
    id: u32,
}

fn end_token(tokenizer: &Tokenizer) -> Result<EndToken<'_>> {
    match (tokenizer.eos_token(), tokenizer.eos_ids().first()) {
        (Some(text), Some(&id)) => Ok(EndToken { text, id }),
        _ => {
            let expected = "one, so that the model learns where to stop";
            Err(Error::input("tokenizer_config.json", "no eos_token", expected))
        }
    }
}

/// The conversation is tokenised as one text, as a model sees it; a token carries loss if any byte of
/// it belongs to an assistant's turn.
fn chat(messages: &[Message], tokenizer: &Tokenizer, loss_on: LossOn) -> Result<Weighted> {
    // Without weights to apply, learning everything needs no turns.
    let even = messages.iter().all(|m| m.weight == 1.0);
    let Turns { text, spans } = if loss_on == LossOn::All && even {
        Turns { text: tokenizer.render_chat(messages, GenerationPrompt::No)?, spans: Vec::new() }
    } else {
        assistant_turns(tokenizer, messages)?
    };
    let context = if loss_on == LossOn::All { 1.0 } else { 0.0 };
    let pieces = tokenizer.encode_pieces(&text)?;
    let loss_weights = pieces.iter().map(|piece| {
        let of = spans.iter().find(|s| piece.bytes.start < s.bytes.end && s.bytes.start < piece.bytes.end);
        of.map_or(context, |s| s.weight)
    });
    let loss_weights = loss_weights.collect();
    Ok(Weighted { ids: pieces.into_iter().map(|p| p.id).collect(), loss_weights, prompt_merges: false })
}

fn place(row: &Row) -> String {
    format!("{}:{}", row.place.file, row.place.line)
}

fn at_row(row: &Row, error: Error) -> Error {
    match error {
        Error::Input { place: inner, problem, expected } => {
            Error::Input { place: format!("{}: {inner}", place(row)), problem, expected }
        }
        other => other,
    }
}

fn expected(content: &RowContent, truncated: bool, max_length: usize) -> String {
    let what = match content {
        RowContent::Text(_) => "a text of at least one character",
        RowContent::PromptCompletion { .. } => "a completion after the prompt",
        RowContent::Chat(_) => "a message of role `assistant` with a weight above 0",
    };
    if truncated {
        format!("{what} within the first {max_length} tokens, or a larger --max-length")
    } else {
        what.into()
    }
}
