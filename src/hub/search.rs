//! Models by words: the question to the hub, and what of its answer can be loaded.

use super::listing::{license_of, percent_encoded};
use crate::protocol::FoundModel;
use serde::Deserialize;
use serde_json::Value;

/// Models asked for; those that cannot be loaded are left out afterwards.
const LIMIT: usize = 60;
/// What the hub is asked to tell about each.
const FIELDS: [&str; 7] = ["downloads", "likes", "tags", "gated", "safetensors", "gguf", "config"];

/// The question for models of text generation whose name holds `text`, the most downloaded first.
pub fn search_url(endpoint: &str, text: &str) -> String {
    let fields: String = FIELDS.iter().map(|field| format!("&expand={field}")).collect();
    let text = percent_encoded(text, "");
    format!(
        "{endpoint}/api/models?search={text}&pipeline_tag=text-generation&sort=downloads&limit={LIMIT}{fields}"
    )
}

#[derive(Deserialize)]
struct Hit {
    id: String,
    #[serde(default)]
    downloads: u64,
    #[serde(default)]
    likes: u64,
    #[serde(default)]
    tags: Vec<String>,
    /// `false`, or how access is given.
    #[serde(default)]
    gated: Value,
    #[serde(default)]
    safetensors: Value,
    #[serde(default)]
    gguf: Value,
    #[serde(default)]
    config: Value,
}

/// The models of an answer that are safetensors or GGUF of an architecture that `is_known`, small ones first; those
/// of unknown size come last.
///
/// # Errors
/// What is wrong with the answer, as a sentence.
pub fn found(bytes: &[u8], is_known: impl Fn(&str) -> bool) -> Result<Vec<FoundModel>, String> {
    let hits: Vec<Hit> =
        serde_json::from_slice(bytes).map_err(|error| format!("the answer is no list of models: {error}"))?;
    let mut found: Vec<FoundModel> = hits
        .into_iter()
        .filter_map(|hit| {
            let has = |tag: &str| hit.tags.iter().any(|other| other == tag);
            let architecture = hit.config["model_type"].as_str().or(hit.gguf["architecture"].as_str());
            // What does not say its architecture is judged when it is opened.
            let can_load = (has("safetensors") || has("gguf")) && architecture.is_none_or(&is_known);
            can_load.then(|| FoundModel {
                n_params: hit.safetensors["total"].as_u64().or(hit.gguf["total"].as_u64()),
                license: license_of(&hit.tags),
                is_gated: !matches!(hit.gated, Value::Null | Value::Bool(false)),
                is_gguf: !has("safetensors"),
                id: hit.id,
                downloads: hit.downloads,
                likes: hit.likes,
            })
        })
        .collect();
    found.sort_by_key(|model| model.n_params.unwrap_or(u64::MAX));
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_cannot_be_loaded_is_left_out_and_small_models_come_first() {
        let answer = serde_json::json!([
            { "id": "a/big", "downloads": 9, "likes": 3, "gated": "manual", "config": { "model_type": "llama" },
              "tags": ["safetensors", "license:llama3"], "safetensors": { "total": 8_000_000_000_u64 } },
            { "id": "a/torch", "tags": ["pytorch"], "config": { "model_type": "llama" } },
            { "id": "a/strange", "tags": ["safetensors"], "config": { "model_type": "mamba" } },
            { "id": "a/unsized", "tags": ["safetensors"] },
            { "id": "b/small-gguf", "gated": false, "tags": ["gguf"], "gguf": { "total": 135, "architecture": "llama" } },
        ]);
        let found = found(answer.to_string().as_bytes(), |name| name == "llama").unwrap();
        let ids: Vec<_> = found.iter().map(|model| model.id.as_str()).collect();
        assert_eq!(ids, ["b/small-gguf", "a/big", "a/unsized"]);
        let big = &found[1];
        assert_eq!((big.is_gated, big.is_gguf, big.license.as_deref()), (true, false, Some("llama3")));
        assert!(found[0].is_gguf && !found[0].is_gated && found[0].n_params == Some(135));
        assert!(super::found(b"{}", |_| true).is_err());
    }

    #[test]
    fn the_question_is_one_address() {
        let url = search_url("http://h", "smol lm&x");
        assert!(
            url.starts_with("http://h/api/models?search=smol%20lm%26x&pipeline_tag=text-generation"),
            "{url}"
        );
    }
}
