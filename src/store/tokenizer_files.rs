//! What a model's files say about its tokenizer, unparsed.

use serde_json::Value;

/// The tokenizer's part of a model's files.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // one exists per model
pub enum TokenizerFiles {
    /// A Hugging Face folder's files.
    Json {
        /// `tokenizer.json`, unparsed.
        tokenizer_json: Vec<u8>,
        /// `tokenizer_config.json`; null where there is none.
        tokenizer_config: Value,
        /// `chat_template.jinja`, else the template inside `tokenizer_config.json` (of several, the
        /// one named `default`).
        chat_template: Option<String>,
        /// `special_tokens_map.json`; null where there is none.
        special_tokens_map: Value,
    },
    /// The vocabulary inside a GGUF file.
    Gguf(GgufVocabulary),
}

impl TokenizerFiles {
    /// The Jinja source of the chat template.
    pub fn chat_template(&self) -> Option<&str> {
        match self {
            Self::Json { chat_template, .. } => chat_template.as_deref(),
            Self::Gguf(vocabulary) => vocabulary.chat_template.as_deref(),
        }
    }
}

/// A tokenizer as a GGUF file's `tokenizer.*` metadata describe it. Lists are as long as `tokens` or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary {
    /// Kind: `gpt2` (byte-level BPE) or `llama` (SentencePiece).
    pub model: String,
    /// Name of the pre-tokenizer: `smollm`, `llama-bpe`, `qwen2` …
    pub pre: Option<String>,
    /// Text of each token, by id.
    pub tokens: Vec<String>,
    /// Merge rules of BPE in order, two tokens with a space between.
    pub merges: Vec<String>,
    /// Score of each token, for SentencePiece.
    pub scores: Vec<f32>,
    /// Type of each token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<u32>,
    /// Begins a text.
    pub bos_id: Option<u32>,
    /// Ends a text.
    pub eos_id: Option<u32>,
    /// Ends a turn, where that is another token than `eos_id`.
    pub eot_id: Option<u32>,
    /// Fills.
    pub pad_id: Option<u32>,
    /// Stands for what the vocabulary lacks.
    pub unk_id: Option<u32>,
    /// Whether encoding puts `bos_id` first; `None` leaves it to the kind's default.
    pub add_bos: Option<bool>,
    /// Whether encoding puts `eos_id` last; `None` leaves it to the kind's default.
    pub add_eos: Option<bool>,
    /// Whether a space goes before the text; `None` leaves it to the kind's default.
    pub add_space_prefix: Option<bool>,
    /// Jinja source.
    pub chat_template: Option<String>,
}
