//! A tuned model as files that transformers and PEFT load, written and then checked by loading them again.

mod probe;

pub use probe::Probe;

use crate::config::WeightFormat;
use crate::models::{Adapter, CausalLm};
use crate::protocol::Event;
use crate::store::model_files::ModelFiles;
use crate::store::{Store, join, safetensors};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// A whole model with the adapter folded into its weights, for transformers.
    Merged,
    /// The adapter alone, for PEFT.
    Adapter,
}

/// Where a model comes from: what an export takes over unchanged.
pub struct Origin<'a, 's, S: Store> {
    /// The base model's files.
    pub files: &'a ModelFiles<'s, S>,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its name, for PEFT's `base_model_name_or_path`.
    pub name: &'a str,
}

/// What was written, and how well it repeats the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportReport {
    /// Largest difference between the logits before the export and those of the files read back.
    pub max_abs_diff: f32,
    /// Names of the files.
    pub files: Vec<String>,
    /// The tokens compared, with their logits before the export.
    #[serde(skip)]
    pub probe: Probe,
}

/// Writes what is attached to `model` as an adapter of PEFT's, with the tokenizer, into an empty folder.
///
/// # Errors
/// Nothing attached; a folder that is not empty; files that do not give the model's logits.
pub async fn export_adapter<M: Store, O: Store>(
    mut model: CausalLm,
    origin: &Origin<'_, '_, M>,
    store: &O,
    folder: &str,
) -> Result<ExportReport> {
    check_empty(store, folder).await?;
    let probe = Probe::of(&model).await?;
    let mut files = Adapter::of(&model, origin.name).await?.save(store, folder).await?;
    files.extend(write_tokenizer(origin.tokenizer, store, folder).await?);
    model.detach();
    model.attach_adapter(Adapter::load(store, folder).await?)?;
    let max_abs_diff = probe.check(&model).await?;
    Ok(ExportReport { max_abs_diff, files, probe })
}

/// Writes the model with everything attached folded in, with settings and tokenizer, into an empty folder.
///
/// # Errors
/// A folder that is not empty; files that do not give the model's logits.
pub async fn export_merged<M: Store, O: Store>(
    model: CausalLm,
    origin: &Origin<'_, '_, M>,
    store: &O,
    folder: &str,
    events: &mut dyn FnMut(Event),
) -> Result<ExportReport> {
    check_empty(store, folder).await?;
    let probe = Probe::of(&model).await?;
    let files = write_model(&model, origin, store, folder, events).await?;
    let device = model.device().clone();
    // The copy read back takes its place in memory.
    drop(model);
    let written = ModelFiles::open(store, folder).await?;
    let model = CausalLm::load(&written, WeightFormat::Auto, &device, events).await?;
    let max_abs_diff = probe.check(&model).await?;
    Ok(ExportReport { max_abs_diff, files, probe })
}

/// Writes a model's folder as transformers has it and returns the names of its files. Weights are f32, one in
/// memory at a time. `config.json` comes last: a folder without it is no model.
pub async fn write_model<M: Store, O: Store>(
    model: &CausalLm,
    origin: &Origin<'_, '_, M>,
    store: &O,
    folder: &str,
    events: &mut dyn FnMut(Event),
) -> Result<Vec<String>> {
    const WEIGHTS: &str = "model.safetensors";
    let weights = model.merged_weights();
    let shapes: IndexMap<String, Vec<usize>> =
        weights.iter().map(|(name, weight)| (name.clone(), weight.shape().to_vec())).collect();
    let (mut done, total) = (0, weights.len() as u64);
    let weight = async |name: &str| {
        let Some(weight) = weights.get(name) else {
            return Err(Error::Internal(format!("tensor {name} is announced but not there")));
        };
        let tensor = weight.value().to_host().await?;
        done += 1;
        events(Event::Progress { task: "writing model".into(), done, total });
        Ok(tensor)
    };
    let key = join(folder, WEIGHTS);
    // What can fail for want of space comes first, under a name nobody reads.
    let partial = format!("{key}.partial");
    safetensors::write_streaming(store, &partial, &shapes, &safetensors::pytorch_metadata(), weight).await?;
    store.remove(&join(folder, "config.json")).await?;
    store.rename(&partial, &key).await?;
    let mut files = vec![WEIGHTS.to_string()];
    files.extend(write_tokenizer(origin.tokenizer, store, folder).await?);
    let mut settings = vec![("config.json", config_of(model))];
    settings
        .extend(origin.files.generation_config().map(|config| ("generation_config.json", config.clone())));
    for (name, value) in settings.into_iter().rev() {
        let mut text =
            serde_json::to_vec_pretty(&value).map_err(|e| Error::Internal(format!("{name}: {e}")))?;
        text.push(b'\n');
        store.write(&join(folder, name), &text).await?;
        files.push(name.to_string());
    }
    Ok(files)
}

/// The model's own settings, with what the export changes: the weights' type, and whether the head is tied.
fn config_of(model: &CausalLm) -> Value {
    let mut config = model.config.clone();
    // transformers 4 reads the older name.
    for name in ["dtype", "torch_dtype"] {
        config[name] = json!("float32");
    }
    config["tie_word_embeddings"] = json!(model.is_tied());
    config
}

async fn write_tokenizer(tokenizer: &Tokenizer, store: &impl Store, folder: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in tokenizer.to_files()? {
        store.write(&join(folder, file.name), &file.bytes).await?;
        names.push(file.name.to_string());
    }
    Ok(names)
}

/// An export replaces nothing: the folder could be the model's own.
async fn check_empty(store: &impl Store, folder: &str) -> Result<()> {
    let prefix = if folder.is_empty() { String::new() } else { join(folder, "") };
    match store.list(&prefix).await?.first() {
        Some(file) => Err(Error::input("export folder", format!("it holds {file}"), "a new or empty folder")),
        None => Ok(()),
    }
}
