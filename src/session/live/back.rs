//! What was taken home comes back: an adapter of attune's or PEFT's, a run file, or the archive of a run.

use super::stored::{self, SOURCES_KEY, Sources};
use super::{Session, Tell};
use crate::config::Run;
use crate::methods::MethodConfig;
use crate::models::{ADAPTER_CONFIG, ADAPTER_MODEL, Adapter};
use crate::protocol::{Returned, SourceChange, Update};
use crate::session::RUN_FILE;
use crate::store::{Store, join, zip};
use crate::train::METRICS_KEY;
use crate::{Error, Result};

/// A run file is a text.
const TEXT_LIMIT: u64 = 1 << 20;
/// Files that are taken out of an archive, and the most bytes each of them may have: an adapter with a trained copy
/// of a large embedding stays below, and so do the figures of a million steps.
const WANTED: [(&str, u64); 4] = [
    (ADAPTER_CONFIG, TEXT_LIMIT),
    (ADAPTER_MODEL, 4 << 30),
    (RUN_FILE, TEXT_LIMIT),
    (METRICS_KEY, 512 << 20),
];

impl<S: Store> Session<S> {
    /// Takes in the files of the new folder `folder`; what is refused is removed.
    pub(super) async fn bring_back(&mut self, folder: &str, tell: Tell<'_>) -> Result<()> {
        let taken = self.take_in(folder, tell).await;
        if !matches!(taken, Ok(true)) {
            let removed = self.remove_folder(folder).await;
            // Why it was refused says more than why it could not be removed.
            taken?;
            removed?;
            return Ok(());
        }
        taken.map(|_| ())
    }

    /// Whether the folder now holds a run.
    async fn take_in(&mut self, folder: &str, tell: Tell<'_>) -> Result<bool> {
        self.unpack(folder).await?;
        for (name, limit) in WANTED {
            let size = self.store.size(&join(folder, name)).await?.unwrap_or(0);
            refuse_large(name, size, limit)?;
        }
        // What cannot be shown is refused while nothing of it is kept.
        let figures = stored::figures(&self.store, folder).await?;
        let mut settings = self.run_file(folder).await?;
        let has = async |name: &str| Ok::<_, Error>(self.store.size(&join(folder, name)).await?.is_some());
        let has_adapter = has(ADAPTER_CONFIG).await? || has(ADAPTER_MODEL).await?;
        let mut base = settings.as_ref().map(|run| run.model.clone());
        if has_adapter {
            let adapter = Adapter::load(&self.store, folder).await?;
            base = base.or(adapter.base_model.clone());
            self.hold(folder, adapter, settings.as_ref(), tell).await?;
        }
        let differences = self.differences(base, settings.as_ref());
        if !has_adapter && settings.is_none() {
            let expected =
                format!("{ADAPTER_CONFIG} with {ADAPTER_MODEL}, {RUN_FILE}, or a zip archive of them");
            return Err(Error::input("files brought back", "neither an adapter nor a run file", expected));
        }
        if let Some(run) = &mut settings {
            // Where it lay and what it computed on are another machine's.
            let default = Run::default();
            (run.out, run.device, run.adapter) = (default.out, default.device, None);
        }
        let run = if has_adapter { stored::run_in(&self.store, folder).await? } else { None };
        let tuned = run.as_ref().map(|run| run.run.clone());
        if has_adapter {
            tell(Update::Figures(Box::new(figures)));
        }
        tell(Update::Returned(Box::new(Returned { settings, run, differences })));
        if let Some(run) = tuned {
            self.finish(run, None, tell).await?;
        }
        Ok(has_adapter)
    }

    /// Attaches the adapter to the opened model, which refuses one that was made for another, and makes the folder
    /// a run's.
    async fn hold(
        &mut self,
        folder: &str,
        adapter: Adapter,
        settings: Option<&Run>,
        tell: Tell<'_>,
    ) -> Result<()> {
        let opened = self.opened()?;
        let (key, name) = (opened.key.clone(), opened.name.clone());
        let method = MethodConfig::Lora(adapter.config);
        let was_for = adapter.base_model;
        // Its values are read once more with the model, and need not be there twice.
        drop(adapter.tensors);
        // Two models at once may be more than there is room for.
        self.speaker = None;
        let speaker = self.load(key.clone(), Some(folder.into()), tell).await;
        self.speaker = Some(speaker.map_err(|error| match error {
            Error::Input { .. } | Error::Inputs(_) => {
                let maker = was_for.map_or_else(String::new, |base| format!(", made for {base},"));
                let problem = format!("the adapter{maker} does not fit it:\n{}\n", first_lines(&error));
                Error::input(&name, problem, "the base model of the adapter, opened first")
            }
            other => other,
        })?);
        let mut run = settings.cloned().unwrap_or_default();
        (run.model, run.out, run.method, run.adapter) = (name, folder.into(), method, None);
        self.store.write(&join(folder, RUN_FILE), run.to_toml()?.as_bytes()).await?;
        let sources = Sources::of(&self.store, folder, &key, "").await?;
        self.store.write(&join(folder, SOURCES_KEY), &sources.to_json()?).await
    }

    /// Takes what is wanted out of the archives in `folder`, and removes them.
    async fn unpack(&self, folder: &str) -> Result<()> {
        let keys = self.store.list(&join(folder, "")).await?;
        for archive in keys.iter().filter(|key| key.to_ascii_lowercase().ends_with(".zip")) {
            let members = zip::members(&self.store, archive, u64::MAX).await?;
            for (name, limit) in WANTED {
                let is_it = |member: &&zip::Member| member.name.rsplit('/').next() == Some(name);
                let mut found = members.iter().filter(is_it);
                let Some(member) = found.next() else { continue };
                if found.next().is_some() {
                    let problem = format!("holds more than one {name}");
                    return Err(Error::input(archive, problem, "the archive of one adapter or run"));
                }
                refuse_large(name, member.size, limit)?;
                zip::extract(&self.store, archive, member, &join(folder, name)).await?;
            }
            self.store.remove(archive).await?;
        }
        Ok(())
    }

    /// The run file: `run.toml`, or the one other TOML file there is.
    async fn run_file(&self, folder: &str) -> Result<Option<Run>> {
        let keys = self.store.list(&join(folder, "")).await?;
        let mut files = keys.iter().filter(|key| key.ends_with(".toml"));
        let Some(key) = files.next() else { return Ok(None) };
        if files.next().is_some() {
            return Err(Error::input("files brought back", "several run files", "one"));
        }
        let name = key.rsplit('/').next().unwrap_or(key);
        let text = String::from_utf8(self.store.read_all(key, TEXT_LIMIT).await?);
        let text = text.map_err(|error| Error::input(name, error.utf8_error().to_string(), "UTF-8 text"))?;
        let run = Run::from_toml(&text, name)?;
        // Which model and which rows is for whoever opens them; everything else has to hold.
        let mut whole = run.clone();
        whole.model.push('-');
        whole.data.path.get_or_insert_default();
        whole.validate()?;
        Ok(Some(run))
    }

    /// What the files name and is not what is open.
    fn differences(&self, base: Option<String>, settings: Option<&Run>) -> Vec<SourceChange> {
        let model = self.model.as_ref().map(|opened| opened.name.clone());
        let data = self.data.as_ref().map(|rows| rows.file.name.clone());
        let then = settings.and_then(|run| run.data.path.clone());
        let named = [("model", base, model), ("data.path", then, data)];
        let differ = |(what, then, now): (&str, Option<String>, Option<String>)| {
            let then =
                then.filter(|then| !then.is_empty() && Some(last(then)) != now.as_deref().map(last))?;
            Some(SourceChange { what: what.into(), then, now })
        };
        named.into_iter().filter_map(differ).collect()
    }
}

fn refuse_large(name: &str, size: u64, limit: u64) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    Err(Error::input(name, format!("has {size} bytes"), format!("at most {limit} bytes")))
}

/// An adapter of another model fits nowhere: a few of its tensors tell enough.
fn first_lines(error: &Error) -> String {
    const MOST: usize = 6;
    let text = error.to_string();
    let n_more = text.lines().count().saturating_sub(MOST);
    let first = text.lines().take(MOST).collect::<Vec<_>>().join("\n");
    if n_more == 0 { first } else { format!("{first}\nand {n_more} more") }
}

/// A path's last part: the same file has another folder on another machine.
fn last(path: &str) -> &str {
    path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(path)
}
