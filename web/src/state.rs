//! What the page knows.

use crate::form::Bad;
use crate::hub::Hub;
use crate::room::Room;
use crate::talk::Talk;
use attune::config::{GenerateConfig, Run};
use attune::protocol::{
    DataView, DeviceView, Estimate, EvalMetrics, Figures, ModelCard, Returned, Sample, SettingProblem, Sign,
    StepMetrics, Stored, StoredFile, StoredRun, Trained,
};
use leptos::prelude::*;

/// The steps of the way, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Model,
    Data,
    Tune,
    Train,
    Try,
    TakeHome,
}

impl View {
    pub const ALL: [Self; 6] = [Self::Model, Self::Data, Self::Tune, Self::Train, Self::Try, Self::TakeHome];

    pub fn title(self) -> &'static str {
        match self {
            Self::Model => "Model",
            Self::Data => "Data",
            Self::Tune => "Tune",
            Self::Train => "Train",
            Self::Try => "Try",
            Self::TakeHome => "Take home",
        }
    }
}

/// How far the worker is.
#[derive(Clone, Debug, PartialEq)]
pub enum Worker {
    Loading {
        done: u64,
        total: u64,
    },
    Ready(DeviceView),
    /// It will not answer any more.
    Dead(String),
}

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Training,
    Stopped,
    Done,
}

/// Known size of unfinished work.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub task: String,
    pub done: u64,
    pub total: u64,
}

/// A model or a data file being chosen or in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Where the worker finds it.
    pub key: String,
    /// What people call it.
    pub name: String,
}

/// Tabs are closed without a thought, so a page's runs keep checkpoints more often than the core's default; and
/// people look on, so a few prompts are answered on the way.
pub fn first_run() -> Run {
    let mut run = Run::default();
    run.train.save_steps = 20;
    run.train.sample_rows = 2;
    run.train.sample_tokens = 24;
    run
}

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// Where its failure is said.
    pub view: View,
    /// Whether nobody asked for it: what is stored, what the settings would need. Done in an instant, it holds nobody
    /// up.
    pub is_quiet: bool,
}

/// All signals; copied freely.
#[derive(Clone, Copy)]
pub struct Page {
    pub view: RwSignal<View>,
    pub worker: RwSignal<Worker>,
    /// The requests under way, the oldest first.
    pub asked: RwSignal<Vec<Asked>>,
    pub progress: RwSignal<Option<Progress>>,
    /// What went wrong and where it is said.
    pub failure: RwSignal<Option<(View, String)>>,
    pub notes: RwSignal<Vec<String>>,
    pub model: RwSignal<Option<ModelCard>>,
    pub source: RwSignal<Option<Source>>,
    /// Key of files that are being copied and are no model yet.
    pub importing: RwSignal<Option<String>>,
    /// The data file in use.
    pub rows: RwSignal<Option<Source>>,
    /// What earlier visits left, and this one.
    pub stored: RwSignal<Stored>,
    /// How much more the browser keeps.
    pub room: RwSignal<Option<Room>>,
    pub hub: Hub,
    /// An earlier run whose model and data are being opened again.
    pub returning: RwSignal<Option<StoredRun>>,
    pub data: RwSignal<Option<DataView>>,
    pub run: RwSignal<Run>,
    /// Whether somebody has looked at the settings, or begun with them.
    pub is_tuned: RwSignal<bool>,
    /// Texts in the form of `run` that are no values.
    pub bad: RwSignal<Vec<Bad>>,
    /// What the core finds wrong with `run`.
    pub problems: RwSignal<Vec<SettingProblem>>,
    /// What `run` would need.
    pub estimate: RwSignal<Option<Estimate>>,
    pub phase: RwSignal<Phase>,
    /// The settings that the run under way, or the last one, began with.
    pub begun: RwSignal<Option<Run>>,
    /// Whether that run can be gone on with.
    pub has_checkpoint: RwSignal<bool>,
    pub steps: RwSignal<Vec<StepMetrics>>,
    pub evals: RwSignal<Vec<EvalMetrics>>,
    pub samples: RwSignal<Vec<Sample>>,
    pub signs: RwSignal<Vec<Sign>>,
    /// Bytes that the worker's code holds.
    pub memory: RwSignal<Option<u64>>,
    /// Figures of stored runs, as far as they were asked for.
    pub figures: RwSignal<Vec<Figures>>,
    /// Folders of the runs that are compared.
    pub ticked: RwSignal<Vec<String>>,
    pub trained: RwSignal<Option<Trained>>,
    pub sampling: RwSignal<GenerateConfig>,
    /// The conversation.
    pub talk: Talk,
    /// Files made to be taken home.
    pub packed: RwSignal<Vec<StoredFile>>,
    /// What was brought back last.
    pub returned: RwSignal<Option<Returned>>,
}

impl Page {
    pub fn new() -> Self {
        Self {
            view: RwSignal::new(View::Model),
            worker: RwSignal::new(Worker::Loading { done: 0, total: 0 }),
            asked: RwSignal::new(Vec::new()),
            progress: RwSignal::new(None),
            failure: RwSignal::new(None),
            notes: RwSignal::new(Vec::new()),
            model: RwSignal::new(None),
            source: RwSignal::new(None),
            importing: RwSignal::new(None),
            rows: RwSignal::new(None),
            stored: RwSignal::new(Stored::default()),
            room: RwSignal::new(None),
            hub: Hub::new(),
            returning: RwSignal::new(None),
            data: RwSignal::new(None),
            run: RwSignal::new(first_run()),
            is_tuned: RwSignal::new(false),
            bad: RwSignal::new(Vec::new()),
            problems: RwSignal::new(Vec::new()),
            estimate: RwSignal::new(None),
            phase: RwSignal::new(Phase::Idle),
            begun: RwSignal::new(None),
            has_checkpoint: RwSignal::new(false),
            steps: RwSignal::new(Vec::new()),
            evals: RwSignal::new(Vec::new()),
            samples: RwSignal::new(Vec::new()),
            signs: RwSignal::new(Vec::new()),
            memory: RwSignal::new(None),
            figures: RwSignal::new(Vec::new()),
            ticked: RwSignal::new(Vec::new()),
            trained: RwSignal::new(None),
            sampling: RwSignal::new(GenerateConfig::default()),
            talk: Talk::new(),
            packed: RwSignal::new(Vec::new()),
            returned: RwSignal::new(None),
        }
    }

    /// Whether the worker has nothing to do that somebody asked for.
    pub fn is_free(&self) -> bool {
        matches!(self.worker.get(), Worker::Ready(_))
            && self.asked.with(|asked| asked.iter().all(|asked| asked.is_quiet))
    }

    /// A run broke off; before its first checkpoint nothing of it can be gone on with.
    pub fn cut_off(&self) {
        if self.phase.get_untracked() == Phase::Training {
            let has_checkpoint = self.has_checkpoint.get_untracked();
            self.phase.set(if has_checkpoint { Phase::Stopped } else { Phase::Idle });
        }
    }

    /// Nothing is open any more, or not yet.
    pub fn close(&self) {
        self.model.set(None);
        self.source.set(None);
        self.data.set(None);
        self.rows.set(None);
        self.forget_run();
    }

    /// A new worker knows nothing of what the last one had open; what is stored it will tell.
    pub fn forget_worker(&self) {
        self.asked.set(Vec::new());
        self.talk.speaking.set(Vec::new());
        self.progress.set(None);
        self.failure.set(None);
        self.importing.set(None);
        self.hub.is_fetching.set(false);
        self.returning.set(None);
        self.talk.examples.set(None);
        self.estimate.set(None);
        self.memory.set(None);
        self.close();
    }

    /// Figures and result of the last run are no longer those of what is chosen.
    pub fn forget_run(&self) {
        self.phase.set(Phase::Idle);
        self.begun.set(None);
        self.has_checkpoint.set(false);
        self.steps.set(Vec::new());
        self.evals.set(Vec::new());
        self.samples.set(Vec::new());
        self.signs.set(Vec::new());
        self.trained.set(None);
        self.notes.set(Vec::new());
        self.talk.clear();
        self.packed.set(Vec::new());
        self.returned.set(None);
    }
}
