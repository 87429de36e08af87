//! A Hugging Face model folder: its weights in one file or several, its tokenizer, its settings.

use super::safetensors::{self, Header};
use super::tokenizer_files::TokenizerFiles;
use super::{Entry, Store, shortened};
use crate::{Error, Result};
use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Bounds on what is read whole; real files stay far below.
const MAX_JSON_BYTES: u64 = 64 << 20;
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// Missing tensors that are listed; the others are counted.
const MAX_LISTED: usize = 3;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A model's embedding as it is called without its prefix, and the prefix.
const PREFIXES: [(&str, &str); 2] = [("wte.weight", "transformer."), ("embed_tokens.weight", "model.")];

/// What a folder holds; the tensors' bytes stay where they are.
#[derive(Debug)]
pub(super) struct HfFolder {
    pub config: Value,
    pub generation_config: Option<Value>,
    pub tokenizer: Option<TokenizerFiles>,
    pub tensors: Tensors,
}

/// Tensors by name: the file's key, and where in it.
pub(super) type Tensors = IndexMap<String, (String, Entry)>;

impl HfFolder {
    /// Reads the settings and the headers; `place` names the folder in messages.
    pub async fn open(store: &impl Store, folder: &str, place: &str) -> Result<Self> {
        let config_key = join(folder, "config.json");
        let config: Value = read_json(store, &config_key).await?;
        if !config.is_object() {
            return Err(Error::input(config_key, "no JSON object", "a model's configuration"));
        }
        let tensors = open_weights(store, folder, place).await?;
        Ok(Self {
            config,
            generation_config: read_optional_json(store, &join(folder, "generation_config.json")).await?,
            tokenizer: read_tokenizer(store, folder).await?,
            tensors: with_prefix(tensors),
        })
    }
}

/// Files saved from a model without its head, such as the original GPT-2's, lack the prefix that the
/// parameters have in the whole model.
fn with_prefix(tensors: Tensors) -> Tensors {
    match PREFIXES.iter().find(|(embedding, _)| tensors.contains_key(*embedding)) {
        Some((_, prefix)) => tensors.into_iter().map(|(name, at)| (format!("{prefix}{name}"), at)).collect(),
        None => tensors,
    }
}

/// `model.safetensors`, or the files its index lists.
async fn open_weights<S: Store>(store: &S, folder: &str, place: &str) -> Result<Tensors> {
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

async fn open_shards(store: &impl Store, folder: &str, index_key: &str, index: Index) -> Result<Tensors> {
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
            None => mistakes.push(Error::input(
                &key,
                format!("no tensor {}", shortened(&name)),
                "what its index lists",
            )),
        }
    }
    let n_more = mistakes.len().saturating_sub(MAX_LISTED);
    mistakes.truncate(MAX_LISTED);
    if n_more > 0 {
        mistakes.push(Error::input(index_key, format!("{n_more} more like these"), "what its files hold"));
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

/// The licence that a model card states in its front matter; a card that cannot be read states none.
pub(super) async fn license(store: &impl Store, folder: &str) -> Option<String> {
    let card = store.read_all(&join(folder, "README.md"), MAX_JSON_BYTES).await.ok()?;
    let card = String::from_utf8(card).ok()?;
    let mut lines = card.lines().skip_while(|line| line.trim().is_empty());
    (lines.next()?.trim_end() == "---").then_some(())?;
    let line =
        lines.take_while(|line| line.trim_end() != "---").find_map(|line| line.strip_prefix("license:"))?;
    let name = line.trim().trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| shortened(name))
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

/// The key of a file in a folder; the empty folder is the store's root.
pub fn join(folder: &str, name: &str) -> String {
    let folder = folder.trim_end_matches('/');
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
