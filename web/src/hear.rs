//! What the worker says, taken into what the page knows.

use crate::hub::Found;
use crate::room;
use crate::state::{Asked, Page, Phase, Progress, View, Worker};
use attune::protocol::{Event, Reply, Returned, StoredRun, Update};
use leptos::prelude::{Update as _, *};

impl Page {
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
                let Some(Asked { view, is_quiet }) = self.ended() else {
                    return self.worker.set(Worker::Dead(message));
                };
                if view == View::Train && !is_quiet {
                    self.cut_off();
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
    fn ended(&self) -> Option<Asked> {
        self.progress.set(None);
        let ended = self.asked.try_update(|asked| (!asked.is_empty()).then(|| asked.remove(0))).flatten()?;
        if ended.view == View::Try && !ended.is_quiet {
            self.talk.ended();
        }
        Some(ended)
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
            Event::Data(_) | Event::Estimate(_) | Event::Done(_) => {}
            Event::Checkpoint { .. } => self.has_checkpoint.set(true),
        }
    }

    /// Shows an earlier run as if it had been stopped just now.
    fn return_to(&self, stored: StoredRun) {
        let run = stored.run;
        self.has_checkpoint.set(stored.has_checkpoint);
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
            self.bad.set(Vec::new());
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
}
