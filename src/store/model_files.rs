//! A pretrained model's files, from a Hugging Face folder or a GGUF file, under one set of names.

use super::gguf_model::GgufModel;
use super::hf_folder::{HfFolder, Tensors, join};
use super::tokenizer_files::TokenizerFiles;
use super::{Form, HostPacked, HostTensor, Store, TensorInfo, shortened};
use crate::{Error, Result};
use serde_json::Value;

/// A model's files. Tensors have transformers' names and orientation and are read one at a time.
#[derive(Debug)]
pub struct ModelFiles<'s, S: Store> {
    store: &'s S,
    place: String,
    config: Value,
    generation_config: Option<Value>,
    tokenizer: Option<TokenizerFiles>,
    license: Option<String>,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    Safetensors(Tensors),
    Gguf(Box<GgufModel>),
}

impl<'s, S: Store> ModelFiles<'s, S> {
    /// Opens a folder with `config.json`, or a GGUF file; reads and checks everything but the tensors.
    pub async fn open(store: &'s S, key: &str) -> Result<Self> {
        let place = if key.is_empty() { "the model's folder" } else { key };
        let is_gguf_name = key.to_ascii_lowercase().ends_with(".gguf");
        if !is_gguf_name && store.size(&join(key, "config.json")).await?.is_some() {
            return Self::open_folder(store, key, place).await;
        }
        if is_gguf_name || store.size(key).await.is_ok_and(|size| size.is_some()) {
            return Self::open_gguf(store, key).await;
        }
        Err(Error::input(
            place,
            "no config.json and no GGUF file",
            "a Hugging Face model folder or a .gguf file",
        ))
    }

    async fn open_folder(store: &'s S, folder: &str, place: &str) -> Result<Self> {
        let HfFolder { config, generation_config, tokenizer, tensors } =
            HfFolder::open(store, folder, place).await?;
        let license = super::hf_folder::license(store, folder).await;
        let weights = Weights::Safetensors(tensors);
        Ok(Self { store, place: place.into(), config, generation_config, tokenizer, license, weights })
    }

    async fn open_gguf(store: &'s S, key: &str) -> Result<Self> {
        let mut model = GgufModel::open(store, key).await?;
        let tokenizer = model.vocabulary.take().map(TokenizerFiles::Gguf);
        let config = std::mem::take(&mut model.config);
        let license = model.license.take();
        let weights = Weights::Gguf(Box::new(model));
        Ok(Self { store, place: key.into(), config, generation_config: None, tokenizer, license, weights })
    }

    /// The model's settings in the shape of Hugging Face's `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// `generation_config.json`, where there is one.
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    /// The licence: of a GGUF file what it states, of a folder what its README.md states.
    pub fn license(&self) -> Option<&str> {
        self.license.as_deref()
    }

    /// Tokens that end a generation: those of `generation_config.json`, and where it names none, those of
    /// `config.json`, as in transformers. Values that are no token ids are left out.
    pub fn eos_token_ids(&self) -> Vec<u32> {
        let configs = [self.generation_config.as_ref(), Some(&self.config)];
        let named = configs.into_iter().flatten().filter_map(|config| config.get("eos_token_id"));
        let ids = match named.into_iter().find(|value| !value.is_null()) {
            Some(Value::Array(ids)) => ids.iter().collect(),
            Some(id) => vec![id],
            None => Vec::new(),
        };
        ids.into_iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
    }

    /// The tokenizer's part; an error where there is none.
    pub fn tokenizer(&self) -> Result<&TokenizerFiles> {
        self.tokenizer.as_ref().ok_or_else(|| {
            Error::input(&self.place, "no tokenizer", "tokenizer.json, or a vocabulary inside the GGUF file")
        })
    }

    /// Names of all tensors, in the files' order.
    pub fn tensor_names(&self) -> Vec<&str> {
        match &self.weights {
            Weights::Safetensors(tensors) => tensors.keys().map(String::as_str).collect(),
            Weights::Gguf(model) => model.tensor_names().collect(),
        }
    }

    /// Shape and stored type of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        match &self.weights {
            Weights::Safetensors(tensors) => tensors.get(name).map(|(_, entry)| &entry.info),
            Weights::Gguf(model) => model.info(name),
        }
    }

    /// The form that [`Self::packed`] gives a tensor.
    pub fn form(&self, name: &str) -> Option<Form> {
        let is_changed = matches!(&self.weights, Weights::Gguf(model) if !model.keeps_rows(name));
        self.info(name).filter(|_| !is_changed).and_then(|info| Form::of(info.stored))
    }

    /// Reads a matrix in the few bits a value that it is stored in; `None` where it has no such form.
    pub async fn packed(&self, name: &str) -> Result<Option<HostPacked>> {
        match &self.weights {
            Weights::Safetensors(tensors) => match tensors.get(name) {
                Some((file, entry)) => {
                    entry.read_packed(self.store, file, name, None::<fn(usize) -> usize>).await
                }
                None => Ok(None),
            },
            Weights::Gguf(model) => model.packed(self.store, name).await,
        }
    }

    /// Reads a tensor as f32.
    pub async fn tensor(&self, name: &str) -> Result<HostTensor> {
        let found = match &self.weights {
            Weights::Safetensors(tensors) => match tensors.get(name) {
                Some((file, entry)) => Some(entry.read(self.store, file, name).await?),
                None => None,
            },
            Weights::Gguf(model) => model.tensor(self.store, name).await?,
        };
        found.ok_or_else(|| {
            let problem = format!("no tensor {}", shortened(name));
            Error::input(&self.place, problem, "the tensors its configuration asks for")
        })
    }
}
