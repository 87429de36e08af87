//! The tokenizer as files that transformers loads.

use super::Tokenizer;
use crate::{Error, Result};
use serde_json::{Value, json};

/// One file of an exported tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFile {
    /// Name within the model's folder.
    pub name: &'static str,
    /// Content.
    pub bytes: Vec<u8>,
}

impl Tokenizer {
    /// `tokenizer.json`, `tokenizer_config.json` and, where there is a template, `chat_template.jinja`.
    pub fn to_files(&self) -> Result<Vec<ExportFile>> {
        let mut config = match &self.tokenizer_config {
            Value::Object(settings) => settings.clone(),
            _ => serde_json::Map::new(),
        };
        // The template has a file of its own; a second copy could contradict it.
        config.shift_remove("chat_template");
        config.entry("tokenizer_class").or_insert_with(|| json!("PreTrainedTokenizerFast"));
        for (name, token) in self.special.named() {
            config.entry(name).or_insert_with(|| json!(token));
        }
        let mut config = serde_json::to_vec_pretty(&config)
            .map_err(|e| Error::Internal(format!("tokenizer_config.json: {e}")))?;
        config.push(b'\n');
        let mut files = vec![
            ExportFile { name: "tokenizer.json", bytes: self.tokenizer_json.clone() },
            ExportFile { name: "tokenizer_config.json", bytes: config },
        ];
        if let Some(template) = &self.template {
            files.push(ExportFile {
                name: "chat_template.jinja",
                bytes: template.source().as_bytes().to_vec(),
            });
        }
        Ok(files)
    }
}
