//! Checkpoints: everything a killed run needs to go on as if nothing had happened.
//!
//! One safetensors file holds weights (`weights.…`), optimizer state (`optimizer.…`) and, as JSON in
//! its metadata, [`Progress`]. It is streamed under a temporary key, read back, and renamed to
//! `checkpoint-{step}-{digest}.safetensors`: one rename makes it valid, and its name says what its
//! content must be. Two generations are kept, so that a damaged one costs steps and not the run.

use crate::config::Run;
use crate::models::{AnyTensor, NamedTensors};
use crate::store::safetensors::{read_header, write_streaming};
use crate::store::{HostTensor, Store};
use crate::{Error, Result};
use burn::tensor::Device;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Begin of the keys of checkpoints.
pub const CHECKPOINT: &str = "checkpoint";
/// Begin of the key of the weights with the lowest held-out loss.
pub const BEST: &str = "best";
const SUFFIX: &str = ".safetensors";
const WEIGHTS: &str = "weights.";
const OPTIMIZER: &str = "optimizer.";
/// Metadata key of [`Progress`].
const PROGRESS: &str = "progress";
/// Settings that may differ when a run goes on: they do not change its numbers.
const FREE_SETTINGS: [&str; 9] = [
    "out",
    "device",
    "train.tensorboard",
    "train.save_steps",
    "train.eval_batch_size",
    "train.gradient_checkpointing",
    "train.sample_rows",
    "train.sample_prompts",
    "train.sample_tokens",
];

/// How far a run is. The learning rate, the data cursor and every seed are functions of `step` and `seed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: usize,
    /// Data cursor: pass over the rows the next batch is from, counted from 0.
    pub next_epoch: usize,
    /// Data cursor: index of the next batch in its pass.
    pub next_batch: usize,
    /// Batches in one pass.
    pub batches_per_epoch: usize,
    /// Digest of the training and the held-out rows, which tells whether they are the same.
    pub data: String,
    /// Seed of shuffling and dropout.
    pub seed: u64,
    /// Sum of the losses of all steps.
    #[serde(with = "exact")]
    pub loss_sum: f64,
    /// Lowest held-out loss so far.
    pub best: Option<Best>,
    /// Evaluations since then.
    pub evals_without_gain: usize,
    /// Step of the last evaluation; 0 before the first.
    pub last_eval: usize,
    /// Wall time so far, over all resumptions.
    pub elapsed_secs: f64,
    /// The run file.
    pub settings: Value,
}

/// The lowest held-out loss and the step it was reached at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Optimizer step.
    pub step: usize,
    /// Mean loss over target tokens, in nats.
    #[serde(with = "exact")]
    pub eval_loss: f64,
}

/// f64 as a decimal string: std prints and parses it exactly, which JSON parsers do not promise.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A checkpoint as loaded, on the device.
pub struct Checkpoint {
    /// Where it was.
    pub key: String,
    /// How far the run was.
    pub progress: Progress,
    /// Trainable values.
    pub weights: NamedTensors,
    /// Optimizer state, as [`Optimizer::state`](super::Optimizer::state) gives it.
    pub optimizer: NamedTensors,
}

/// Writes a checkpoint and removes all but the newest two. Returns its key.
pub async fn save(
    store: &impl Store,
    progress: &Progress,
    weights: NamedTensors,
    optimizer: NamedTensors,
) -> Result<String> {
    let prefixed =
        |prefix: &'static str| move |(name, tensor): (String, AnyTensor)| (format!("{prefix}{name}"), tensor);
    let tensors =
        weights.into_iter().map(prefixed(WEIGHTS)).chain(optimizer.into_iter().map(prefixed(OPTIMIZER)));
    let key = write_verified(store, CHECKPOINT, progress, tensors.collect()).await?;
    let older = keys(store, CHECKPOINT).await?.into_iter().filter(|other| *other != key);
    for key in older.rev().skip(1).collect::<Vec<_>>() {
        store.remove(&key).await?;
    }
    Ok(key)
}

/// Writes the weights with the lowest held-out loss so far, beside the ones before: a checkpoint may still
/// name those.
pub async fn save_best(store: &impl Store, progress: &Progress, weights: NamedTensors) -> Result<()> {
    let tensors = weights.into_iter().map(|(name, tensor)| (format!("{WEIGHTS}{name}"), tensor)).collect();
    write_verified(store, BEST, progress, tensors).await.map(|_| ())
}

/// Removes the weights of every best but those of `steps`.
pub async fn keep_bests(store: &impl Store, steps: &[usize]) -> Result<()> {
    for key in keys(store, BEST).await? {
        if parse_key(BEST, &key).is_some_and(|(step, _)| !steps.contains(&step)) {
            store.remove(&key).await?;
        }
    }
    Ok(())
}

/// Steps of the bests that are there, oldest first.
pub async fn bests(store: &impl Store) -> Result<Vec<usize>> {
    let keys = keys(store, BEST).await?;
    Ok(keys.iter().filter_map(|key| parse_key(BEST, key)).map(|(step, _)| step).collect())
}

/// The weights of the best of `step`.
///
/// # Errors
/// They are missing or damaged.
pub async fn load_best(store: &impl Store, step: usize, device: &Device) -> Result<NamedTensors> {
    let keys = keys(store, BEST).await?;
    let key = keys.iter().find(|key| parse_key(BEST, key).is_some_and(|(of, _)| of == step));
    let missing = || Error::input(format!("{BEST} of step {step}"), "missing", "the file attune wrote");
    Ok(read(store, key.ok_or_else(missing)?, device).await?.weights)
}

/// The newest file of `prefix` that is whole, or `None` where there is no file at all.
///
/// Damaged files are skipped, each told to `note`; where every file is damaged, that is an error.
pub async fn load_newest(
    store: &impl Store,
    prefix: &str,
    device: &Device,
    note: &mut dyn FnMut(String),
) -> Result<Option<Checkpoint>> {
    let keys = keys(store, prefix).await?;
    let mut problems = Vec::new();
    for key in keys.iter().rev() {
        match read(store, key, device).await {
            Ok(checkpoint) => {
                problems
                    .iter()
                    .for_each(|problem: &Error| note(format!("skipped a damaged {prefix}: {problem}")));
                return Ok(Some(checkpoint));
            }
            Err(problem) => problems.push(problem),
        }
    }
    Error::all(problems).map(|()| None)
}

/// Removes the files of `prefix` made at `step` or later.
pub async fn remove_from(store: &impl Store, prefix: &str, step: usize) -> Result<()> {
    for key in keys(store, prefix).await? {
        if parse_key(prefix, &key).is_some_and(|(of, _)| of >= step) {
            store.remove(&key).await?;
        }
    }
    Ok(())
}

/// Whether there is any checkpoint.
pub async fn exists(store: &impl Store) -> Result<bool> {
    Ok(!keys(store, CHECKPOINT).await?.is_empty())
}

impl Progress {
    /// Refuses to go on with other settings than the run began with, naming each.
    pub fn check_settings(&self, run: &Run, batches_per_epoch: usize, data: &str) -> Result<()> {
        let (saved, now) = (flatten(&self.settings), flatten(&settings(run)?));
        let keys: indexmap::IndexSet<_> = now.keys().chain(saved.keys()).collect();
        let shown = |value: Option<&Value>| value.map_or("unset".to_string(), Value::to_string);
        let mut problems: Vec<_> = keys
            .into_iter()
            .filter(|key| !FREE_SETTINGS.contains(&key.as_str()) && saved.get(*key) != now.get(*key))
            .map(|key| {
                Error::input(
                    key,
                    format!("{} now, but the run to resume", shown(now.get(key))),
                    shown(saved.get(key)),
                )
            })
            .collect();
        if self.batches_per_epoch != batches_per_epoch {
            let problem = format!("the rows make {batches_per_epoch} batches now, but the run to resume");
            problems.push(Error::input("data", problem, self.batches_per_epoch.to_string()));
        } else if self.data != data {
            problems.push(Error::input(
                "data",
                "the rows, or their tokens, are not those this run began with",
                "the same rows; to train on others, begin a run in a new folder",
            ));
        }
        Error::all(problems)
    }
}

/// The run file as JSON.
pub fn settings(run: &Run) -> Result<Value> {
    serde_json::to_value(run).map_err(|e| Error::Internal(format!("run file: {e}")))
}

/// Leaves of a JSON object by dotted path.
fn flatten(value: &Value) -> IndexMap<String, Value> {
    let Value::Object(fields) = value else { return IndexMap::new() };
    let mut leaves = IndexMap::new();
    for (name, value) in fields {
        match value {
            Value::Object(_) => {
                leaves.extend(flatten(value).into_iter().map(|(rest, leaf)| (format!("{name}.{rest}"), leaf)))
            }
            Value::Null => {}
            leaf => _ = leaves.insert(name.clone(), leaf.clone()),
        }
    }
    leaves
}

/// Keys of `prefix`, oldest first.
async fn keys(store: &impl Store, prefix: &str) -> Result<Vec<String>> {
    let mut keys = store.list(&format!("{prefix}-")).await?;
    keys.retain(|key| parse_key(prefix, key).is_some());
    keys.sort_by_key(|key| parse_key(prefix, key).map(|(step, _)| step));
    Ok(keys)
}

/// Step and digest in a key.
fn parse_key<'k>(prefix: &str, key: &'k str) -> Option<(usize, &'k str)> {
    let (step, digest) =
        key.strip_prefix(prefix)?.strip_prefix('-')?.strip_suffix(SUFFIX)?.split_once('-')?;
    Some((step.parse().ok()?, digest))
}

async fn write_verified(
    store: &impl Store,
    prefix: &str,
    progress: &Progress,
    tensors: NamedTensors,
) -> Result<String> {
    let json = serde_json::to_string(progress).map_err(|e| Error::Internal(format!("checkpoint: {e}")))?;
    let mut digest = Digest::new(&json);
    let metadata = IndexMap::from([(PROGRESS.to_string(), json)]);
    let shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape())).collect();
    let temporary = format!("{prefix}.tmp");
    write_streaming(store, &temporary, &shapes, &metadata, async |name: &str| {
        let tensor =
            tensors.get(name).ok_or_else(|| Error::Internal(format!("checkpoint: no tensor {name}")))?;
        let tensor = tensor.to_host().await?;
        digest.add(name, &tensor);
        Ok(tensor)
    })
    .await?;
    let digest = digest.finish();
    let mut read_back = Digest::new("");
    let verified = visit(store, &temporary, &mut read_back, async |_, _| Ok(())).await;
    if verified.is_err() || read_back.finish() != digest {
        store.remove(&temporary).await?;
        verified?;
        return Err(Error::Internal(format!(
            "{temporary} does not hold what was written to it; the storage may be failing"
        )));
    }
    let key = format!("{prefix}-{:08}-{digest}{SUFFIX}", progress.step);
    store.rename(&temporary, &key).await?;
    Ok(key)
}

async fn read(store: &impl Store, key: &str, device: &Device) -> Result<Checkpoint> {
    let mut digest = Digest::new("");
    let (mut weights, mut optimizer) = (NamedTensors::new(), NamedTensors::new());
    let progress = visit(store, key, &mut digest, async |name: &str, tensor: HostTensor| {
        let tensor = AnyTensor::from_host(tensor, name, device)?;
        match (name.strip_prefix(WEIGHTS), name.strip_prefix(OPTIMIZER)) {
            (Some(name), _) => weights.insert(name.to_string(), tensor),
            (_, Some(name)) => optimizer.insert(name.to_string(), tensor),
            _ => return Err(Error::input(key, format!("tensor {name}"), "weights.… or optimizer.…")),
        };
        Ok(())
    })
    .await?;
    let found = digest.finish();
    if !key.ends_with(&format!("-{found}{SUFFIX}")) {
        return Err(Error::input(
            key,
            format!("its content has the digest {found}"),
            "the digest in its name",
        ));
    }
    let progress = serde_json::from_str(&progress)
        .map_err(|e| Error::input(key, e.to_string(), "progress as attune writes it"))?;
    Ok(Checkpoint { key: key.to_string(), progress, weights, optimizer })
}

/// Hands every tensor of a file to `each` and its content to `digest`; returns the progress as JSON.
async fn visit(
    store: &impl Store,
    key: &str,
    digest: &mut Digest,
    mut each: impl AsyncFnMut(&str, HostTensor) -> Result<()>,
) -> Result<String> {
    let mut header = read_header(store, key).await?;
    let progress = header.metadata.swap_remove(PROGRESS);
    let progress =
        progress.ok_or_else(|| Error::input(key, "no progress in its metadata", "a checkpoint of attune"))?;
    *digest = Digest::new(&progress);
    for (name, entry) in &header.tensors {
        let tensor = entry.read(store, key, name).await?;
        digest.add(name, &tensor);
        each(name, tensor).await?;
    }
    Ok(progress)
}

/// SHA-256 over progress and tensors, independent of how the file lays them out.
struct Digest(Sha256);

impl Digest {
    fn new(progress: &str) -> Self {
        Self(Sha256::new_with_prefix(progress))
    }

    fn add(&mut self, name: &str, tensor: &HostTensor) {
        self.0.update(format!("\n{name} {:?}\n", tensor.shape));
        for chunk in tensor.values.chunks(4096) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.0.update(&bytes);
        }
    }

    /// The first 16 hexadecimal digits: enough against accidents, short enough for a name.
    fn finish(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}
