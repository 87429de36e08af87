//! A GGUF file's vocabulary as `tokenizer.json` and `tokenizer_config.json`.
//!
//! A GGUF file carries tokens, merges and scores but not the pipeline around them; that follows from
//! the vocabulary's kind and, for byte-level ones, its pre-tokenizer's name. The rules are those of
//! transformers (`integrations/gguf/gguf_tokenizer_mapping.py`) and llama.cpp (`src/llama-vocab.cpp`).

use super::pre;
use crate::store::tokenizer_files::GgufVocabulary;
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

const NORMAL: u32 = 1;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;
/// SentencePiece's sign for a space.
const SPACE: &str = "\u{2581}";

/// The `tokenizer.json` of a vocabulary.
///
/// # Errors
/// [`Error::Input`] where the lists contradict each other, all of them at once; [`Error::Unsupported`]
/// for other kinds than `gpt2` and `llama`.
pub fn tokenizer_json(vocabulary: &GgufVocabulary) -> Result<Vec<u8>> {
    check(vocabulary)?;
    let parts = match vocabulary.model.as_str() {
        "gpt2" => byte_level(vocabulary)?,
        "llama" => sentencepiece(vocabulary)?,
        other => {
            return Err(Error::Unsupported {
                what: format!("GGUF tokenizer `{other}`"),
                supported: "gpt2 (byte-level BPE), llama (SentencePiece)".into(),
            });
        }
    };
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(vocabulary),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": post_processor(vocabulary, parts.add_bos),
        "decoder": parts.decoder,
        "model": parts.model,
    });
    serde_json::to_vec(&json).map_err(|e| Error::Internal(format!("tokenizer.json: {e}")))
}

/// The `tokenizer_config.json` of a vocabulary: its special tokens by name.
pub fn tokenizer_config(vocabulary: &GgufVocabulary) -> Result<Value> {
    let mut config = Map::new();
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    for (name, id) in named(vocabulary) {
        config.insert(name.into(), json!(token(vocabulary, id)));
    }
    Ok(Value::Object(config))
}

fn named(v: &GgufVocabulary) -> impl Iterator<Item = (&'static str, u32)> {
    [("bos_token", v.bos_id), ("eos_token", v.eos_id), ("pad_token", v.pad_id), ("unk_token", v.unk_id)]
        .into_iter()
        .filter_map(|(name, id)| Some((name, id?)))
}

fn token(v: &GgufVocabulary, id: u32) -> &str {
    v.tokens.get(id as usize).map_or("", String::as_str)
}

fn check(v: &GgufVocabulary) -> Result<()> {
    let n_tokens = v.tokens.len();
    let mut errors = Vec::new();
    if n_tokens == 0 {
        errors.push(Error::input("tokenizer.ggml.tokens", "empty or absent", "a list of tokens"));
    }
    for (key, len) in [("scores", v.scores.len()), ("token_type", v.token_types.len())] {
        if len != 0 && len != n_tokens {
            let expected = format!("{n_tokens}, one for each token");
            errors.push(Error::input(format!("tokenizer.ggml.{key}"), format!("{len} entries"), expected));
        }
    }
    let eot = v.eot_id.map(|id| ("eot_token", id));
    for (name, id) in named(v).chain(eot).filter(|&(_, id)| id as usize >= n_tokens) {
        let expected = format!("an id below {n_tokens}");
        errors.push(Error::input(format!("tokenizer.ggml.{name}_id"), id.to_string(), expected));
    }
    Error::all(errors)
}

/// The parts of a tokenizer.json that depend on the vocabulary's kind.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
    /// Whether a text begins with BOS when the file does not say.
    add_bos: bool,
}

fn byte_level(v: &GgufVocabulary) -> Result<Parts> {
    let alphabet = byte_alphabet();
    let letters: std::collections::HashSet<char> = alphabet.iter().copied().collect();
    let spelled = v.tokens.iter().enumerate().map(|(id, token)| {
        // Added tokens are matched as written; a plain token outside the alphabet is its bytes' spelling.
        let spelling = if is_added(v, id) || token.chars().all(|c| letters.contains(&c)) {
            token.clone()
        } else {
            token.bytes().map(|byte| alphabet[usize::from(byte)]).collect()
        };
        (spelling, json!(id))
    });
    let vocab: Map<String, Value> = spelled.collect();
    let merges = listed_merges(v)?;
    let pre = pre::pre_tokenizer(v.pre.as_deref())?;
    Ok(Parts {
        normalizer: Value::Null,
        pre_tokenizer: pre.json,
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": pre.ignore_merges, "vocab": vocab, "merges": merges,
        }),
        add_bos: pre.add_bos,
    })
}

fn sentencepiece(v: &GgufVocabulary) -> Result<Parts> {
    // Gemma's files ask for no space before the text; they also spell runs of spaces as spaces.
    let prefix_space = v.add_space_prefix.unwrap_or(true);
    let tokens: Vec<String> = v
        .tokens
        .iter()
        .map(|t| if t.len() > 1 && t.bytes().all(|b| b == b' ') { SPACE.repeat(t.len()) } else { t.clone() })
        .collect();
    let merges =
        if v.merges.is_empty() { implied_merges(v, &tokens, prefix_space)? } else { listed_merges(v)? };
    let vocab: Map<String, Value> = tokens.iter().enumerate().map(|(id, t)| (t.clone(), json!(id))).collect();
    let unk = v.unk_id.map(|id| token(v, id).to_string());
    let mut decoder = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    let (normalizer, pre_tokenizer) = if prefix_space {
        decoder.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        let metaspace =
            json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": false});
        (Value::Null, metaspace)
    } else {
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
        let split = json!({
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false,
        });
        (replace, split)
    };
    Ok(Parts {
        normalizer,
        pre_tokenizer,
        decoder: json!({"type": "Sequence", "decoders": decoder}),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": unk, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        }),
        add_bos: true,
    })
}

fn listed_merges(v: &GgufVocabulary) -> Result<Vec<[&str; 2]>> {
    let parts = v.merges.iter().enumerate().map(|(i, merge)| {
        // A part may itself hold a space only behind the first character: newer files spell merges so.
        let cut = merge.char_indices().skip(1).find(|&(_, c)| c == ' ').map(|(at, _)| at);
        let (left, right) = match cut {
            Some(at) if at + 1 < merge.len() => (&merge[..at], &merge[at + 1..]),
            _ => {
                let place = format!("tokenizer.ggml.merges, entry {i}");
                return Err(Error::input(place, format!("`{merge}`"), "two tokens with a space between"));
            }
        };
        Ok([left, right])
    });
    parts.collect()
}

/// The merges of a SentencePiece vocabulary without any: each cut of a token into two tokens, the best
/// token first. Best is the highest score; where no space goes before the text (Gemma) the scores do
/// not follow the order in which the tokens were learned, and the ids do.
fn implied_merges<'t>(v: &GgufVocabulary, tokens: &'t [String], by_score: bool) -> Result<Vec<[&'t str; 2]>> {
    if by_score && v.scores.is_empty() {
        let expected = "scores, or `tokenizer.ggml.merges`";
        return Err(Error::input("tokenizer.ggml.scores", "empty or absent", expected));
    }
    let known: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, t)| (t.as_str(), id)).collect();
    let mut found = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        if v.token_types.get(id).is_some_and(|&kind| kind != NORMAL && kind != USER_DEFINED) {
            continue;
        }
        let score = if by_score { v.scores[id] } else { -(id as f32) };
        for (n_left, (at, _)) in token.char_indices().enumerate().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(_), Some(_)) = (known.get(left), known.get(right)) {
                found.push((score, n_left, [left, right]));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    Ok(found.into_iter().map(|(.., pair)| pair).collect())
}

fn is_added(v: &GgufVocabulary, id: usize) -> bool {
    v.token_types.get(id).is_some_and(|&kind| kind == CONTROL || kind == USER_DEFINED)
        || named(v).any(|(name, named_id)| name != "unk_token" && named_id as usize == id)
}

/// Tokens that are matched whole before anything else; control tokens are special.
fn added_tokens(v: &GgufVocabulary) -> Vec<Value> {
    let added = v.tokens.iter().enumerate().filter(|&(id, text)| is_added(v, id) && !text.is_empty());
    added
        .map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": v.token_types.get(id) != Some(&USER_DEFINED),
            })
        })
        .collect()
}

fn post_processor(v: &GgufVocabulary, add_bos_by_default: bool) -> Value {
    let bos = v.bos_id.filter(|_| v.add_bos.unwrap_or(add_bos_by_default));
    let eos = v.eos_id.filter(|_| v.add_eos.unwrap_or(false));
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let special = |id: u32, sequence: u8| json!({"SpecialToken": {"id": token(v, id), "type_id": sequence}});
    let around = |name: &str, sequence: u8| {
        let text = json!({"Sequence": {"id": name, "type_id": sequence}});
        let before = bos.map(|id| special(id, sequence));
        before.into_iter().chain([text]).chain(eos.map(|id| special(id, sequence))).collect::<Vec<_>>()
    };
    let ids: Map<String, Value> = bos
        .into_iter()
        .chain(eos)
        .map(|id| (token(v, id).into(), json!({"id": token(v, id), "ids": [id], "tokens": [token(v, id)]})))
        .collect();
    let pair = [around("A", 0), around("B", 1)].concat();
    json!({"type": "TemplateProcessing", "single": around("A", 0), "pair": pair, "special_tokens": ids})
}

/// GPT-2's letter for each byte: printable ones stand for themselves, the rest for U+0100 and up
/// (openai/gpt-2, `src/encoder.py`, `bytes_to_unicode`).
fn byte_alphabet() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        if matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) {
            return char::from(byte as u8);
        }
        next += 1;
        char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
    })
}
