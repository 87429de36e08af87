//! Text to token ids and back, and conversations to text.
//!
//! A tokenizer comes from `tokenizer.json` or from a GGUF file's vocabulary ([`gguf`]); both end as
//! the same `tokenizers` pipeline and leave again as files that transformers loads ([`export`]).
//! Special tokens have one source: whatever the post-processor would add is added here, once, and
//! never beside one that the text already holds.

mod config;
pub mod export;
pub mod gguf;
mod pre;
mod python;
pub mod stream;
pub mod template;

pub use stream::DecodeStream;
pub use template::{GenerationPrompt, Rendered};

use crate::data::Message;
use crate::store::tokenizer_files::TokenizerFiles;
use crate::{Error, Result};
use config::SpecialTokens;
use serde_json::Value;
use std::ops::Range;
use template::ChatTemplate;
use tokenizers::AddedToken;

/// Whether encoding adds what the tokenizer's post-processor adds: BOS before, EOS after, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddSpecial {
    /// As `tokenizer(text)` does in transformers.
    Yes,
    /// As `add_special_tokens=False` does.
    No,
}

/// Whether decoding leaves special tokens out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipSpecial {
    /// Only text.
    Yes,
    /// Special tokens as they are written.
    No,
}

/// A token and the bytes of the text it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Token id.
    pub id: u32,
    /// Bytes of the encoded text; tokens that share a character share its bytes.
    pub bytes: Range<usize>,
}

/// A model's tokenizer with its special tokens and chat template.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// What the post-processor puts before and after a text.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    special: SpecialTokens,
    bos_id: Option<u32>,
    eos_ids: Vec<u32>,
    pad_id: u32,
    template: Option<ChatTemplate>,
    tokenizer_json: Vec<u8>,
    tokenizer_config: Value,
}

impl Tokenizer {
    /// Builds the tokenizer of a model.
    ///
    /// # Errors
    /// [`Error::Input`] for a broken or contradictory file, by name; [`Error::Unsupported`] for a GGUF
    /// vocabulary of an unknown kind.
    pub fn from_files(files: &TokenizerFiles) -> Result<Self> {
        match files {
            TokenizerFiles::Json { tokenizer_json, tokenizer_config, chat_template, special_tokens_map } => {
                let special = SpecialTokens::read(tokenizer_config, special_tokens_map)?;
                Self::new(tokenizer_json.clone(), tokenizer_config.clone(), special, chat_template.clone())
            }
            TokenizerFiles::Gguf(vocabulary) => {
                let tokenizer_json = gguf::tokenizer_json(vocabulary)?;
                let tokenizer_config = gguf::tokenizer_config(vocabulary)?;
                let special = SpecialTokens::read(&tokenizer_config, &Value::Null)?;
                let mut built =
                    Self::new(tokenizer_json, tokenizer_config, special, vocabulary.chat_template.clone())?;
                built.extend_eos(vocabulary.eot_id);
                Ok(built)
            }
        }
    }

    fn new(
        tokenizer_json: Vec<u8>,
        tokenizer_config: Value,
        special: SpecialTokens,
        template: Option<String>,
    ) -> Result<Self> {
        const FILE: &str = "tokenizer.json";
        let broken = |e: tokenizers::Error| {
            Error::input(FILE, e.to_string(), "a tokenizer of the `tokenizers` library, version 1.0")
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(&tokenizer_json).map_err(broken)?;
        // Cutting and filling are the batches' work; a tokenizer.json may carry either from its training.
        inner.with_truncation(None).map_err(broken)?.with_padding(None);
        let mut ids = Vec::new();
        for (name, text) in special.named() {
            let Some(id) = inner.token_to_id(text) else {
                if name == "pad_token" || name == "unk_token" {
                    continue; // never read from text; padding falls back to EOS
                }
                return Err(Error::input(
                    "tokenizer_config.json",
                    format!("{name} `{text}` is not in the vocabulary"),
                    format!("a token of {FILE}"),
                ));
            };
            ids.push((name, id));
            // A named special token is one token wherever it is written (transformers does the same).
            if !inner.get_added_vocabulary().is_special_token(text) {
                inner.add_special_tokens([AddedToken::from(text, true)]).map_err(broken)?;
            }
        }
        let id_of = |wanted: &str| ids.iter().find(|(name, _)| *name == wanted).map(|&(_, id)| id);
        let (bos_id, eos_id) = (id_of("bos_token"), id_of("eos_token"));

        let (mut prefix, mut suffix) = added_by_post_processor(&inner).map_err(broken)?;
        if let Some(add) = special.add_bos {
            prefix = bos_id.filter(|_| add).into_iter().collect();
        }
        if let Some(add) = special.add_eos {
            suffix = eos_id.filter(|_| add).into_iter().collect();
        }
        // What it adds is known now; without it the offsets of white space stay whole.
        inner.with_post_processor(None::<tokenizers::PostProcessorWrapper>);

        let template = template.map(|source| ChatTemplate::new(&source, special.named())).transpose()?;
        Ok(Self {
            prefix,
            suffix,
            bos_id,
            eos_ids: eos_id.into_iter().collect(),
            pad_id: id_of("pad_token").or(eos_id).unwrap_or(0),
            special,
            template,
            tokenizer_json,
            tokenizer_config,
            inner,
        })
    }

    /// Token ids of a text.
    pub fn encode(&self, text: &str, add_special: AddSpecial) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| encode_error(&e))?;
        let ids = encoding.get_ids();
        if add_special == AddSpecial::No {
            return Ok(ids.to_vec());
        }
        let prefix: &[u32] = if ids.starts_with(&self.prefix) { &[] } else { &self.prefix };
        let suffix: &[u32] = if ids.ends_with(&self.suffix) { &[] } else { &self.suffix };
        Ok([prefix, ids, suffix].concat())
    }

    /// Tokens of a text with the bytes they stand for; adds no special tokens.
    pub fn encode_pieces(&self, text: &str) -> Result<Vec<Piece>> {
        let encoding = self.inner.encode(text, false).map_err(|e| encode_error(&e))?;
        let offsets = encoding.get_offsets().iter();
        Ok(encoding
            .get_ids()
            .iter()
            .zip(offsets)
            .map(|(&id, &(from, to))| Piece { id, bytes: from..to })
            .collect())
    }

    /// Text of token ids. Bytes that are no UTF-8 become U+FFFD, as in transformers.
    pub fn decode(&self, ids: &[u32], skip_special: SkipSpecial) -> Result<String> {
        self.inner
            .decode(ids, skip_special == SkipSpecial::Yes)
            .map_err(|e| Error::Internal(format!("decoding {} tokens: {e}", ids.len())))
    }

    /// Begins a text.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos_id
    }

    /// Tokens that end a generation; the first is the `eos_token`.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// Adds ends of generation that the model's other files name.
    pub fn extend_eos(&mut self, ids: impl IntoIterator<Item = u32>) {
        for id in ids {
            if !self.eos_ids.contains(&id) {
                self.eos_ids.push(id);
            }
        }
    }

    /// The `eos_token` as text.
    pub fn eos_token(&self) -> Option<&str> {
        self.special.eos.as_deref()
    }

    /// Fills short rows: the `pad_token`, else the `eos_token`.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Id of a token by its text.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether decoding with [`SkipSpecial::Yes`] leaves this token out.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id).is_some_and(|t| t.special)
    }

    /// Whether a token stands for one byte of a character that the vocabulary lacks: `<0xE2>`.
    fn is_byte_fallback(&self, id: u32) -> bool {
        let token = self.inner.id_to_token(id).unwrap_or_default();
        token.len() == 6 && token.starts_with("<0x") && token.ends_with('>')
    }

    /// Whether the model says how a conversation is written.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Makes the chat template's time stand still, at `unix_secs` or at the present; nothing changes where the
    /// template does not ask for the time.
    pub fn stop_template_clock(&mut self, unix_secs: Option<u64>) {
        if let Some(template) = &mut self.template {
            template.stop_clock(unix_secs);
        }
    }

    /// The time at which the chat template's clock stands, in seconds of Unix; `None` while it runs or where there
    /// is none.
    pub fn template_time(&self) -> Option<u64> {
        self.template.as_ref().and_then(ChatTemplate::time)
    }

    /// A conversation as text.
    pub fn render_chat(&self, messages: &[Message], prompt: GenerationPrompt) -> Result<String> {
        Ok(self.render_chat_spans(messages, prompt)?.text)
    }

    /// A conversation as text, with the spans inside `{% generation %}` where the template marks them.
    pub fn render_chat_spans(&self, messages: &[Message], prompt: GenerationPrompt) -> Result<Rendered> {
        let template = self.template.as_ref().ok_or_else(|| {
            Error::input(
                "tokenizer_config.json",
                "the model has no chat template",
                "a model tuned for conversations, or rows of `prompt` and `completion`",
            )
        })?;
        template.render(messages, prompt)
    }
}

/// What the post-processor puts before and after any text.
fn added_by_post_processor(inner: &tokenizers::Tokenizer) -> tokenizers::Result<(Vec<u32>, Vec<u32>)> {
    let plain = inner.encode_fast("a", false)?;
    let with = inner.encode_fast("a", true)?;
    let (plain, with) = (plain.get_ids(), with.get_ids());
    let before = (0..=with.len().saturating_sub(plain.len())).find(|&n| with[n..].starts_with(plain));
    Ok(before.map_or((Vec::new(), Vec::new()), |n| (with[..n].to_vec(), with[n + plain.len()..].to_vec())))
}

fn encode_error(e: &tokenizers::Error) -> Error {
    Error::input("tokenizer.json", format!("cannot encode: {e}"), "a vocabulary that covers every text")
}
