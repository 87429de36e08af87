//! Rows as tokens with loss weights.
//!
//! Ids and labels equal those of TRL's `SFTTrainer` (trl 1.16, `trainer/sft_trainer.py`): EOS ends a
//! text and a completion, a conversation ends as its template ends it; a completion begins where the
//! tokens of the prompt and of the whole row part. Where TRL trains on a row that has lost its answer,
//! the row is refused here.

use super::turns::{Turns, assistant_turns};
use super::{Encoded, Message, Row, RowContent};
use crate::config::{DataConfig, LossOn};
use crate::tokenizer::{AddSpecial, DecodeStream, SkipSpecial, Tokenizer};
use crate::{Error, Result};

/// Encodes a row and weights the tokens that `config.loss_on` asks for, cut at `config.max_length`.
///
/// # Errors
/// [`Error::Input`] naming the row: the model lacks EOS or a chat template, the template refuses the
/// conversation, or no token carries loss.
pub fn encode(row: &Row, tokenizer: &Tokenizer, config: &DataConfig) -> Result<Encoded> {
    let (ids, mut loss_weights) =
        weighted(&row.content, tokenizer, config.loss_on).map_err(|e| at_row(row, e))?;
    let n_tokens = ids.len();
    let truncated = n_tokens > config.max_length;
    let mut ids = ids;
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
    Ok(Encoded { ids, loss_weights, truncated })
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

/// Whether the last tokens of a row's prompt differ once the completion follows, because letters merge
/// across the boundary: the model then trains on another context than it is asked with. A prompt that
/// ends before a space avoids it. TRL warns about the same rows.
pub fn prompt_merges_into_completion(row: &Row, tokenizer: &Tokenizer) -> Result<bool> {
    let RowContent::PromptCompletion { prompt, completion } = &row.content else { return Ok(false) };
    let alone = tokenizer.encode(prompt, AddSpecial::No)?;
    let whole = tokenizer.encode(&format!("{prompt}{completion}"), AddSpecial::No)?;
    Ok(!whole.starts_with(&alone))
}

/// Ids of a row with the weight of each, before cutting.
fn weighted(content: &RowContent, tokenizer: &Tokenizer, loss_on: LossOn) -> Result<(Vec<u32>, Vec<f32>)> {
    match content {
        RowContent::Text(_) if loss_on == LossOn::Completions => Err(Error::input(
            "loss-on",
            "completions, but the row is plain text",
            "rows of `prompt` and `completion` or `messages`, or --loss-on auto",
        )),
        RowContent::Text(text) => {
            let ids = encode_ended(text, tokenizer)?;
            let weights = vec![1.0; ids.len()];
            Ok((ids, weights))
        }
        RowContent::PromptCompletion { prompt, completion } => {
            let ids = encode_ended(&format!("{prompt}{completion}"), tokenizer)?;
            let n_prompt = match loss_on {
                LossOn::All => 0,
                // The whole sequence is what counts; the prompt's own tokens only show where it ends.
                LossOn::Auto | LossOn::Completions => {
                    let alone = tokenizer.encode(prompt, AddSpecial::Yes)?;
                    // An EOS that the post-processor puts behind the prompt is none of the prompt's.
                    let same = alone.iter().zip(&ids).take_while(|(a, b)| a == b).count();
                    same.min(ids.len().saturating_sub(1)) // the end is always learned
                }
            };
            let weights = (0..ids.len()).map(|i| if i < n_prompt { 0.0 } else { 1.0 }).collect();
            Ok((ids, weights))
        }
        RowContent::Chat(messages) => chat(messages, tokenizer, loss_on),
    }
}

/// A text with what the tokenizer adds to texts and with EOS at its end, once.
fn encode_ended(text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let (Some(eos), Some(&eos_id)) = (tokenizer.eos_token(), tokenizer.eos_ids().first()) else {
        let expected = "one, so that the model learns where to stop";
        return Err(Error::input("tokenizer_config.json", "no eos_token", expected));
    };
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

/// The conversation is tokenised as one text, as a model sees it; a token carries loss if any byte of
/// it belongs to an assistant's turn.
fn chat(messages: &[Message], tokenizer: &Tokenizer, loss_on: LossOn) -> Result<(Vec<u32>, Vec<f32>)> {
    // Without weights to apply, learning everything needs no turns.
    let even = messages.iter().all(|m| m.weight == 1.0);
    let Turns { text, spans } = if loss_on == LossOn::All && even {
        let prompt = crate::tokenizer::GenerationPrompt::No;
        Turns { text: tokenizer.render_chat(messages, prompt)?, spans: Vec::new() }
    } else {
        assistant_turns(tokenizer, messages)?
    };
    let context = if loss_on == LossOn::All { 1.0 } else { 0.0 };
    let pieces = tokenizer.encode_pieces(&text)?;
    let weights = pieces.iter().map(|piece| {
        let of = spans.iter().find(|s| piece.bytes.start < s.bytes.end && s.bytes.start < piece.bytes.end);
        of.map_or(context, |s| s.weight)
    });
    let weights = weights.collect();
    Ok((pieces.into_iter().map(|p| p.id).collect(), weights))
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
