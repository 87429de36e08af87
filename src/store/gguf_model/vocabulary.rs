//! The tokenizer's part of the metadata.

use crate::store::gguf::Metadata;
use crate::store::tokenizer_files::GgufVocabulary;
use crate::{Error, Result};

/// The vocabulary, or `None` where the file has none; lists and ids are checked against its length.
pub(super) fn read(metadata: &Metadata) -> Result<Option<GgufVocabulary>> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    let text = |key: &str| Ok::<_, Error>(metadata.string(key)?.map(str::to_owned));
    let Some(model) = text("tokenizer.ggml.model")?.filter(|model| model != "none" && model != "no_vocab")
    else {
        return Ok(None);
    };
    let tokens = metadata.strings(TOKENS)?.ok_or_else(|| metadata.missing(TOKENS))?.to_vec();
    let id = |name: &str| token_id(metadata, &format!("tokenizer.ggml.{name}_token_id"), tokens.len());
    let types = per_token(metadata, "tokenizer.ggml.token_type", tokens.len(), "token types", |number| {
        (number >= 0.0 && number.fract() == 0.0).then_some(number as u32)
    })?;
    let scores =
        per_token(metadata, "tokenizer.ggml.scores", tokens.len(), "scores", |number| Some(number as f32))?;
    Ok(Some(GgufVocabulary {
        model,
        pre: text("tokenizer.ggml.pre")?,
        merges: metadata.strings("tokenizer.ggml.merges")?.unwrap_or_default().to_vec(),
        scores,
        token_types: types,
        bos_id: id("bos")?,
        eos_id: id("eos")?,
        eot_id: id("eot")?,
        pad_id: id("padding")?,
        unk_id: id("unknown")?,
        add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
        add_eos: metadata.bool("tokenizer.ggml.add_eos_token")?,
        add_space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix")?,
        chat_template: text("tokenizer.chat_template")?,
        tokens,
    }))
}

/// A special token's id. The largest u32, which is −1, says that there is none.
fn token_id(metadata: &Metadata, key: &str, n_tokens: usize) -> Result<Option<u32>> {
    match metadata.u32(key)?.filter(|&id| id != u32::MAX) {
        Some(id) if id as usize >= n_tokens => {
            let expected = format!("an id below the vocabulary's {n_tokens} tokens");
            Err(Error::input(metadata.place(key), id.to_string(), expected))
        }
        id => Ok(id),
    }
}

/// A list with one number for each token; empty where there is none.
fn per_token<T>(
    metadata: &Metadata,
    key: &str,
    n_tokens: usize,
    expected: &str,
    convert: impl Fn(f64) -> Option<T>,
) -> Result<Vec<T>> {
    let Some(numbers) = metadata.numbers(key)? else { return Ok(vec![]) };
    let converted: Option<Vec<T>> = numbers.iter().map(|number| number.as_f64().and_then(&convert)).collect();
    converted.filter(|list| list.len() == n_tokens).ok_or_else(|| {
        let problem = format!("a list of {} values", numbers.iter().len());
        Error::input(metadata.place(key), problem, format!("{n_tokens} {expected}, one for each token"))
    })
}
