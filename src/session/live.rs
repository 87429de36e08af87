//! A session that lives between commands: it owns store, model, tokenizer and data, and is what a page's worker
//! drives.

mod back;
mod data;
mod examples;
mod forecast;
mod models;
mod parcel;
mod speak;
mod stored;
mod sweep;

use super::{
    DataFile, Place, RUN_FILE, Work, load_model, prepare, stop_template_clock, tokenizer_of, train_with,
};
use crate::config::Run;
use crate::data::read::MAX_UNPACKED_BYTES;
use crate::device;
use crate::estimate::{Rate, RowSize};
use crate::hub::Kept;
use crate::methods::MethodConfig;
use crate::models::{ADAPTER_CONFIG, ADAPTER_MODEL, Adapter, HeldBytes, Spec, refuse_too_large};
use crate::protocol::{Command, Control, Event, ModelCard, StoredFile, TrainSummary, Trained, Update};
use crate::store::folder::Folder;
use crate::store::model_files::ModelFiles;
use crate::store::{Store, join};
use crate::tokenizer::Tokenizer;
use crate::train::{CHECKPOINT, METRICS_KEY, Start, load_newest};
use crate::{Error, Result};
use serde_json::Value;
use speak::Speaker;
pub use stored::figures;
use stored::{SOURCES_KEY, Sources};
pub use sweep::sweep;

/// Where updates go; the answer may ask to stop.
pub type Tell<'a> = &'a mut dyn FnMut(Update) -> Control;

/// Store, model, data and the last run's result.
pub struct Session<S> {
    store: S,
    device: String,
    model: Option<Opened>,
    data: Option<Rows>,
    /// The last run that left a result.
    tuned: Option<Run>,
    /// The model as it last spoke, kept so that the next word does not load it again.
    speaker: Option<Speaker>,
    /// How fast the device computes, once it is known.
    rate: Option<Rate>,
}

/// A data file and where it came from.
struct Rows {
    key: String,
    file: DataFile,
    sizes: Vec<RowSize>,
}

/// A model whose tensors stay where they are.
struct Opened {
    key: String,
    name: String,
    tokenizer: Tokenizer,
    spec: Spec,
    held: HeldBytes,
}

impl<S: Store> Session<S> {
    /// A session over `store` that computes on `device`, named as `device::open` takes it.
    pub fn new(store: S, device: impl Into<String>) -> Self {
        Self { store, device: device.into(), model: None, data: None, tuned: None, speaker: None, rate: None }
    }

    /// The session's store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Does what is asked and tells about it.
    ///
    /// # Errors
    /// What the work reports; a command out of order says what has to come first.
    pub async fn handle(&mut self, command: Command, tell: Tell<'_>) -> Result<()> {
        match command {
            Command::OpenModel { key, name } => self.open_model(key, name, tell).await,
            Command::ReadData { key, name, settings, seed } => {
                let bytes = self.store.read_all(&key, MAX_UNPACKED_BYTES).await?;
                let file = DataFile { name, bytes };
                let tokenizer = &self.opened()?.tokenizer;
                let emit: super::Emit<'_> = &mut |event| tell(Update::Event(event));
                let (view, sizes) = data::view(&file, tokenizer, &settings, seed, emit)?;
                self.data = Some(Rows { key, file, sizes });
                tell(Update::Data(Box::new(view)));
                Ok(())
            }
            Command::Train { run } => self.train(*run, Start::Fresh, tell).await,
            Command::Resume { run } => self.train(*run, Start::Resume, tell).await,
            Command::Keep { run } => self.keep(*run, tell).await,
            Command::Generate { prompt, voice, sampling, seed } => {
                self.generate(prompt, voice, &sampling, seed, tell).await
            }
            Command::Reopen { run } => {
                self.opened()?;
                self.finish(*run, None, tell).await
            }
            Command::Estimate { run, limit_bytes } => self.forecast(*run, limit_bytes, tell).await,
            Command::List => {
                tell(Update::Stored(stored::list(&self.store).await?));
                Ok(())
            }
            Command::Remove { key } => stored::remove(&self.store, &key).await,
            Command::Rename { key, name } => stored::rename(&self.store, &key, &name).await,
            Command::Pack { parcel } => self.pack(parcel, tell).await,
            Command::BringBack { folder } => self.bring_back(&folder, tell).await,
            Command::Examples { run } => self.examples(&run, tell),
        }
    }

    fn opened(&self) -> Result<&Opened> {
        self.model.as_ref().ok_or_else(no_model)
    }

    async fn open_model(&mut self, key: String, name: String, tell: Tell<'_>) -> Result<()> {
        // Tokens and adapters of one model mean nothing to another; and where this one cannot be opened, what was
        // asked for next must not be done with the one before.
        (self.model, self.speaker, self.data, self.tuned) = (None, None, None, None);
        let opened = async {
            let files = ModelFiles::open(&self.store, &key).await?;
            let tokenizer = tokenizer_of(&files)?;
            let spec = Spec::from_config(files.config())?;
            let mut card = card(&files, &name, &tokenizer, &spec);
            if let Some(kept) = models::kept(&self.store, &key, Kept::NOTE).await {
                card.license = kept.license.or(card.license);
            }
            if let Some(max_bytes) = device::max_tensor_bytes(&device::open(&self.device)?) {
                refuse_too_large(&files, &self.device, max_bytes)?;
            }
            let held = HeldBytes::of(&files, &spec);
            Ok((tokenizer, spec, held, card))
        };
        // The store's keys are the page's own affair: people know the names of their files.
        let (tokenizer, spec, held, card) =
            opened.await.map_err(|error: Error| error.without_folder(&key))?;
        self.model = Some(Opened { key, name, tokenizer, spec, held });
        tell(Update::Model(card));
        Ok(())
    }

    async fn train(&mut self, mut run: Run, start: Start, tell: Tell<'_>) -> Result<()> {
        // Training needs the memory that speaking took.
        (self.speaker, self.tuned) = (None, None);
        let Some(opened) = &mut self.model else { return Err(no_model()) };
        let Some(data) = &self.data else {
            return Err(Error::input("data.path", "no file is read", "a file of training rows"));
        };
        run.model.clone_from(&opened.name);
        run.data.path = Some(data.file.name.clone());
        run.device.clone_from(&self.device);
        let out = Folder::new(&self.store, &run.out);
        stop_template_clock(&mut opened.tokenizer, &out, start).await?;
        let files = ModelFiles::open(&self.store, &opened.key).await?;
        let sources = Sources::of(&self.store, &run.out, &opened.key, &data.key).await?;
        let mut steps = Vec::new();
        let mut emit = |event| {
            if let Event::Step(step) = &event {
                steps.push(step.clone());
            }
            tell(Update::Event(event))
        };
        let rows = prepare(&run, &data.file, None, &opened.tokenizer, &mut emit)?;
        let adapter = adapter_of(&self.store, &run).await?;
        let work = Work { run: &run, files: &files, tokenizer: &opened.tokenizer, adapter, store: &out };
        let beside = [(SOURCES_KEY, sources.to_json()?)];
        let outcome = train_with(work, rows, start, &beside, &mut emit).await;
        drop(files);
        self.learn_rate(&run, &steps).await;
        self.finish(run, Some(outcome?), tell).await
    }

    /// A stopped run's newest checkpoint as its result.
    async fn keep(&mut self, mut run: Run, tell: Tell<'_>) -> Result<()> {
        if matches!(run.method, MethodConfig::Full(_)) {
            return Err(Error::Unsupported {
                what: "keeping a stopped run of method full".into(),
                supported: "resuming it, and keeping stopped runs of method lora".into(),
            });
        }
        let opened = self.opened()?;
        run.model.clone_from(&opened.name);
        let files = ModelFiles::open(&self.store, &opened.key).await?;
        let mut emit = |event| tell(Update::Event(event));
        let adapter = adapter_of(&self.store, &run).await?;
        let is_continued = adapter.is_some();
        let place = Place { device: &self.device, ..Place::in_force(&run) };
        let mut model = load_model(place, &files, adapter, &mut emit).await?;
        if !is_continued {
            model.attach(&run.method, run.seed)?;
        }
        let out = Folder::new(&self.store, &run.out);
        let mut note = |message| _ = emit(Event::Note { message });
        let device = device::open(&self.device)?;
        let Some(checkpoint) = load_newest(&out, CHECKPOINT, &device, &mut note).await? else {
            return Err(Error::input(&run.out, "no checkpoint", "a run that did at least one step"));
        };
        model.set_trainable(checkpoint.weights)?;
        Adapter::of(&model, &run.model).await?.save(&out, "").await?;
        self.finish(run, None, tell).await
    }

    async fn finish(&mut self, run: Run, summary: Option<TrainSummary>, tell: Tell<'_>) -> Result<()> {
        let is_adapter = matches!(run.method, MethodConfig::Lora(_));
        let mut files = Vec::new();
        let kept: &[&str] = if is_adapter {
            &[ADAPTER_CONFIG, ADAPTER_MODEL, RUN_FILE, METRICS_KEY]
        } else {
            &[
                "model.safetensors",
                "config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                RUN_FILE,
                METRICS_KEY,
            ]
        };
        for &name in kept {
            let key = join(&run.out, name);
            if let Some(n_bytes) = self.store.size(&key).await? {
                files.push(StoredFile { key, name: name.into(), n_bytes });
            }
        }
        self.tuned = Some(run);
        tell(Update::Trained(Trained { summary, files, is_adapter }));
        Ok(())
    }
}

/// The adapter that a run continues from, where it names one: a folder of the store, as any run's.
async fn adapter_of(store: &impl Store, run: &Run) -> Result<Option<Adapter>> {
    match &run.adapter {
        Some(folder) => Ok(Some(Adapter::load(store, folder).await?)),
        None => Ok(None),
    }
}

fn no_model() -> Error {
    Error::input("model", "none is opened", "a model")
}

fn card<S: Store>(files: &ModelFiles<'_, S>, name: &str, tokenizer: &Tokenizer, spec: &Spec) -> ModelCard {
    let infos: Vec<_> = files.tensor_names().into_iter().filter_map(|name| files.info(name)).collect();
    ModelCard {
        name: name.into(),
        architecture: files.config().get("model_type").and_then(Value::as_str).unwrap_or_default().into(),
        n_params: infos.iter().map(|info| info.shape.iter().product::<usize>()).sum(),
        n_bytes: infos.iter().map(|info| info.n_bytes).sum(),
        n_layers: spec.layers.len(),
        hidden_size: spec.hidden_size,
        vocab_size: spec.vocab_size,
        max_positions: spec.max_positions,
        has_chat_template: tokenizer.has_chat_template(),
        license: files.license().map(str::to_owned),
    }
}
