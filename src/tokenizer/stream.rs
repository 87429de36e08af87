//! Text of tokens as they come, without ever showing half a character.

use super::{SkipSpecial, Tokenizer};
use crate::Result;

/// Decodes token by token. What [`push`](Self::push) and [`finish`](Self::finish) return, joined, is
/// what decoding all tokens at once gives.
pub struct DecodeStream<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: SkipSpecial,
    /// The tokens of the last emission, kept because decoders treat a text's first token specially,
    /// then those held back.
    window: Vec<u32>,
    /// How many tokens of the window have been emitted.
    emitted: usize,
    /// Bytes of the window's text that have been emitted.
    emitted_bytes: usize,
}

impl<'t> DecodeStream<'t> {
    /// An empty stream.
    pub fn new(tokenizer: &'t Tokenizer, skip_special: SkipSpecial) -> Self {
        Self { tokenizer, skip_special, window: Vec::new(), emitted: 0, emitted_bytes: 0 }
    }

    /// The text that became certain with this token; empty while a character is incomplete.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.window.push(id);
        if self.skip_special == SkipSpecial::Yes && self.tokenizer.is_special(id) {
            return Ok(String::new()); // adds nothing, so it settles nothing that is held back
        }
        let text = self.tokenizer.decode(&self.window, self.skip_special)?;
        // A replacement character at the end is most likely the beginning of a character to come; and a
        // run of SentencePiece's byte tokens is read as one: an invalid byte spoils those before it.
        if text.len() <= self.emitted_bytes
            || text.ends_with('\u{FFFD}')
            || self.tokenizer.is_byte_fallback(id)
        {
            return Ok(String::new());
        }
        let new = text.get(self.emitted_bytes..).unwrap_or_default().to_string();
        self.window.drain(..self.emitted);
        self.emitted = self.window.len();
        self.emitted_bytes = self.tokenizer.decode(&self.window, self.skip_special)?.len();
        Ok(new)
    }

    /// What was held back, with U+FFFD for characters that stayed incomplete.
    pub fn finish(self) -> Result<String> {
        let text = self.tokenizer.decode(&self.window, self.skip_special)?;
        Ok(text.get(self.emitted_bytes..).unwrap_or_default().to_string())
    }
}
