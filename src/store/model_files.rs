//! A pretrained model's files, from a Hugging Face folder or a GGUF file, under one set of names.

use super::gguf_model::GgufModel;
use super::safetensors::{self, Header};
use super::tokenizer_files::TokenizerFiles;
use super::{Entry, HostTensor, Store, TensorInfo, shortened};
use crate::{Error, Result};
use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Bounds on what is read whole; real files stay far below.
const MAX_JSON_BYTES: u64 = 64 << 20;
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A model's files. Tensors have transformers' names and orientation and are read one at a time.
#[derive(Debug)]
pub struct ModelFiles<'s, S: Store> {
    store: &'s S,
    place: String,
    config: Value,
    generation_config: Option<Value>,
    tokenizer: Option<TokenizerFiles>,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    /// Tensors by name: the file's key, and where in it.
    Safetensors(IndexMap<String, (String, Entry)>),
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
        Err(Error::input(place, "no config.json and no GGUF file", "a Hugging Face model folder or a .gguf file"))
    }

    async fn open_folder(store: &'s S, folder: &str, place: &str) -> Result<Self> {
        let key = |name: &str| join(folder, name);
        let config: Value = read_json(store, &key("config.json")).await?;
        if !config.is_object() {
            return Err(Error::input(key("config.json"), "no JSON object", "a model's configuration"));
        }
        let generation_config = read_optional_json(store, &key("generation_config.json")).await?;
        let weights = Weights::Safetensors(open_weights(store, folder, place).await?);
        let tokenizer = read_tokenizer(store, folder).await?;
        Ok(Self { store, place: place.into(), config, generation_config, tokenizer, weights })
    }

    async fn open_gguf(store: &'s S, key: &str) -> Result<Self> {
        let mut model = GgufModel::open(store, key).await?;
        let tokenizer = model.vocabulary.take().map(TokenizerFiles::Gguf);
        let config = std::mem::take(&mut model.config);
        let weights = Weights::Gguf(Box::new(model));
        Ok(Self { store, place: key.into(), config, generation_config: None, tokenizer, weights })
    }

    /// The model's settings in the shape of Hugging Face's `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// `generation_config.json`, where there is one.
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
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

/// `model.safetensors`, or the files its index lists.
async fn open_weights<S: Store>(
    store: &S,
    folder: &str,
    place: &str,
) -> Result<IndexMap<String, (String, Entry)>> {
    let whole = join(folder, WEIGHTS);
    if store.size(&whole).await?.is_some() {
        let Header { tensors, .. } = safetensors::read_header(store, &whole).await?;
        return Ok(tensors.into_iter().map(|(name, entry)| (name, (whole.clone(), entry))).collect());
    }
    let index_key = join(folder, INDEX);
    match read_optional_json::<Index, S>(store, &index_key).await? {
        Some(index) => open_shards(store, folder, &index_key, index).await,
        None => Err(Error::input(place, format!("neither {WEIGHTS} nor {INDEX}"), "weights as safetensors")),
    }
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: IndexMap<String, String>,
}

async fn open_shards(
    store: &impl Store,
    folder: &str,
    index_key: &str,
    index: Index,
) -> Result<IndexMap<String, (String, Entry)>> {
    let mut shards: IndexMap<String, Header> = IndexMap::new();
    let mut tensors = IndexMap::new();
    let mut mistakes = Vec::new();
    for (name, file) in index.weight_map {
        if file.contains(['/', '\\', ':']) || !file.ends_with(".safetensors") {
            let problem = format!("{} is in {}", shortened(&name), shortened(&file));
            return Err(Error::input(index_key, problem, "names of safetensors files beside the index"));
        }
        let key = join(folder, &file);
        if !shards.contains_key(&key) {
            shards.insert(key.clone(), safetensors::read_header(store, &key).await?);
        }
        match shards.get_mut(&key).and_then(|header| header.tensors.swap_remove(&name)) {
            Some(entry) => drop(tensors.insert(name, (key, entry))),
            None => mistakes.push(Error::input(&key, format!("no tensor {}", shortened(&name)), "what its index lists")),
        }
    }
    Error::all(mistakes)?;
    Ok(tensors)
}

async fn read_tokenizer(store: &impl Store, folder: &str) -> Result<Option<TokenizerFiles>> {
    let key = |name: &str| join(folder, name);
    if store.size(&key("tokenizer.json")).await?.is_none() {
        return Ok(None);
    }
    let tokenizer_json = store.read_all(&key("tokenizer.json"), MAX_TOKENIZER_BYTES).await?;
    let tokenizer_config: Value =
        read_optional_json(store, &key("tokenizer_config.json")).await?.unwrap_or_default();
    let special_tokens_map =
        read_optional_json(store, &key("special_tokens_map.json")).await?.unwrap_or_default();
    let template_key = key("chat_template.jinja");
    let chat_template = match store.size(&template_key).await? {
        None => template_within(&tokenizer_config),
        Some(_) => {
            let bytes = store.read_all(&template_key, MAX_JSON_BYTES).await?;
            let text = String::from_utf8(bytes)
                .map_err(|e| Error::input(&template_key, e.utf8_error().to_string(), "UTF-8 text"))?;
            Some(text)
        }
    };
    Ok(Some(TokenizerFiles::Json { tokenizer_json, tokenizer_config, chat_template, special_tokens_map }))
}

/// The template in `tokenizer_config.json`: one, or a list of named ones.
fn template_within(tokenizer_config: &Value) -> Option<String> {
    let template = match &tokenizer_config["chat_template"] {
        Value::Array(named) => &named.iter().find(|entry| entry["name"] == "default")?["template"],
        template => template,
    };
    template.as_str().map(str::to_owned)
}

async fn read_json<T: DeserializeOwned>(store: &impl Store, key: &str) -> Result<T> {
    let bytes = store.read_all(key, MAX_JSON_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(|e| Error::input(key, e.to_string(), "valid JSON"))
}

async fn read_optional_json<T: DeserializeOwned, S: Store>(store: &S, key: &str) -> Result<Option<T>> {
    match store.size(key).await? {
        Some(_) => read_json(store, key).await.map(Some),
        None => Ok(None),
    }
}

fn join(folder: &str, name: &str) -> String {
    let folder = folder.trim_end_matches('/');
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
