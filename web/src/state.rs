//! What the page knows.

use crate::form::Bad;
use crate::hub::{Found, Hub};
use crate::room::{self, Room};
use crate::talk::Talk;
use attune::config::{GenerateConfig, Run};
use attune::protocol::{
    DataView, DeviceView, Estimate, EvalMetrics, Event, Figures, ModelCard, Reply, Returned, Sample,
    SettingProblem, Sign, StepMetrics, Stored, StoredFile, StoredRun, Trained, Update,
};
use leptos::prelude::{Update as _, *};

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

/// All signals; copied freely.
#[derive(Clone, Copy)]
pub struct Page {
    pub view: RwSignal<View>,
    pub worker: RwSignal<Worker>,
    /// The view whose request is under way, the oldest first.
    pub asked: RwSignal<Vec<View>>,
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

    /// Whether the worker has nothing to do. What the settings ask for by themselves is done in an instant and holds
    /// nobody up.
    pub fn is_free(&self) -> bool {
        let is_done = |asked: &Vec<View>| asked.iter().all(|view| *view == View::Tune);
        matches!(self.worker.get(), Worker::Ready(_)) && self.asked.with(is_done)
    }

    /// Takes in what the worker says.
    pub fn hear(&self, reply: Reply) {
        match reply {
            Reply::Loading { done, total } => self.worker.set(Worker::Loading { done, total }),
            Reply::Ready { device } => self.worker.set(Worker::Ready(device)),
            Reply::Update(update) => self.update(update),
            // The client hears of a worker's end.
            Reply::File { .. } | Reply::Fetched { .. } | Reply::Gone { .. } => {}
            Reply::Memory { n_bytes } => self.memory.set(Some(n_bytes)),
            Reply::Choose { id, files } => {
                self.hub.is_fetching.set(false);
                self.hub.choice.set(Some((id, files)));
            }
            Reply::Found { text, models, problem } => self.hub.hear(Found { text, models, problem }),
            Reply::Done => _ = self.ended(),
            Reply::Failed { message, is_stop } => {
                // Without a request under way it is the worker's own start that failed.
                let Some(view) = self.ended() else { return self.worker.set(Worker::Dead(message)) };
                if view == View::Train && self.phase.get_untracked() == Phase::Training {
                    self.phase.set(if self.steps.with_untracked(Vec::is_empty) {
                        Phase::Idle
                    } else {
                        Phase::Stopped
                    });
                }
                self.returning.set(None);
                // What follows from a failure says less than the failure.
                if !is_stop && self.failure.with_untracked(Option::is_none) {
                    self.failure.set(Some((view, message)));
                }
            }
        }
    }

    /// The oldest request is answered.
    fn ended(&self) -> Option<View> {
        self.progress.set(None);
        let view = self.asked.try_update(|asked| (!asked.is_empty()).then(|| asked.remove(0))).flatten()?;
        if view == View::Try {
            self.talk.ended();
        }
        Some(view)
    }

    fn update(&self, update: Update) {
        match update {
            Update::Event(event) => self.event(event),
            Update::Model(card) => {
                self.importing.set(None);
                self.talk.begin(card.has_chat_template);
                self.model.set(Some(card));
                self.data.set(None);
                // An adapter of another model.
                self.run.update(|run| run.adapter = None);
                self.forget_run();
            }
            Update::Data(view) => {
                self.data.set(Some(*view));
                self.talk.examples.set(None);
                if let Some(run) = self.returning.try_update(Option::take).flatten() {
                    self.return_to(run);
                }
            }
            Update::Trained(trained) => {
                if let Some(run) = self.returning.try_update(Option::take).flatten() {
                    self.return_to(run);
                }
                self.trained.set(Some(trained));
                self.phase.set(Phase::Done);
            }
            Update::Text { piece } => self.talk.hear(&piece),
            Update::Answer(answer) => self.talk.answered(answer),
            Update::Examples(examples) => self.talk.show(examples),
            Update::Estimated { problems, estimate } => {
                self.problems.set(problems);
                let estimate = estimate.map(|estimate| *estimate);
                // What is the same is not said again.
                if self.estimate.with_untracked(|before| *before != estimate) {
                    self.estimate.set(estimate);
                }
            }
            Update::Stored(stored) => {
                // The promise is asked for once there is something to lose.
                let is_something = !stored.models.is_empty() || !stored.runs.is_empty();
                let is_promised = self.room.get_untracked().is_some_and(|room| room.is_promised);
                room::look(self.room, is_something && !is_promised);
                self.stored.set(stored);
            }
            Update::Packed(file) => self.packed.update(|packed| {
                packed.retain(|earlier| earlier.key != file.key);
                packed.push(file);
            }),
            Update::Returned(returned) => self.returned(*returned),
            Update::Figures(figures) => {
                self.figures.update(|all| {
                    all.retain(|other| other.key != figures.key);
                    all.push(*figures);
                });
                self.show_figures();
            }
        }
    }

    fn event(&self, event: Event) {
        match event {
            Event::Progress { task, done, total } => self.progress.set(Some(Progress { task, done, total })),
            Event::Note { message } => self.notes.update(|notes| notes.push(message)),
            Event::Step(step) => {
                self.progress.set(None);
                // A resumed run makes the steps after its checkpoint again.
                self.steps.update(|steps| {
                    steps.retain(|earlier| earlier.step < step.step);
                    steps.push(step);
                });
            }
            Event::Sample(sample) => self.samples.update(|samples| {
                samples.retain(|earlier| {
                    earlier.step < sample.step
                        || (earlier.step == sample.step && earlier.prompt != sample.prompt)
                });
                samples.push(sample);
            }),
            Event::Sign(sign) => self.signs.update(|signs| {
                signs.retain(|earlier| earlier.kind != sign.kind);
                signs.push(sign);
            }),
            Event::Eval(eval) => self.evals.update(|evals| {
                evals.retain(|earlier| earlier.step < eval.step);
                evals.push(eval);
            }),
            // The data view has shown the report already.
            Event::Data(_) | Event::Estimate(_) | Event::Checkpoint { .. } | Event::Done(_) => {}
        }
    }

    /// Shows an earlier run as if it had been stopped just now.
    fn return_to(&self, stored: StoredRun) {
        let run = stored.run;
        self.phase.set(Phase::Stopped);
        self.bad.set(Vec::new());
        self.is_tuned.set(true);
        self.run.set(run.clone());
        self.begun.set(Some(run));
        self.show_figures();
    }

    /// Shows what was read of the run at hand, unless it goes on already.
    fn show_figures(&self) {
        let Some(key) = self.begun.with_untracked(|run| run.as_ref().map(|run| run.out.clone())) else {
            return;
        };
        let figures =
            self.figures.with_untracked(|all| all.iter().find(|figures| figures.key == key).cloned());
        let is_new =
            self.steps.with_untracked(Vec::is_empty) && self.phase.get_untracked() != Phase::Training;
        if let (Some(figures), true) = (figures, is_new) {
            self.steps.set(figures.steps);
            self.evals.set(figures.evals);
            self.samples.set(figures.samples);
            self.signs.set(figures.signs);
        }
    }

    /// Settings are in force at once; a run is shown like the last one.
    fn returned(&self, returned: Returned) {
        if let Some(settings) = &returned.settings {
            self.is_tuned.set(true);
            self.run.set(settings.clone());
        }
        if let Some(stored) = &returned.run {
            self.forget_run();
            let settings = returned.settings.clone().unwrap_or_else(|| self.run.get_untracked());
            self.return_to(stored.clone());
            // Another run does not go into this one's folder, and is no continuation unless asked for.
            self.run.set(settings);
        }
        self.returned.set(Some(returned));
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
        self.model.set(None);
        self.source.set(None);
        self.data.set(None);
        self.rows.set(None);
        self.talk.examples.set(None);
        self.estimate.set(None);
        self.memory.set(None);
        self.forget_run();
    }

    /// Figures and result of the last run are no longer those of what is chosen.
    pub fn forget_run(&self) {
        self.phase.set(Phase::Idle);
        self.begun.set(None);
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
