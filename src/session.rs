//! The bridge: a run and its files in, events out. The command line and the page call nothing below it.

mod export;
mod foreign_tokens;
mod live;
mod prompts;
mod rows;
mod template_time;

pub use export::{ExportWork, export};
pub use live::{Session, Tell, figures, sweep};
pub use rows::{Checked, DataFile, Prepared, check, prepare};
pub use template_time::stop_template_clock;

use crate::config::{Precision, Run, WeightFormat};
use crate::data::Encoded;
use crate::data::batches::{BatchPlan, Batches};
use crate::data::check::Part;
use crate::device;
use crate::estimate::{Kernels, Known, Rate, RowSize, estimate};
use crate::eval::{self, Choices, HeldOut};
use crate::methods::MethodConfig;
use crate::models::{ADAPTER_CONFIG, Adapter, CausalLm, HeldBytes, Spec};
use crate::objectives::Trainee;
use crate::objectives::sft::{Sft, SftOptions};
use crate::ops;
use crate::protocol::{Control, Estimate, EvalMetrics, Event, TrainSummary};
use crate::store::Store;
use crate::store::model_files::ModelFiles;
use crate::tokenizer::Tokenizer;
use crate::train::{self, Samples, Start, Training};
use crate::{Error, Result};
use burn::tensor::Device;
use serde::Serialize;

/// Key of the effective run file in a run's folder.
pub const RUN_FILE: &str = "run.toml";

/// Where events go; the answer may ask to stop.
pub type Emit<'a> = &'a mut dyn FnMut(Event) -> Control;

/// The tokenizer of a model, its generation's end tokens included.
pub fn tokenizer_of<S: Store>(files: &ModelFiles<'_, S>) -> Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_files(files.tokenizer()?)?;
    tokenizer.extend_eos(files.eos_token_ids());
    Ok(tokenizer)
}

/// What a run works on.
pub struct Work<'a, 's, M: Store, O: Store> {
    /// Settings.
    pub run: &'a Run,
    /// The model's files.
    pub files: &'a ModelFiles<'s, M>,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The adapter that the run continues from, where it names one.
    pub adapter: Option<Adapter>,
    /// The run's folder.
    pub store: &'a O,
}

/// Where and how a model computes.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The device's name.
    pub device: &'a str,
    /// How a GPU multiplies.
    pub precision: Precision,
    /// How frozen weights lie in memory.
    pub weights: WeightFormat,
}

impl<'a> Place<'a> {
    /// In f32, with weights as suits the device.
    pub fn plain(device: &'a str) -> Self {
        Self { device, precision: Precision::F32, weights: WeightFormat::Auto }
    }

    /// Opens the device and sets the precision.
    ///
    /// # Errors
    /// [`Error::Device`] for a device that is not there, or that has no such precision.
    pub fn open(self) -> Result<Device> {
        let device = device::open(self.device)?;
        ops::set_precision(self.precision, &device, self.device)?;
        Ok(device)
    }

    /// As a run that trains has it.
    pub fn in_force(run: &'a Run) -> Self {
        Self { weights: run.weight_format(), ..Self::of(run) }
    }

    /// As a run states it.
    pub fn of(run: &'a Run) -> Self {
        Self { device: &run.device, precision: run.precision, weights: run.weights }
    }
}

/// Loads a model onto the device of that name and attaches the adapter, if there is one.
///
/// # Errors
/// An unknown device; files that do not fit the architecture; an adapter of another model.
pub async fn load_model<S: Store>(
    place: Place<'_>,
    files: &ModelFiles<'_, S>,
    adapter: Option<Adapter>,
    emit: Emit<'_>,
) -> Result<CausalLm> {
    let device = place.open()?;
    ops::self_test(&device).await?;
    let mut model = CausalLm::load(files, place.weights, &device, &mut |event| _ = emit(event)).await?;
    if let Some(adapter) = adapter {
        model.attach_adapter(adapter)?;
    }
    Ok(model)
}

/// Loads the model, attaches the method, trains on prepared rows and saves the adapter or, after full tuning,
/// the model into the run's folder.
///
/// # Errors
/// Settings out of range, or other than those of the adapter; what loading, attaching and [`train::train`] report.
pub async fn train<M: Store, O: Store>(
    work: Work<'_, '_, M, O>,
    rows: Prepared,
    start: Start,
    emit: Emit<'_>,
) -> Result<TrainSummary> {
    train_with(work, rows, start, &[], emit).await
}

/// A file of the run's folder besides those that every run has: its key and its content.
type Beside<'a> = (&'a str, Vec<u8>);

/// Like [`train`]; `beside` is written with the run file, so that a run that is refused leaves none of it.
async fn train_with<M: Store, O: Store>(
    work: Work<'_, '_, M, O>,
    rows: Prepared,
    start: Start,
    beside: &[Beside<'_>],
    emit: Emit<'_>,
) -> Result<TrainSummary> {
    let Work { run, files, tokenizer, adapter, store } = work;
    run.validate()?;
    let run = &in_force(run, adapter.as_ref())?;
    if start == Start::Fresh || store.size(RUN_FILE).await?.is_none() {
        refuse_used_folder(store).await?;
    }
    emit(Event::Estimate(Box::new(foresee(run, files, &rows).await?)));
    let is_continued = adapter.is_some();
    let mut model = load_model(Place::in_force(run), files, adapter, emit).await?;
    if !is_continued {
        model.attach(&run.method, run.seed)?;
    }
    let options = SftOptions {
        label_smoothing: run.train.label_smoothing,
        neftune_alpha: run.train.neftune_alpha,
        gradient_checkpointing: run.train.gradient_checkpointing,
    };
    foreign_tokens::check_rows(&model, tokenizer, "training ", &rows.train)?;
    foreign_tokens::check_rows(&model, tokenizer, "held-out ", &rows.held_out)?;
    let feed = Feed { rows, pad_id: foreign_tokens::pad_id(&model, tokenizer), tokenizer, beside };
    template_time::save(tokenizer, store, start).await?;
    let mut trainee = Sft { model, options };
    note_ignored_dropout(files.config(), emit);
    let summary = train_on(&mut trainee, run, feed, store, start, emit).await;
    let summary = match summary {
        // Step 1 fails before anything is learned.
        Err(Error::NotFinite { step, quantity, value, advice }) if step > 1 => {
            export::save_result(&trainee.model, run, files, tokenizer, store, emit).await?;
            let (what, flag) = match run.method {
                MethodConfig::Lora(_) => ("adapter", "--adapter"),
                MethodConfig::Full(_) => ("model", "--model"),
            };
            let advice = format!(
                "the {what} as it was before the last update is in the run's folder, to go on from in a new one \
                 with {flag}; {advice}"
            );
            return Err(Error::NotFinite { step, quantity, value, advice });
        }
        other => other?,
    };
    export::save_result(&trainee.model, run, files, tokenizer, store, emit).await?;
    Ok(summary)
}

/// What the run needs; the device's speed is that of a matrix product.
async fn foresee<S: Store>(run: &Run, files: &ModelFiles<'_, S>, rows: &Prepared) -> Result<Estimate> {
    let spec = Spec::from_config(files.config())?;
    let sizes = |rows: &[Encoded]| rows.iter().map(RowSize::of).collect::<Vec<_>>();
    let (train, held_out) = (sizes(&rows.train), sizes(&rows.held_out));
    // Without a rate there is no time, and nothing else is lost.
    let rate = ops::product_rate(&device::open(&run.device)?).await.ok();
    let known = Known {
        spec: &spec,
        rows: &train,
        held_out: Some(&held_out),
        held: Some(HeldBytes::of(files, &spec)),
        kernels: Kernels::of(&run.device),
        rate: rate.map(Rate::of_product),
        limit_bytes: device::memory_limit(&run.device),
    };
    estimate(known, run)
}

/// Refuses to begin a run in a folder that holds another run, a model or an adapter: what a run leaves there
/// would replace them.
async fn refuse_used_folder(store: &impl Store) -> Result<()> {
    train::refuse_checkpoints(store).await?;
    let is_result = |key: &String| {
        !key.contains('/') && (RESULTS.contains(&key.as_str()) || key.ends_with(".safetensors"))
    };
    let found: Vec<String> = store.list("").await?.into_iter().filter(is_result).collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::input("run folder", format!("it holds {}", found.join(", ")), "a new folder for the run"))
}

/// Files that make a folder a model or an adapter.
const RESULTS: [&str; 2] = ["config.json", ADAPTER_CONFIG];

/// Dropout that transformers would apply in training because the model's own file says so.
const MODEL_DROPOUTS: [&str; 4] = ["attn_pdrop", "embd_pdrop", "resid_pdrop", "attention_dropout"];

/// attune trains without the model's own dropout; transformers does not, so the difference is said.
fn note_ignored_dropout(config: &serde_json::Value, emit: Emit<'_>) {
    let above_zero =
        |name: &&str| config.get(*name).and_then(serde_json::Value::as_f64).is_some_and(|p| p > 0.0);
    let found: Vec<&str> = MODEL_DROPOUTS.into_iter().filter(above_zero).collect();
    if !found.is_empty() {
        let message = format!(
            "config.json asks for dropout inside the model ({}); training goes without it, unlike transformers",
            found.join(", ")
        );
        _ = emit(Event::Note { message });
    }
}

/// The run with every setting as it is in force: what the run's folder records, and what a resumption is compared
/// with.
fn in_force(run: &Run, adapter: Option<&Adapter>) -> Result<Run> {
    let mut run = export::continued(run, adapter)?;
    run.train.learning_rate = Some(run.learning_rate());
    run.device = device::resolve(&run.device)?;
    Ok(run)
}

/// What a run is fed with.
struct Feed<'a> {
    rows: Prepared,
    /// Fills up short rows.
    pad_id: u32,
    tokenizer: &'a Tokenizer,
    beside: &'a [Beside<'a>],
}

/// Trains `model`, whose method is attached, on prepared rows. `store` is the run's folder.
///
/// # Errors
/// What [`train::train`] reports.
async fn train_on<M: Trainee, S: Store>(
    model: &mut M,
    run: &Run,
    feed: Feed<'_>,
    store: &S,
    start: Start,
    emit: Emit<'_>,
) -> Result<TrainSummary> {
    let Feed { rows, pad_id, tokenizer, beside } = feed;
    let batches = Batches::new(
        rows.train,
        BatchPlan {
            batch_size: run.train.batch_size,
            packing: run.data.packing,
            max_length: run.data.max_length,
            shuffle: run.data.shuffle,
            seed: run.seed,
            pad_id,
        },
    )?;
    let held_out = (!rows.held_out.is_empty())
        .then(|| HeldOut::new(rows.held_out, rows.choices, run.train.eval_batch_size, pad_id))
        .transpose()?;
    // Only a fresh run may state the settings: a resumed one has to have the same.
    if start == Start::Fresh || store.size(RUN_FILE).await?.is_none() {
        store.write(RUN_FILE, run.to_toml()?.as_bytes()).await?;
    }
    for (key, content) in beside {
        store.write(key, content).await?;
    }
    let max_new_tokens = run.train.sample_tokens;
    let samples = Samples { tokenizer, prompts: &rows.prompts, max_new_tokens };
    let samples = (!rows.prompts.is_empty()).then_some(samples);
    let training = Training { run, batches: &batches, held_out: held_out.as_ref(), samples, start };
    train::train(model, training, store, emit).await
}

/// What `attune eval` reports.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// Loss, perplexity and accuracies.
    #[serde(flatten)]
    pub metrics: EvalMetrics,
    /// Rows evaluated.
    pub n_rows: usize,
    /// Rows left out.
    pub n_bad_rows: usize,
}

/// Evaluates `model` on every usable row of a file, and emits the report on them.
///
/// # Errors
/// Faults of the file; bad rows, unless `skip_bad_rows`; [`Error::Interrupted`] where `emit` asked to stop.
pub async fn evaluate(
    model: CausalLm,
    run: &Run,
    tokenizer: &Tokenizer,
    file: &DataFile,
    emit: Emit<'_>,
) -> Result<EvalReport> {
    let Part { read, encoded } = rows::usable(file, tokenizer, &run.data, emit)?;
    foreign_tokens::check_rows(&model, tokenizer, "", &encoded)?;
    let choices = Choices::of(&read.rows, &encoded);
    let pad_id = foreign_tokens::pad_id(&model, tokenizer);
    let held_out = HeldOut::new(encoded, choices, run.train.eval_batch_size, pad_id)?;
    let sft = Sft { model, options: SftOptions::default() };
    let metrics = eval::evaluate(&sft, &held_out, 0, emit).await?;
    let metrics = metrics.ok_or_else(|| Error::Interrupted("evaluation".into()))?;
    if !metrics.eval_loss.is_finite() {
        return Err(Error::NotFinite {
            step: 0,
            quantity: "loss",
            value: metrics.eval_loss,
            advice: "the weights are damaged, or the adapter diverged: use an earlier one".into(),
        });
    }
    Ok(EvalReport { metrics, n_rows: held_out.n_rows(), n_bad_rows: read.n_bad_rows })
}
