//! What a model is, from its settings and its files' headers: nothing is loaded.

use super::load::is_weight;
use super::spec::Spec;
use crate::store::{Store, StoredType, model_files::ModelFiles};
use crate::{Error, Result};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

/// A model in a few words. What the files do not tell is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelDescription {
    /// transformers' `model_type`.
    pub architecture: Option<String>,
    /// Parameters in all.
    pub n_params: Option<u64>,
    /// Types the weights are stored in, that of the most parameters first.
    pub stored: Vec<&'static str>,
    /// Longest sequence the model was made for, in tokens.
    pub context_length: Option<u64>,
    /// Whether it says how a conversation is written.
    pub has_chat_template: Option<bool>,
    /// Why it cannot be loaded; nothing where it can.
    pub problem: Option<String>,
}

impl ModelDescription {
    /// From `config.json` alone.
    ///
    /// # Errors
    /// A configuration that contradicts itself; one that is only not supported is described.
    pub fn of_config(config: &Value) -> Result<Self> {
        let number = |names: [&str; 2]| names.into_iter().find_map(|name| config.get(name)?.as_u64());
        let problem = match Spec::from_config(config) {
            Ok(_) => None,
            Err(error @ Error::Unsupported { .. }) => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        Ok(Self {
            architecture: config.get("model_type").and_then(Value::as_str).map(crate::store::shortened),
            n_params: None,
            stored: Vec::new(),
            context_length: number(["max_position_embeddings", "n_positions"]),
            has_chat_template: None,
            problem,
        })
    }

    /// From a model's files.
    ///
    /// # Errors
    /// As [`of_config`](Self::of_config).
    pub fn of<S: Store>(files: &ModelFiles<'_, S>) -> Result<Self> {
        let described = Self::of_config(files.config())?;
        let is_tied = !described.is_loadable() || Spec::from_config(files.config())?.tied;
        let mut by_type: IndexMap<StoredType, u64> = IndexMap::new();
        for name in files.tensor_names().into_iter().filter(|name| is_weight(name, is_tied)) {
            if let Some(info) = files.info(name) {
                *by_type.entry(info.stored).or_default() += info.shape.iter().product::<usize>() as u64;
            }
        }
        by_type.sort_by(|_, a, _, b| b.cmp(a));
        Ok(Self {
            n_params: Some(by_type.values().sum()),
            stored: by_type.keys().map(|stored| stored.name()).collect(),
            has_chat_template: Some(files.tokenizer().is_ok_and(|files| files.chat_template().is_some())),
            ..described
        })
    }

    /// Whether attune can load it.
    pub fn is_loadable(&self) -> bool {
        self.problem.is_none()
    }
}
