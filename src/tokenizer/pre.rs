//! How a GGUF byte-level vocabulary cuts text into words before its merges, by `tokenizer.ggml.pre`.
//!
//! The names and patterns are those of llama.cpp (`src/llama-vocab.cpp`, `llm_tokenizer_bpe`) and of
//! transformers (`integrations/gguf/gguf_tokenizer_mapping.py`).

use crate::{Error, Result};
use serde_json::{Value, json};

/// What a pre-tokenizer's name stands for.
pub(super) struct PreTokenizer {
    /// The `pre_tokenizer` of tokenizer.json.
    pub json: Value,
    /// A word that is a token is not built by merges.
    pub ignore_merges: bool,
    /// Whether a text begins with BOS when the file does not say.
    pub add_bos: bool,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const SUPPORTED: &str = "default, gpt-2, smollm, starcoder, refact, command-r, codeshell, llama3, llama-v3, llama-bpe, \
                         falcon3, smaug-bpe, dbrx, tekken, qwen2, deepseek-r1-qwen, megrez";

/// The pre-tokenizer of a name; without a name, GPT-2's.
pub(super) fn pre_tokenizer(name: Option<&str>) -> Result<PreTokenizer> {
    let plain = |json| PreTokenizer { json, ignore_merges: false, add_bos: false };
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let sequence = |first: Value, then: Value| json!({"type": "Sequence", "pretokenizers": [first, then]});
    let split = |pattern: &str| {
        let cut =
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        sequence(cut, bytes(false))
    };
    Ok(match name.unwrap_or("default") {
        "default" | "gpt-2" => plain(bytes(true)),
        // SmolLM's own tokenizer.json cuts digits apart first, and so does llama.cpp. transformers' GGUF
        // reader does not: it differs after a run of spaces before a digit.
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
            plain(sequence(json!({"type": "Digits", "individual_digits": true}), bytes(true)))
        }
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" => {
            PreTokenizer { json: split(LLAMA3), ignore_merges: true, add_bos: true }
        }
        "smaug-bpe" | "dbrx" => plain(split(LLAMA3)),
        "tekken" => PreTokenizer { json: split(TEKKEN), ignore_merges: true, add_bos: true },
        "qwen2" | "deepseek-r1-qwen" | "megrez" => plain(split(QWEN2)),
        other => {
            return Err(Error::Unsupported {
                what: format!("GGUF pre-tokenizer `{other}`"),
                supported: SUPPORTED.into(),
            });
        }
    })
}
