//! What is taken home: files made of the last run's result.

use super::super::export::{ExportWork, export};
use super::super::{RUN_FILE, tokenizer_of};
use super::{Session, Tell};
use crate::config::Run;
use crate::export::{ExportFormat, Origin};
use crate::methods::MethodConfig;
use crate::models::{ADAPTER_CONFIG, ADAPTER_MODEL, Adapter};
use crate::protocol::{Control, Event, Parcel, StoredFile, Update};
use crate::store::folder::Folder;
use crate::store::model_files::ModelFiles;
use crate::store::{Store, join, zip};
use crate::train::{self, METRICS_KEY, read_metrics};
use crate::{Error, Result};

/// Folder, in the run's own, of the merged model until it is packed.
const MERGED: &str = "merged";
/// What makes a folder a tuned model; the last two are not always there.
const MODEL: [&str; 6] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
];

impl<S: Store> Session<S> {
    /// Makes the file and tells where it is.
    pub(super) async fn pack(&mut self, parcel: Parcel, tell: Tell<'_>) -> Result<()> {
        let Some(run) = self.tuned.clone() else {
            return Err(Error::input("result", "there is none", "a run that left a result"));
        };
        let (name, folder) = (parcel.file_name(), Folder::new(&self.store, &run.out));
        let is_adapter = matches!(run.method, MethodConfig::Lora(_));
        match parcel {
            Parcel::Adapter if !is_adapter => {
                return Err(Error::input("adapter", "there is none", "a run of method lora"));
            }
            Parcel::Adapter => {
                self.archive(&run.out, &[ADAPTER_CONFIG, ADAPTER_MODEL], name, &run, tell).await?
            }
            Parcel::Merged => self.pack_model(&run, is_adapter, tell).await?,
            Parcel::Run => {
                let result: &[&str] = if is_adapter { &[ADAPTER_CONFIG, ADAPTER_MODEL] } else { &MODEL };
                let names = [result, &[RUN_FILE, METRICS_KEY]].concat();
                let names = self.present(&run.out, &names).await?;
                self.archive(&run.out, &names, name, &run, tell).await?;
            }
            Parcel::Csv => {
                let text = train::csv(&read_metrics(&folder).await?);
                folder.write(name, text.as_bytes()).await?;
            }
            Parcel::Log => {
                let text = train::log(&run, &read_metrics(&folder).await?);
                folder.write(name, text.as_bytes()).await?;
            }
        }
        let key = join(&run.out, name);
        let n_bytes = self.store.size(&key).await?.unwrap_or(0);
        tell(Update::Packed(StoredFile { key, name: name.into(), n_bytes }));
        Ok(())
    }

    /// The tuned model as one archive. An adapter is folded in as `attune export --format merged` does it, one
    /// tensor in memory at a time, and what was written is loaded and compared.
    async fn pack_model(&mut self, run: &Run, is_adapter: bool, tell: Tell<'_>) -> Result<()> {
        let name = Parcel::Merged.file_name();
        if !is_adapter {
            let names = self.present(&run.out, &MODEL).await?;
            return self.archive(&run.out, &names, name, run, tell).await;
        }
        // Exporting needs the memory that speaking took.
        self.speaker = None;
        let opened = self.opened()?;
        let files = ModelFiles::open(&self.store, &opened.key).await?;
        let tokenizer = tokenizer_of(&files)?;
        let adapter = Some(Adapter::load(&self.store, &run.out).await?);
        let origin = Origin { files: &files, tokenizer: &tokenizer, name: &opened.name };
        let work = ExportWork { origin, adapter, format: ExportFormat::Merged, device: &self.device };
        let folder = join(&run.out, MERGED);
        // A page that was closed meanwhile left a part of it.
        self.remove_folder(&folder).await?;
        let exported = export(work, &self.store, &folder, &mut |event| tell(Update::Event(event))).await;
        let packed = match exported {
            Ok(report) => {
                let names: Vec<&str> = report.files.iter().map(String::as_str).collect();
                self.archive(&folder, &names, name, run, tell).await
            }
            Err(error) => Err(error),
        };
        self.remove_folder(&folder).await?;
        packed
    }

    async fn archive(
        &self,
        folder: &str,
        names: &[&str],
        name: &str,
        run: &Run,
        tell: Tell<'_>,
    ) -> Result<()> {
        let mut progress = |done, total| {
            let event = Event::Progress { task: format!("writing {name}"), done, total };
            // A file that is nearly there is not left half done.
            let (Control::Continue | Control::Stop) = tell(Update::Event(event));
        };
        zip::write(&self.store, folder, names, &join(&run.out, name), &mut progress).await
    }

    /// Those of the files that are there.
    async fn present<'n>(&self, folder: &str, names: &[&'n str]) -> Result<Vec<&'n str>> {
        let mut found = Vec::new();
        for &name in names {
            if self.store.size(&join(folder, name)).await?.is_some() {
                found.push(name);
            }
        }
        Ok(found)
    }

    pub(super) async fn remove_folder(&self, folder: &str) -> Result<()> {
        for key in self.store.list(&join(folder, "")).await? {
            self.store.remove(&key).await?;
        }
        Ok(())
    }
}
