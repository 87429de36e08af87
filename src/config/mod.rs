//! A run as data: model + method + objective + data + train + seed.
//!
//! Each setting is declared once, with its doc, type and default, in its part's [`settings!`]
//! block. The TOML run file, the command line's flags, the page's form and the docs all read the
//! resulting [`Setting`] table.

mod choices;
mod columns;
mod differences;
mod generate;
mod settings;
#[cfg(feature = "engine")]
mod validate;

pub use columns::{Columns, Field};
pub use differences::{Difference, differences};
pub use generate::GenerateConfig;
pub(crate) use settings::settings;
pub use settings::{Group, Look, Setting, apply_override, table};

use Group::{Batches, Evaluation, Optimizer, Regularisation, Saving, Schedule};

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

settings! {
    /// Where training rows come from and how they become tokens.
    pub struct DataConfig in "data" {
        /// Training rows: JSONL, JSON, CSV, TSV, Parquet or text, gzip accepted.
        path "data": Option<String> = None,
        /// Held-out rows; when absent, `eval_fraction` of the training rows is held out.
        eval_path "eval-data": Option<String> = None,
        /// Share of the training rows held out when there is no `eval_path`; 0 evaluates nothing.
        eval_fraction: f64 = 0.0; Look::of(Evaluation).first().called("Held-out share"),
        /// Shape of a row: auto, text, prompt-completion, alpaca, sharegpt, chat.
        shape: Shape = Shape::Auto; Look::NONE.called("Shape of a row"),
        /// Columns of the file that hold a shape's fields under other names, as prompt=question,completion=answer.
        columns: Option<Columns> = None,
        /// Longest row in tokens; longer rows are truncated at the end.
        max_length: usize = 1024; Look::of(Batches).first().called("Longest row"),
        /// Pack several short rows into one sequence, attention blocked between them.
        packing: bool = false; Look::of(Batches).called("Pack short rows"),
        /// Which tokens carry loss: auto (completions, assistant turns, or all of a text), all, completions.
        loss_on: LossOn = LossOn::Auto; Look::NONE.called("Learn from"),
        /// Leave out rows that cannot be used instead of stopping.
        skip_bad_rows: bool = false,
        /// Reshuffle the training rows every epoch.
        shuffle: bool = true; Look::of(Batches),
    }
}

/// How the fields of a row are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Recognised by the row's fields.
    Auto,
    /// `text`
    Text,
    /// `prompt`, `completion`
    PromptCompletion,
    /// `instruction`, `input`, `output`
    Alpaca,
    /// `conversations` of `from`, `value`
    Sharegpt,
    /// `messages` of `role`, `content`, optional `weight`
    Chat,
}

/// Which tokens are learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossOn {
    /// Completions or assistant turns where the row has them, else every token.
    Auto,
    /// Every token but padding.
    All,
    /// Completions or assistant turns; a row without them is refused.
    Completions,
}

settings! {
    /// The training loop; names and defaults follow transformers' `TrainingArguments` and TRL's `SFTConfig`.
    pub struct TrainConfig in "train" {
        /// Peak learning rate; when absent, 2e-4 for adapters and 2e-5 for full tuning.
        learning_rate: Option<f64> = None; Look::of(Schedule).first(),
        /// Schedule after warm-up: linear, cosine, cosine-with-restarts, polynomial, inverse-sqrt, constant.
        lr_scheduler: SchedulerKind = SchedulerKind::Linear; Look::of(Schedule).called("Learning-rate schedule"),
        /// Share of all steps spent warming up; `warmup_steps` wins over it.
        warmup_ratio: f64 = 0.0; Look::of(Schedule).called("Warm-up share"),
        /// Steps spent warming up.
        warmup_steps: usize = 0; Look::of(Schedule).called("Warm-up steps"),
        /// Number of cycles of cosine-with-restarts.
        lr_cycles: usize = 1; Look::of(Schedule).called("Cosine cycles"),
        /// Exponent of the polynomial schedule.
        lr_power: f64 = 1.0; Look::of(Schedule).called("Polynomial power"),
        /// Optimizer: adamw, adafactor, lion, muon, sgd.
        optimizer: OptimizerKind = OptimizerKind::Adamw; Look::of(Optimizer),
        /// AdamW's decay rate of the first moment; Lion has its own, 0.9.
        adam_beta1: f64 = 0.9; Look::of(Optimizer).called("Adam β₁"),
        /// AdamW's decay rate of the second moment; Lion has its own, 0.99.
        adam_beta2: f64 = 0.999; Look::of(Optimizer).called("Adam β₂"),
        /// AdamW's term against division by zero.
        adam_epsilon: f64 = 1e-8; Look::of(Optimizer).called("Adam ε"),
        /// SGD's and Muon's momentum; PyTorch's SGD has none by default.
        momentum: f64 = 0.9; Look::of(Optimizer),
        /// Decoupled weight decay; biases and normalisation weights are never decayed.
        weight_decay: f64 = 0.0; Look::of(Regularisation),
        /// Largest global gradient norm; 0 turns clipping off.
        max_grad_norm: f64 = 1.0; Look::of(Regularisation).called("Largest gradient norm"),
        /// Passes over the training rows.
        epochs: f64 = 3.0; Look::of(Schedule).first(),
        /// Optimizer steps; when given, wins over `epochs`.
        max_steps: Option<usize> = None; Look::of(Schedule).first().called("Steps at most"),
        /// Rows in one forward pass.
        batch_size: usize = 8; Look::of(Batches).first(),
        /// Forward passes summed into one optimizer step.
        gradient_accumulation_steps: usize = 1; Look::of(Batches).called("Batches per step"),
        /// Recompute each layer in the backward pass instead of keeping its activations.
        gradient_checkpointing: bool = false; Look::of(Batches),
        /// Probability mass spread over all tokens, as in Szegedy et al. 1512.00567.
        label_smoothing: f64 = 0.0; Look::of(Regularisation),
        /// NEFTune's noise on embeddings (2310.05914); 0 turns it off.
        neftune_alpha: f64 = 0.0; Look::of(Regularisation).called("NEFTune noise α"),
        /// Evaluate on held-out rows every this many steps; 0 evaluates at the end of each epoch.
        eval_steps: usize = 0; Look::of(Evaluation).called("Evaluate every … steps"),
        /// Rows in one evaluation pass.
        eval_batch_size: usize = 8; Look::of(Evaluation).called("Evaluation batch size"),
        /// Answer the prompts of this many held-out rows, or training rows where none is held out, before the first step and at every evaluation, with the likeliest tokens.
        sample_rows: usize = 0; Look::of(Evaluation).called("Sample answers to rows"),
        /// Further prompts to answer then; each is a message where the rows are conversations.
        // Whole sentences have more room beside the run: in no form.
        sample_prompts: Vec<String> = Vec::new(),
        /// Longest of these answers in tokens.
        sample_tokens: usize = 64; Look::of(Evaluation).called("Sample answer length"),
        /// Write a checkpoint every this many steps; 0 writes one at each evaluation and at the end.
        save_steps: usize = 0; Look::of(Saving).called("Checkpoint every … steps"),
        /// Stop after this many evaluations without a better held-out loss; 0 never stops early.
        early_stopping_patience: usize = 0; Look::of(Evaluation),
        /// End with the weights of the lowest held-out loss instead of the last; early stopping always does.
        load_best_model_at_end: bool = false; Look::of(Saving).called("End with the best weights"),
        /// Also write TensorBoard event files into the run folder.
        // Nobody looks into a browser's private folder: in no form.
        tensorboard: bool = false,
    }
}

/// How a model's frozen matrices lie in memory. Full tuning needs [`Self::Auto`] or [`Self::F32`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightFormat {
    /// [`Self::Stored`] on the CPU, [`Self::F32`] on a GPU and in full tuning.
    Auto,
    /// Four bytes a value.
    F32,
    /// As the file has them: BF16 and GGUF's quantised types keep their size and their values.
    Stored,
    /// Linear layers in eight bits at most, everything else as stored.
    Q8,
    /// Linear layers in four bits, everything else as stored.
    Q4,
}

impl WeightFormat {
    /// The format in force on the CPU or a GPU.
    pub fn on(self, is_cpu: bool) -> Self {
        match self {
            Self::Auto if is_cpu => Self::Stored,
            Self::Auto => Self::F32,
            chosen => chosen,
        }
    }
}

/// How a GPU multiplies matrices. Everything else is f32 throughout, and sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// In f32.
    F32,
    /// Factors rounded to bf16, on tensor cores, as under PyTorch's autocast.
    Bf16,
}

/// Learning-rate schedules of transformers' `get_scheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchedulerKind {
    /// Falls in a straight line to 0.
    Linear,
    /// Falls along half a cosine to 0.
    Cosine,
    /// Several cosines, each from the peak.
    CosineWithRestarts,
    /// Falls to 1e-7 with exponent `lr_power`.
    Polynomial,
    /// Falls with the inverse square root of the step.
    InverseSqrt,
    /// Stays at the peak after warm-up.
    Constant,
}

/// Optimizers, all from burn-optim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (1711.05101).
    Adamw,
    /// Factored second moments (1804.04235).
    Adafactor,
    /// Sign of the momentum (2302.06675).
    Lion,
    /// Orthogonalised momentum for matrices, AdamW for the rest.
    Muon,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

settings! {
    /// One training run, complete: what `run.toml` holds.
    pub struct Run in "" {
        /// A folder, a GGUF file, a hub id `owner/name[@revision]`, or an alias such as smollm2-135m.
        model: String = String::new(),
        /// Continue from this adapter folder instead of a fresh one.
        adapter: Option<String> = None,
        /// Folder that receives everything the run writes.
        out: String = "runs/latest".into(),
        /// auto, cpu, vulkan, metal, cuda or webgpu, with an index where there are several: cuda:1.
        device: String = "auto".into(),
        /// How a GPU multiplies matrices: f32, or bf16 (factors rounded, sums in f32, on tensor cores).
        precision: Precision = Precision::F32,
        /// How frozen weights lie in memory: auto (as stored on the CPU, f32 on a GPU), f32, stored, q8, q4 (QLoRA, 2305.14314).
        weights: WeightFormat = WeightFormat::Auto; Look::of(Group::Method).called("Frozen weights"),
        /// Seed of initialisation, shuffling, splitting, dropout and sampling.
        seed: u64 = 42; Look::of(Schedule),
    }
    parts {
        /// What is trained and what is attached.
        method: crate::methods::MethodConfig,
        /// Rows and tokens.
        data: DataConfig,
        /// Loop, optimizer, schedule.
        train: TrainConfig,
    }
}

impl Run {
    /// Reads a run file. `place` names it in errors.
    pub fn from_toml(text: &str, place: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| {
            let line =
                e.span().map_or(String::new(), |s| format!(":{}", text[..s.start].matches('\n').count() + 1));
            Error::input(
                format!("{place}{line}"),
                e.message().trim().to_string(),
                "a run file as `attune train --print-config` writes it",
            )
        })
    }

    /// The run file's text.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Internal(format!("run file: {e}")))
    }

    /// Trains by another method. A learning rate that is the default of the method before goes with it.
    pub fn change_method(&mut self, method: crate::methods::MethodConfig) {
        if self.train.learning_rate == Some(self.method.default_learning_rate()) {
            self.train.learning_rate = None;
        }
        self.method = method;
    }

    /// The learning rate in force: the setting, or the method's own default.
    pub fn learning_rate(&self) -> f64 {
        self.train.learning_rate.unwrap_or_else(|| self.method.default_learning_rate())
    }
}
