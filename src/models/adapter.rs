//! An adapter as a folder in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

use super::CausalLm;
use super::adapter_config::AdapterConfig;
use crate::methods::{LoraConfig, TargetModules};
use crate::store::{HostTensor, Store, join, safetensors, shortened};
use crate::{Error, Result};
use indexmap::IndexMap;

/// Name of the settings' file in an adapter's folder.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// Name of the tensors' file in an adapter's folder.
pub const ADAPTER_MODEL: &str = "adapter_model.safetensors";

/// Real settings are a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// A low-rank adapter apart from its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Its settings.
    pub config: LoraConfig,
    /// The model it was made for, as its maker called it.
    pub base_model: Option<String>,
    /// Whether the base model stores weights as `[d_in, d_out]` (GPT-2). PEFT finds that out by itself too.
    pub fan_in_fan_out: bool,
    /// Factors and trained copies under PEFT's keys.
    pub tensors: IndexMap<String, HostTensor>,
}

impl Adapter {
    /// What is attached to `model`, its values copied to the host. `base_model` is how others find the model.
    ///
    /// `all-linear` becomes the list of names it stands for, as when PEFT saves.
    ///
    /// # Errors
    /// Nothing is attached; the device cannot be read.
    pub async fn of(model: &CausalLm, base_model: &str) -> Result<Self> {
        let Some(attached) = &model.attached else {
            return Err(Error::input("adapter", "the model has none", "a model trained with method lora"));
        };
        let mut config = attached.lora.clone();
        if config.target_modules == TargetModules::AllLinear {
            config.target_modules = TargetModules::Names(model.target_names());
        }
        let mut tensors = IndexMap::new();
        for (name, tensor) in model.adapter_tensors() {
            tensors.insert(name, tensor.to_host().await?);
        }
        let fan_in_fan_out = model.spec.names.conv1d;
        Ok(Self { config, base_model: Some(base_model.to_string()), fan_in_fan_out, tensors })
    }

    /// Reads an adapter's folder; `""` is the store's root.
    ///
    /// # Errors
    /// Missing or broken files; settings whose effect is not built, all by name.
    pub async fn load(store: &impl Store, folder: &str) -> Result<Self> {
        let key = join(folder, ADAPTER_CONFIG);
        if store.size(&key).await?.is_none() {
            let expected = format!("an adapter's folder with {ADAPTER_CONFIG} and {ADAPTER_MODEL}");
            return Err(Error::input(key, "no such file", expected));
        }
        let text = store.read_all(&key, MAX_CONFIG_BYTES).await?;
        let AdapterConfig { lora, base_model, fan_in_fan_out } = AdapterConfig::from_json(&text, &key)?;
        let key = join(folder, ADAPTER_MODEL);
        let mut tensors = IndexMap::new();
        let header = safetensors::read_header(store, &key).await?;
        check_factors(&key, &header, &lora)?;
        for (name, entry) in header.tensors {
            let tensor = entry.read(store, &key, &name).await?;
            tensors.insert(name, tensor);
        }
        Ok(Self { config: lora, base_model, fan_in_fan_out, tensors })
    }

    /// Writes the adapter's folder and returns the names of its files. Whoever reads it at any moment, and
    /// after a crash, finds the old adapter, the new one, or none, but never parts of both.
    pub async fn save(&self, store: &impl Store, folder: &str) -> Result<Vec<String>> {
        let Self { config, base_model, fan_in_fan_out, tensors } = self;
        let settings = AdapterConfig {
            lora: config.clone(),
            base_model: base_model.clone(),
            fan_in_fan_out: *fan_in_fan_out,
        };
        // PEFT sorts the keys too.
        let mut tensors = tensors.clone();
        tensors.sort_keys();
        let (config_key, model_key) = (join(folder, ADAPTER_CONFIG), join(folder, ADAPTER_MODEL));
        let partial = format!("{model_key}.partial");
        // What can fail for want of space comes first, under a name nobody reads.
        store.write(&partial, &safetensors::to_bytes(&tensors, &safetensors::pytorch_metadata())?).await?;
        store.remove(&config_key).await?;
        store.rename(&partial, &model_key).await?;
        store.write(&config_key, &settings.to_json()?).await?;
        Ok(vec![ADAPTER_CONFIG.to_string(), ADAPTER_MODEL.to_string()])
    }
}

/// Compares the factors' shapes with the settings, before a value is read.
fn check_factors(key: &str, header: &safetensors::Header, config: &LoraConfig) -> Result<()> {
    let mut errors = Vec::new();
    for (name, entry) in &header.tensors {
        let rank = config.rank;
        let fits = match entry.info.shape[..] {
            [rows, width] if name.contains("lora_A") => rows == rank && width <= WIDEST_LAYER,
            [width, columns] if name.contains("lora_B") => columns == rank && width <= WIDEST_LAYER,
            _ => !name.contains("lora_A") && !name.contains("lora_B"),
        };
        if !fits && errors.len() < MOST_ERRORS {
            let problem = format!("shape {:?}", entry.info.shape);
            let expected = format!("a matrix with one side of r = {rank} as {ADAPTER_CONFIG} states");
            errors.push(Error::input(format!("{key}: {}", shortened(name)), problem, expected));
        }
    }
    Error::all(errors)
}

/// Wider than any real layer: what claims to be is not worth its memory.
const WIDEST_LAYER: usize = 1 << 20;
/// More of the same help nobody.
const MOST_ERRORS: usize = 20;

impl CausalLm {
    /// Attaches an adapter, trainable. Every missing, left-over or misshapen tensor is named.
    pub fn attach_adapter(&mut self, adapter: Adapter) -> Result<()> {
        self.attach_saved(&adapter.config, adapter.tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::{MemoryStore, ready};

    fn adapter() -> Adapter {
        let tensor =
            |shape: [usize; 2]| HostTensor { shape: shape.to_vec(), values: vec![0.5; shape[0] * shape[1]] };
        let tensors = [("x.lora_A.weight", tensor([8, 2])), ("x.lora_B.weight", tensor([2, 8]))];
        Adapter {
            config: LoraConfig::default(),
            base_model: Some("base".into()),
            fan_in_fan_out: false,
            tensors: tensors.into_iter().map(|(name, tensor)| (name.to_string(), tensor)).collect(),
        }
    }

    #[test]
    fn saved_adapters_load_the_same_and_replace_older_ones() {
        ready(async {
            let store = MemoryStore::new()
                .with("a/adapter_model.safetensors", *b"old")
                .with("a/adapter_config.json", *b"{}");
            adapter().save(&store, "a").await.unwrap();
            assert_eq!(Adapter::load(&store, "a").await.unwrap(), adapter());
            assert_eq!(
                store.list("").await.unwrap(),
                ["a/adapter_config.json", "a/adapter_model.safetensors"]
            );
        });
    }

    #[test]
    fn folders_that_hold_no_whole_adapter_are_refused() {
        ready(async {
            let store = MemoryStore::new();
            let error = Adapter::load(&store, "a").await.unwrap_err();
            assert!(error.to_string().starts_with("a/adapter_config.json: no such file"), "{error}");
            assert_eq!(error.exit_code(), 2);
            adapter().save(&store, "a").await.unwrap();
            let bytes = store.read_all("a/adapter_model.safetensors", u64::MAX).await.unwrap();
            store.write("a/adapter_model.safetensors", &bytes[..bytes.len() - 1]).await.unwrap();
            let error = Adapter::load(&store, "a").await.unwrap_err().to_string();
            assert!(error.contains("a/adapter_model.safetensors"), "{error}");
        });
    }
}
