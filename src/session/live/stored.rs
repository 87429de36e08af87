//! What the store holds between visits: models, and runs with where they began.

use super::super::RUN_FILE;
use crate::config::Run;
use crate::hub::Kept;
use crate::models::ADAPTER_MODEL;
use crate::protocol::{Event, Stored, StoredFile, StoredRun, Unfinished};
use crate::store::folder::Folder;
use crate::store::{Store, join};
use crate::train::{CHECKPOINT, read_metrics};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Folder of all models.
const MODELS: &str = "models";
/// Folder of all runs.
const RUNS: &str = "runs";
/// In a run's folder: where it began.
const SOURCES_KEY: &str = "sources.json";
/// Run files and sources are texts of a page; anything larger is not ours.
const TEXT_LIMIT: u64 = 1 << 20;

/// Keys of what a run began with; its run file knows their names only.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sources {
    pub model: String,
    pub data: String,
}

impl Sources {
    pub(super) async fn save(&self, run: &impl Store) -> Result<()> {
        let json = serde_json::to_vec(self).map_err(|e| Error::Internal(format!("sources of a run: {e}")))?;
        run.write(SOURCES_KEY, &json).await
    }
}

/// Models and runs. A run without settings or sources, such as one that failed before its first step, is left out.
pub(super) async fn list<S: Store>(store: &S) -> Result<Stored> {
    let mut stored = Stored::default();
    models(store, &mut stored).await?;
    let mut folders: Vec<String> = Vec::new();
    for key in store.list(&join(RUNS, "")).await? {
        let Some(name) = key.split('/').nth(1) else { continue };
        let folder = join(RUNS, name);
        if folders.last() != Some(&folder) {
            folders.push(folder);
        }
    }
    for folder in folders.iter().rev() {
        stored.runs.extend(run(store, folder).await?);
    }
    Ok(stored)
}

/// Endings of what lies beside a model's file while it is fetched, and of what is noted about it.
const BESIDE: [&str; 3] = [Kept::NOTE, Kept::MARK, PARTIAL];
/// Ending of a file that is being written.
const PARTIAL: &str = ".partial";

/// Models, each a folder or a file, and those of which a part is there.
async fn models(store: &impl Store, stored: &mut Stored) -> Result<()> {
    #[derive(Default)]
    struct Found {
        n_bytes: u64,
        is_partial: bool,
    }
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for key in store.list(&join(MODELS, "")).await? {
        let Some(name) = key.split('/').nth(1) else { continue };
        let is_file = key.matches('/').count() == 1;
        let owner =
            if is_file { BESIDE.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name) } else { name };
        let model = found.entry(owner.to_owned()).or_default();
        model.n_bytes += store.size(&key).await?.unwrap_or(0);
        model.is_partial |= key.ends_with(PARTIAL);
    }
    for (name, Found { n_bytes, is_partial }) in found {
        let key = join(MODELS, &name);
        if is_partial {
            let hub_id = kept(store, &key, Kept::MARK).await.map(|kept| kept.id);
            let name = hub_id.clone().unwrap_or(name);
            stored.unfinished.push(Unfinished { key, name, n_bytes, hub_id });
        } else {
            let name = kept(store, &key, Kept::NOTE).await.map_or(name, |kept| kept.id);
            stored.models.push(StoredFile { key, name, n_bytes });
        }
    }
    Ok(())
}

/// The note or mark beside a model of the hub.
pub(super) async fn kept(store: &impl Store, model: &str, ending: &str) -> Option<Kept> {
    Kept::parse(&store.read_all(&Kept::key(model, ending), TEXT_LIMIT).await.ok()?)
}

async fn run<S: Store>(store: &S, out: &str) -> Result<Option<StoredRun>> {
    let folder = Folder::new(store, out);
    let (mut n_bytes, mut has_checkpoint, mut is_done) = (0, false, false);
    for key in folder.list("").await? {
        n_bytes += folder.size(&key).await?.unwrap_or(0);
        has_checkpoint |= key.starts_with(CHECKPOINT);
        is_done |= [ADAPTER_MODEL, "model.safetensors"].contains(&key.as_str());
    }
    let text = async |key: &str| {
        let bytes = folder.read_all(key, TEXT_LIMIT).await.ok()?;
        String::from_utf8(bytes).ok()
    };
    let (Some(run), Some(sources)) = (text(RUN_FILE).await, text(SOURCES_KEY).await) else { return Ok(None) };
    let (Ok(mut run), Ok(sources)) =
        (Run::from_toml(&run, RUN_FILE), serde_json::from_str::<Sources>(&sources))
    else {
        return Ok(None);
    };
    // The folder is where it is found, whatever the file says.
    run.out = out.into();
    let (mut steps, mut evals) = (Vec::new(), Vec::new());
    for event in read_metrics(&folder).await? {
        match event {
            Event::Step(step) => steps.push(step),
            Event::Eval(eval) => evals.push(eval),
            _ => {}
        }
    }
    let Sources { model, data } = sources;
    Ok(Some(StoredRun { run, model, data, steps, evals, is_done, has_checkpoint, n_bytes }))
}

/// Removes `key` and everything under it.
pub(super) async fn remove(store: &impl Store, key: &str) -> Result<()> {
    if ![MODELS, RUNS].iter().any(|folder| key.starts_with(&join(folder, ""))) {
        return Err(Error::input(key, "it is no model and no run", "the key of a stored model or run"));
    }
    for inner in store.list(&join(key, "")).await? {
        store.remove(&inner).await?;
    }
    for ending in BESIDE {
        store.remove(&format!("{key}{ending}")).await?;
    }
    store.remove(key).await
}
