//! `tokenizer_config.json` and `special_tokens_map.json`: the special tokens.

use crate::{Error, Result};
use serde_json::Value;

const FILE: &str = "tokenizer_config.json";

/// The special tokens by name, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SpecialTokens {
    pub bos: Option<String>,
    pub eos: Option<String>,
    pub pad: Option<String>,
    pub unk: Option<String>,
    /// Overrides the post-processor where given.
    pub add_bos: Option<bool>,
    /// Overrides the post-processor where given.
    pub add_eos: Option<bool>,
}

impl SpecialTokens {
    /// Reads the names from `config`, and from `map` what `config` lacks.
    pub fn read(config: &Value, map: &Value) -> Result<Self> {
        if !(config.is_object() || config.is_null()) {
            return Err(Error::input(FILE, "no JSON object", "an object of settings"));
        }
        let mut errors = Vec::new();
        let mut token = |name: &str| {
            let found = config.get(name).map(|v| (FILE, v)).filter(|(_, v)| !v.is_null());
            let (file, value) = found.or_else(|| map.get(name).map(|v| ("special_tokens_map.json", v)))?;
            // Either the text itself or an AddedToken object that holds it.
            match value.as_str().or_else(|| value.get("content").and_then(Value::as_str)) {
                Some(text) if !text.is_empty() => Some(text.to_string()),
                None if !value.is_null() => {
                    let expected = "a string, or an object with `content`";
                    errors.push(Error::input(format!("{file}: {name}"), format!("`{value}`"), expected));
                    None
                }
                _ => None,
            }
        };
        let (bos, eos) = (token("bos_token"), token("eos_token"));
        let (pad, unk) = (token("pad_token"), token("unk_token"));
        let mut flag = |name: &str| match config.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(add)) => Some(*add),
            Some(other) => {
                errors.push(Error::input(format!("{FILE}: {name}"), format!("`{other}`"), "true or false"));
                None
            }
        };
        let (mut add_bos, mut add_eos) = (flag("add_bos_token"), flag("add_eos_token"));
        Error::all(errors)?;
        if add_bos.is_some() || add_eos.is_some() {
            // transformers rebuilds the post-processor from both as soon as one is given
            // (tokenization_utils_tokenizers.py, `update_post_processor`).
            (add_bos, add_eos) = (add_bos.or(Some(false)), add_eos.or(Some(false)));
        }
        Ok(Self { bos, eos, pad, unk, add_bos, add_eos })
    }

    /// The tokens there are, by HF's name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("bos_token", &self.bos),
            ("eos_token", &self.eos),
            ("pad_token", &self.pad),
            ("unk_token", &self.unk),
        ]
        .into_iter()
        .filter_map(|(name, token)| Some((name, token.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn tokens_are_strings_or_objects_and_the_map_fills_gaps() {
        let config = json!({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": null});
        let special = SpecialTokens::read(&config, &json!({"eos_token": "</s>", "bos_token": "x"})).unwrap();
        assert_eq!(special.named().collect::<Vec<_>>(), [("bos_token", "<s>"), ("eos_token", "</s>")]);
        assert_eq!(special.add_bos, None);
    }

    #[test]
    fn every_wrong_field_is_named() {
        let config = json!({"bos_token": 7, "add_eos_token": "yes"});
        let message = SpecialTokens::read(&config, &Value::Null).unwrap_err().to_string();
        assert!(message.contains("bos_token") && message.contains("add_eos_token"), "{message}");
        assert!(SpecialTokens::read(&json!([1]), &Value::Null).is_err());
    }
}
