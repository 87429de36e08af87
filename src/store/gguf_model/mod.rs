//! A GGUF file as the Hugging Face folder it was converted from: config, tensor names, orientation
//! and vocabulary.
//!
//! llama.cpp's converter (`convert_hf_to_gguf.py`) renames tensors, reorders Llama's query and key
//! rows, adds one to Gemma's norm weights and transposes GPT-2's matrices; this undoes it, as
//! transformers does (`modeling_gguf_pytorch_utils.py`).

mod config;
mod names;
mod rope;
mod vocabulary;

#[cfg(test)]
mod tests;

use super::gguf::{self, Entry, Header, Metadata};
use super::tokenizer_files::GgufVocabulary;
use super::{HostPacked, HostTensor, Store, TensorInfo, tensor_place};
use crate::{Error, Result};
use indexmap::IndexMap;
use names::{Name, Restore};
use serde_json::Value;

/// Architectures that are read, by GGUF's `general.architecture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
    Gemma3,
    Gpt2,
}

impl Architecture {
    fn of(metadata: &Metadata) -> Result<Self> {
        const KEY: &str = "general.architecture";
        let name = metadata.string(KEY)?.ok_or_else(|| metadata.missing(KEY))?;
        match name {
            "llama" => Ok(Self::Llama),
            "qwen2" => Ok(Self::Qwen2),
            "qwen3" => Ok(Self::Qwen3),
            "gemma3" => Ok(Self::Gemma3),
            "gpt2" => Ok(Self::Gpt2),
            other => {
                let what = format!("{}: architecture {}", metadata.file, super::shortened(other));
                Err(Error::Unsupported { what, supported: "llama, qwen2, qwen3, gemma3, gpt2".into() })
            }
        }
    }

    /// The prefix of the architecture's metadata keys.
    fn prefix(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
            Self::Gpt2 => "gpt2",
        }
    }
}

/// A model in a GGUF file, under Hugging Face's names.
#[derive(Clone, Debug)]
pub struct GgufModel {
    /// In the shape of `config.json`.
    pub config: Value,
    /// The licence that the file states.
    pub license: Option<String>,
    /// `None` where the file has none.
    pub vocabulary: Option<GgufVocabulary>,
    key: String,
    tensors: IndexMap<String, Converted>,
}

/// A tensor that the converter changed, and how to change it back.
#[derive(Clone, Debug)]
struct Converted {
    /// As transformers has it.
    info: TensorInfo,
    /// Name in the file.
    name: String,
    entry: Entry,
    restore: Restore,
}

impl GgufModel {
    /// Reads and checks the header of the file `key`.
    pub async fn open(store: &impl Store, key: &str) -> Result<Self> {
        let header = gguf::read_header(store, key).await?;
        if header.metadata.u32("split.count")?.is_some_and(|n_files| n_files > 1) {
            let what = format!("{key}: one part of a split GGUF");
            return Err(Error::Unsupported { what, supported: "a model in a single GGUF file".into() });
        }
        let architecture = Architecture::of(&header.metadata)?;
        let vocabulary = vocabulary::read(&header.metadata)?;
        let mut config = config::Config::read(architecture, &header, vocabulary.as_ref())?;
        if let Some(entry) = header.tensors.get(rope::FACTORS) {
            rope::check_length(&entry.info, &config, key)?;
            let divisors = entry.read(store, key, rope::FACTORS).await?;
            config.rope_scaling = rope::llama3_scaling(&divisors.values, &config, key)?;
        }
        let tensors = converted(&header, &config)?;
        let config = config.to_json();
        let license = header.metadata.string("general.license").ok().flatten().map(super::shortened);
        Ok(Self { config, license, vocabulary, key: key.to_owned(), tensors })
    }

    /// Names as in transformers, in the file's order.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape as in transformers, type as in the file.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|tensor| &tensor.info)
    }

    /// Reads a tensor, as transformers has it; `None` where there is none of that name.
    pub async fn tensor(&self, store: &impl Store, name: &str) -> Result<Option<HostTensor>> {
        let Some(tensor) = self.tensors.get(name) else { return Ok(None) };
        let read = tensor.entry.read(store, &self.key, &tensor.name).await?;
        Ok(Some(tensor.restore.apply(read)))
    }

    /// Whether a tensor's rows are rows of the file, unchanged.
    pub fn keeps_rows(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|tensor| tensor.restore.source_rows(1).is_some())
    }

    /// Reads a matrix in few bits, with the values that [`Self::tensor`] would have; `None` where it has no such form.
    pub async fn packed(&self, store: &impl Store, name: &str) -> Result<Option<HostPacked>> {
        let Some(tensor) = self.tensors.get(name) else { return Ok(None) };
        let rows = tensor.info.shape.first().copied().unwrap_or(0);
        let Some(source) = tensor.restore.source_rows(rows) else { return Ok(None) };
        let source = (tensor.restore != Restore::Keep).then_some(source);
        tensor.entry.read_packed(store, &self.key, &tensor.name, source).await
    }
}

/// Names and restores every tensor of the file; those that have no place in the architecture are refused.
fn converted(header: &Header, config: &config::Config) -> Result<IndexMap<String, Converted>> {
    const MAX_LISTED: usize = 20;
    let file = &header.metadata.file;
    let mut tensors = IndexMap::new();
    let mut mistakes = Vec::new();
    for (name, entry) in &header.tensors {
        let place = tensor_place(file, name);
        match names::transformers_name(name, config) {
            Name::Skip => {}
            Name::Unknown => {
                let expected = format!("tensors of architecture {}", config.architecture.prefix());
                mistakes.push(Error::input(place, "unknown name", expected));
            }
            Name::Known(known, restore) => match restore.shape(&entry.info.shape) {
                Ok(shape) => {
                    let info = TensorInfo { shape, ..entry.info.clone() };
                    let (name, entry) = (name.clone(), entry.clone());
                    tensors.insert(known, Converted { info, name, entry, restore });
                }
                Err(expected) => {
                    let problem = format!("shape {:?}", entry.info.shape);
                    mistakes.push(Error::input(place, problem, expected));
                }
            },
        }
        if mistakes.len() == MAX_LISTED {
            break;
        }
    }
    Error::all(mistakes)?;
    Ok(tensors)
}
