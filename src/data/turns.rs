//! Where the assistant's turns stand in a rendered conversation.
//!
//! A turn is what the model has to write itself: from the end of the prompt it would be given (the
//! conversation so far, rendered with the generation prompt) to the turn's end token. Templates may
//! trim contents, rewrite earlier turns or drop thoughts, so nothing is searched for in the text.
//! Instead the conversation is rendered again with the content replaced by a marker: what stands
//! behind the marker is what follows the answer. Every such conclusion is checked against the text
//! itself, and a template that defies them is refused.

use super::Message;
use crate::tokenizer::{GenerationPrompt, Tokenizer};
use crate::{Error, Result};
use std::ops::Range;

/// A conversation as text, and the parts of it that the assistant writes.
pub(super) struct Turns {
    pub text: String,
    pub spans: Vec<Span>,
}

/// One assistant's turn: content and end token, as bytes of the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub bytes: Range<usize>,
    pub weight: f32,
}

/// Renders a conversation and finds the assistant's turns.
pub(super) fn assistant_turns(tokenizer: &Tokenizer, messages: &[Message]) -> Result<Turns> {
    let full = tokenizer.render_chat_spans(messages, GenerationPrompt::No)?;
    let turns: Vec<usize> = (0..messages.len()).filter(|&i| messages[i].role == "assistant").collect();
    let finder = Finder { tokenizer, messages, text: &full.text };
    let mut spans = Vec::with_capacity(turns.len());
    match &full.generated {
        Some(marked) if !marked.is_empty() => {
            // Blocks are told apart by number: one for each turn, or all of one weight.
            let one_each = marked.len() == turns.len();
            let same = turns.windows(2).all(|w| messages[w[0]].weight == messages[w[1]].weight);
            if turns.is_empty() || !(one_each || same) {
                return Err(refused(format!(
                    "marks {} spans in {} assistant turns of different weights",
                    marked.len(),
                    turns.len()
                )));
            }
            for (n, span) in marked.iter().enumerate() {
                let end = match turns.get(n) {
                    Some(&i) if one_each => finder.end_of_marked(i, n, span)?,
                    _ => span.end,
                };
                let weight = messages[turns[n.min(turns.len() - 1)]].weight;
                spans.push(Span { bytes: span.start..end, weight });
            }
        }
        _ => {
            for &i in &turns {
                let bytes = finder.find(i)?;
                spans.push(Span { bytes, weight: messages[i].weight });
            }
        }
    }
    if let Some(pair) = spans.windows(2).find(|pair| pair[1].bytes.start < pair[0].bytes.end) {
        return Err(refused(format!(
            "writes assistant turns over each other at byte {}",
            pair[1].bytes.start
        )));
    }
    Ok(Turns { text: full.text, spans })
}

fn refused(problem: String) -> Error {
    Error::input(
        "chat template",
        problem,
        "a template that writes each assistant turn once, or marks it with {% generation %}",
    )
}

struct Finder<'a> {
    tokenizer: &'a Tokenizer,
    messages: &'a [Message],
    text: &'a str,
}

impl Finder<'_> {
    /// The turn of message `i`.
    fn find(&self, i: usize) -> Result<Range<usize>> {
        let unclear = |what: &str| refused(format!("{what} of message {} (assistant) cannot be told", i + 1));
        let marker = self.marker();
        let (before, after) = self.split_at_marker(self.messages, i, &marker)?.ok_or_else(|| {
            refused(format!("does not write the content of message {} exactly once", i + 1))
        })?;
        let Some(content_end) = self.text.strip_suffix(after.as_str()).map(str::len) else {
            return Err(unclear("the end"));
        };
        let start = match self.prompt(i) {
            Some(prompt) => prompt,
            None if self.text.starts_with(&before) => before.len(),
            None => return Err(unclear("the beginning")),
        };
        if start > content_end {
            return Err(unclear("the beginning"));
        }
        let tail = self.split_at_marker(&self.messages[..=i], i, &marker).ok().flatten();
        let end = tail.map_or(Ok(0), |(_, tail)| self.end_within(&tail, &after, true))?;
        Ok(start..content_end + end)
    }

    /// The end of block `n`, which belongs to message `i`, with the end token that the template may
    /// have left outside of it.
    fn end_of_marked(&self, i: usize, n: usize, span: &Range<usize>) -> Result<usize> {
        let so_far = self.tokenizer.render_chat_spans(&self.messages[..=i], GenerationPrompt::No);
        let tail = so_far.ok().and_then(|r| {
            let end = r.generated.as_ref().and_then(|spans| spans.get(n))?.end;
            Some(r.text[end..].to_string())
        });
        let inside = self.special_ends(&self.text[span.clone()])?;
        if inside.last() == Some(&span.len()) {
            return Ok(span.end); // the block ends with its end token
        }
        let more = tail.map_or(Ok(0), |tail| self.end_within(&tail, &self.text[span.end..], false))?;
        Ok(span.end + more)
    }

    /// Length of the prompt of message `i`, where the text begins with it and the template knows
    /// generation prompts.
    fn prompt(&self, i: usize) -> Option<usize> {
        let render = |prompt| self.tokenizer.render_chat(&self.messages[..i], prompt).ok();
        let prompt = render(GenerationPrompt::Yes)?;
        let opens_turn = render(GenerationPrompt::No)? != prompt;
        (opens_turn && self.text.starts_with(&prompt)).then_some(prompt.len())
    }

    /// What stands before and after the content of message `i`; `None` where it is not written once.
    fn split_at_marker(
        &self,
        messages: &[Message],
        i: usize,
        marker: &str,
    ) -> Result<Option<(String, String)>> {
        let mut messages = messages.to_vec();
        messages[i].content = marker.to_string();
        let text = self.tokenizer.render_chat(&messages, GenerationPrompt::No)?;
        let mut parts = text.split(marker);
        Ok(match (parts.next(), parts.next(), parts.next()) {
            (Some(before), Some(after), None) => Some((before.to_string(), after.to_string())),
            _ => None,
        })
    }

    /// A word that stands in no message and that no template would trim.
    fn marker(&self) -> String {
        let mut marker = String::from("Xcontent0X");
        let mut n = 0;
        while self.messages.iter().any(|m| m.content.contains(&marker)) || self.text.contains(&marker) {
            n += 1;
            marker = format!("Xcontent{n}X");
        }
        marker
    }

    /// How much of what follows the content belongs to the turn. `tail` follows it where the turn is
    /// the conversation's last, `after` in this conversation: what both begin with is the turn's own.
    /// It ends with its last special token; without one, a `plain` terminator is learned as a whole.
    fn end_within(&self, tail: &str, after: &str, plain: bool) -> Result<usize> {
        let same = tail.chars().zip(after.chars()).take_while(|(a, b)| a == b);
        let common: usize = same.map(|(c, _)| c.len_utf8()).sum();
        let ends = self.special_ends(tail)?;
        let last = ends.into_iter().rfind(|&end| end <= common);
        Ok(last.unwrap_or(if plain && common == tail.len() { common } else { 0 }))
    }

    /// Where the special tokens of a text end, in bytes.
    fn special_ends(&self, text: &str) -> Result<Vec<usize>> {
        let pieces = self.tokenizer.encode_pieces(text)?;
        Ok(pieces.into_iter().filter(|p| self.tokenizer.is_special(p.id)).map(|p| p.bytes.end).collect())
    }
}
