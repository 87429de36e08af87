//! What the store holds between visits: models, and runs with where they began.

use super::super::RUN_FILE;
use super::models::{self, MODELS};
use crate::config::Run;
use crate::curves;
use crate::models::ADAPTER_MODEL;
use crate::protocol::{Event, Figures, Stored, StoredRun};
use crate::store::folder::Folder;
use crate::store::{Store, join};
use crate::train::{CHECKPOINT, HasEvals, last_metrics, read_metrics, signs};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Folder of all runs.
pub(super) const RUNS: &str = "runs";
/// In a run's folder: where it began.
pub(super) const SOURCES_KEY: &str = "sources.json";
/// Run files and sources are texts of a page; anything larger is not ours.
pub(super) const TEXT_LIMIT: u64 = 1 << 20;
/// Longest name of a run, in characters.
const LONGEST_NAME: usize = 100;
/// Steps that show a long run's curve; more would only take time on their way.
const MOST_STEPS: usize = 2000;

/// Keys of what a run began with, and what it is called; its run file knows names of files only. `data` is empty for
/// a run that was brought back: its rows are elsewhere.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sources {
    model: String,
    pub(super) data: String,
    #[serde(default)]
    number: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Sources {
    /// Of the run in the folder `out`, which is numbered after all others where it is new.
    pub(super) async fn of<S: Store>(store: &S, out: &str, model: &str, data: &str) -> Result<Self> {
        let (number, name) = match Self::read(&Folder::new(store, out)).await {
            Some(earlier) => (earlier.number, earlier.name),
            None => {
                let mut last = 0;
                for (folder, _) in folders(store, RUNS).await? {
                    let other = Self::read(&Folder::new(store, folder)).await;
                    last = last.max(other.map_or(0, |sources| sources.number));
                }
                (last + 1, None)
            }
        };
        Ok(Self { model: model.into(), data: data.into(), number, name })
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::Internal(format!("sources of a run: {e}")))
    }

    pub(super) async fn read<S: Store>(run: &Folder<'_, S>) -> Option<Self> {
        serde_json::from_slice(&run.read_all(SOURCES_KEY, TEXT_LIMIT).await.ok()?).ok()
    }
}

/// Models and runs. A run without settings or sources, such as one that failed before its first step, is left out.
pub(super) async fn list<S: Store>(store: &S) -> Result<Stored> {
    let (models, unfinished) = models::list(store).await?;
    Ok(Stored { models, unfinished, runs: runs(store).await? })
}

async fn runs<S: Store>(store: &S) -> Result<Vec<StoredRun>> {
    let mut runs = Vec::new();
    for (out, keys) in folders(store, RUNS).await?.into_iter().rev() {
        runs.extend(run(store, out, &keys).await?);
    }
    Ok(runs)
}

/// What stands in `folder`: the key of each file or folder there, with all keys that it holds.
pub(super) async fn folders<S: Store>(store: &S, folder: &str) -> Result<Vec<(String, Vec<String>)>> {
    let mut folders: Vec<(String, Vec<String>)> = Vec::new();
    for key in store.list(&join(folder, "")).await? {
        let Some(name) = key.split('/').nth(1) else { continue };
        let inner = join(folder, name);
        match folders.last_mut() {
            Some((last, keys)) if *last == inner => keys.push(key),
            _ => folders.push((inner, vec![key])),
        }
    }
    Ok(folders)
}

/// The run in the folder `out`, as [`list`] tells it.
pub(super) async fn run_in<S: Store>(store: &S, out: &str) -> Result<Option<StoredRun>> {
    let keys = store.list(&join(out, "")).await?;
    run(store, out.into(), &keys).await
}

async fn run<S: Store>(store: &S, out: String, keys: &[String]) -> Result<Option<StoredRun>> {
    let folder = Folder::new(store, out.clone());
    let (Some(mut run), Some(sources)) = (settings(&folder).await, Sources::read(&folder).await) else {
        return Ok(None);
    };
    let (mut n_bytes, mut has_checkpoint, mut is_done) = (0, false, false);
    for key in keys {
        n_bytes += store.size(key).await?.unwrap_or(0);
        let name = key.strip_prefix(&join(&out, "")).unwrap_or_default();
        has_checkpoint |= name.starts_with(CHECKPOINT);
        is_done |= [ADAPTER_MODEL, "model.safetensors"].contains(&name);
    }
    let has_evals = run.data.eval_path.is_some() || run.data.eval_fraction > 0.0;
    let has_evals = if has_evals { HasEvals::Yes } else { HasEvals::No };
    let (last_step, last_eval) = last_metrics(&folder, has_evals).await?;
    // The folder is where it is found, whatever the file says.
    run.out = out;
    let Sources { model, data, number, name } = sources;
    Ok(Some(StoredRun {
        run,
        model,
        data,
        number,
        name,
        last_step,
        last_eval,
        is_done,
        has_checkpoint,
        n_bytes,
    }))
}

async fn settings<S: Store>(run: &Folder<'_, S>) -> Option<Run> {
    let text = String::from_utf8(run.read_all(RUN_FILE, TEXT_LIMIT).await.ok()?).ok()?;
    Run::from_toml(&text, RUN_FILE).ok()
}

/// What happened in the run of the folder `key`. Only reads, so that it can be asked for while a run goes on.
///
/// # Errors
/// What the store reports.
pub async fn figures<S: Store>(store: &S, key: &str) -> Result<Figures> {
    let folder = Folder::new(store, key);
    let events = read_metrics(&folder).await?;
    let data = settings(&folder).await.unwrap_or_default().data;
    let mut figures = Figures { key: key.into(), signs: signs(&data, &events), ..Figures::default() };
    for event in events {
        match event {
            Event::Step(step) => figures.steps.push(step),
            Event::Eval(eval) => figures.evals.push(eval),
            Event::Sample(sample) => figures.samples.push(sample),
            _ => {}
        }
    }
    let kept = curves::spread(figures.steps.len(), MOST_STEPS);
    figures.steps = kept.filter_map(|index| figures.steps.get(index).cloned()).collect();
    Ok(figures)
}

/// Gives a run a name, or takes it away where the new one is empty.
pub(super) async fn rename<S: Store>(store: &S, key: &str, name: &str) -> Result<()> {
    let folder = Folder::new(store, key);
    let Some(mut sources) = Sources::read(&folder).await else {
        return Err(Error::input(key, "it is no run", "the key of a stored run"));
    };
    let name: String = name.trim().chars().take(LONGEST_NAME).collect();
    sources.name = (!name.is_empty()).then_some(name);
    folder.write(SOURCES_KEY, &sources.to_json()?).await
}

/// Removes `key` and everything under it.
pub(super) async fn remove(store: &impl Store, key: &str) -> Result<()> {
    if ![MODELS, RUNS].iter().any(|folder| key.starts_with(&join(folder, ""))) {
        return Err(Error::input(key, "it is no model and no run", "the key of a stored model or run"));
    }
    for inner in store.list(&join(key, "")).await? {
        store.remove(&inner).await?;
    }
    for ending in models::BESIDE {
        store.remove(&format!("{key}{ending}")).await?;
    }
    store.remove(key).await
}
