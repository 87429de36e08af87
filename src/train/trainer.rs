//! The loop.

mod recover;

use super::checkpoint::{self, BEST, Best, CHECKPOINT, Progress};
use super::samples::{self, Samples};
use super::start::{check_held_out, data_digest, refuse_checkpoints};
use super::tensorboard::EventFile;
use super::{Optimizer, Plan, Schedule, StepBatches, Watch, clip, metrics};
use crate::config::Run;
use crate::data::Batch;
use crate::data::batches::Batches;
use crate::eval::{HeldOut, evaluate};
use crate::models::{AnyTensor, NamedTensors, add_all, read_scalars};
use crate::objectives::{LossOutput, Trainee};
use crate::protocol::{Control, Event, StepMetrics, TrainSummary};
use crate::store::Store;
use crate::{Error, Result};
use burn::tensor::Device;
use web_time::Instant;

/// What is to be trained on, and how.
pub struct Training<'a> {
    /// The run file: settings of the loop, and what a resumed run is compared with.
    pub run: &'a Run,
    /// Training batches.
    pub batches: &'a Batches,
    /// Held-out rows; without them nothing is evaluated.
    pub held_out: Option<&'a HeldOut>,
    /// Prompts answered along the way; none where nobody asked for them.
    pub samples: Option<Samples<'a>>,
    /// From the beginning or from the newest checkpoint.
    pub start: Start,
}

/// Where a run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At step 1, in a folder without checkpoints.
    Fresh,
    /// After the newest checkpoint that is whole; at step 1 where there is none yet.
    Resume,
}

/// Trains `model` and keeps `store`, the run folder, up to date.
///
/// The model ends with the values of the last step; where `early_stopping_patience` is set, with those
/// of the lowest held-out loss, as transformers demands of its early stopping.
///
/// # Errors
/// Settings out of range; a fresh start over old checkpoints; a resumption with other settings;
/// [`Error::NotFinite`], the model then holding the last good values; [`Error::Interrupted`] where
/// `emit` asked to stop, a checkpoint then being in `store`; whatever `model` and `store` report.
pub async fn train<M: Trainee, S: Store>(
    model: &mut M,
    training: Training<'_>,
    store: &S,
    emit: &mut dyn FnMut(Event) -> Control,
) -> Result<TrainSummary> {
    training.run.train.validate()?;
    Trainer::begin(model, training, store, emit).await?.run().await
}

struct Trainer<'a, M, S> {
    model: &'a mut M,
    training: Training<'a>,
    store: &'a S,
    emit: &'a mut dyn FnMut(Event) -> Control,
    plan: Plan,
    schedule: Schedule,
    optimizer: Optimizer,
    progress: Progress,
    event_file: Option<EventFile>,
    watch: Watch,
    /// Step of the last samples.
    sampled: Option<usize>,
    /// Values before the last update, which made a finite loss and gradient; `None` right after a resumption.
    good_values: Option<NamedTensors>,
    device: Device,
    /// Step and last evaluation of the checkpoint last written or loaded.
    saved: Option<(usize, usize)>,
    /// Steps of the bests that the checkpoints kept may name: they stay until no checkpoint does.
    saved_bests: Vec<usize>,
    elapsed_before: f64,
    clock: Instant,
}

impl<'a, M: Trainee, S: Store> Trainer<'a, M, S> {
    async fn begin(
        model: &'a mut M,
        training: Training<'a>,
        store: &'a S,
        emit: &'a mut dyn FnMut(Event) -> Control,
    ) -> Result<Self> {
        let run = training.run;
        let n_batches = training.batches.len();
        check_held_out(&training)?;
        let data = data_digest(&training);
        let initial = model.trainable();
        let device = initial.values().next().map(AnyTensor::device);
        let device = device
            .ok_or_else(|| Error::input("method", "nothing to train", "at least one trainable parameter"))?;
        let mut optimizer = Optimizer::new(&run.train);
        let mut progress = Progress {
            step: 0,
            next_epoch: 0,
            next_batch: 0,
            batches_per_epoch: n_batches,
            data: data.clone(),
            seed: run.seed,
            loss_sum: 0.0,
            best: None,
            evals_without_gain: 0,
            last_eval: 0,
            elapsed_secs: 0.0,
            settings: checkpoint::settings(run)?,
        };
        let (mut good_values, mut saved) = (Some(initial), None);
        match training.start {
            Start::Fresh => refuse_checkpoints(store).await?,
            Start::Resume => {
                let mut note = |message| _ = emit(Event::Note { message });
                if let Some(loaded) = checkpoint::load_newest(store, CHECKPOINT, &device, &mut note).await? {
                    loaded.progress.check_settings(run, n_batches, &data)?;
                    optimizer.load_state(loaded.progress.step, &loaded.weights, loaded.optimizer)?;
                    model.set_trainable(loaded.weights)?;
                    good_values = None;
                    saved = Some((loaded.progress.step, loaded.progress.last_eval));
                    progress = Progress { settings: progress.settings, ..loaded.progress };
                }
            }
        }
        // What was written after the checkpoint will be written again.
        let before = metrics::cut_after(store, progress.step).await?;
        let mut watch = Watch::new(&run.data);
        // What these show has been said.
        before.iter().for_each(|event| _ = watch.see(event));
        let sampled = before.iter().rev().find_map(|event| match event {
            Event::Sample(sample) => Some(sample.step),
            _ => None,
        });
        checkpoint::remove_from(store, BEST, progress.step + 1).await?;
        let saved_bests = checkpoint::bests(store).await?;
        let plan = Plan::new(&run.train, n_batches);
        Ok(Self {
            schedule: Schedule::new(&run.train, run.learning_rate(), plan.total_steps),
            event_file: if run.train.tensorboard {
                Some(EventFile::create(store, progress.step).await?)
            } else {
                None
            },
            watch,
            sampled,
            elapsed_before: progress.elapsed_secs,
            clock: Instant::now(),
            model,
            training,
            store,
            emit,
            plan,
            optimizer,
            progress,
            good_values,
            device,
            saved,
            saved_bests,
        })
    }

    async fn run(mut self) -> Result<TrainSummary> {
        // A stop may have come between a step and the evaluation due after it.
        let mut control = self.after_step(Control::Continue).await?;
        while control == Control::Continue
            && self.progress.step < self.plan.total_steps
            && !self.out_of_patience()
        {
            control = self.step().await?;
            control = self.after_step(control).await?;
        }
        let Progress { step, best, .. } = self.progress;
        let is_done = step == self.plan.total_steps || self.out_of_patience();
        if control == Control::Stop && !(is_done && self.saved == Some((step, step))) {
            return Err(Error::Interrupted(format!(
                "step {step} of {}; resume the run to go on",
                self.plan.total_steps
            )));
        }
        if let Some(best) = best.filter(|best| self.ends_with_best() && best.step != step) {
            self.restore_best(best).await?;
        }
        let summary = TrainSummary {
            steps: step,
            train_loss: self.progress.loss_sum / step.max(1) as f64,
            best_eval: best.map(|best| (best.step, best.eval_loss)),
            trainable_params: self.model.trainable().values().map(AnyTensor::numel).sum(),
            total_params: self.model.total_params(),
            stopped_early: step < self.plan.total_steps,
            duration_secs: self.elapsed_secs(),
        };
        (self.emit)(Event::Done(summary.clone()));
        Ok(summary)
    }

    /// One optimizer step: forward and backward over its micro-batches, one read, one update.
    async fn step(&mut self) -> Result<Control> {
        let step = self.progress.step + 1;
        let began = Instant::now();
        let StepBatches { epoch, batches } = self.plan.batches_of(step);
        let batches: Vec<_> = batches.map(|index| self.training.batches.batch(epoch, index)).collect();
        let denominator = batches.iter().map(Batch::target_weight).sum::<f64>();
        let mut grads = NamedTensors::new();
        let mut losses = Vec::with_capacity(batches.len());
        for (index, batch) in batches.iter().enumerate() {
            let seed = micro_batch_seed(self.progress.seed, step, index);
            let LossOutput { loss, grads: new } = self.model.loss_and_grads(batch, denominator, seed)?;
            add_all(&mut grads, new);
            losses.push(loss);
        }
        let loss = losses.into_iter().reduce(|sum, loss| sum + loss);
        let (Some(loss), Some(norm)) = (loss, clip::global_norm(&grads)) else {
            return Err(Error::Internal(format!("step {step} has no micro-batch or no gradient")));
        };
        let [loss, norm] = read_scalars([loss, norm]).await?;
        for (quantity, value) in [("loss", loss), ("grad_norm", norm)] {
            if !value.is_finite() {
                return Err(self.not_finite(step, quantity, f64::from(value)).await?);
            }
        }
        let lr = self.schedule.lr(step);
        let grads = clip::scale(grads, clip::clip_factor(norm, self.training.run.train.max_grad_norm));
        let values = self.model.trainable();
        self.good_values = Some(values.clone());
        self.model.set_trainable(self.optimizer.step(lr, values, grads)?)?;

        let next = self.plan.batches_of(step + 1);
        (self.progress.next_epoch, self.progress.next_batch) = (next.epoch, next.batches.start);
        self.progress.step = step;
        self.progress.loss_sum += f64::from(loss);
        let n_tokens = batches.iter().map(Batch::n_tokens).sum();
        self.record(Event::Step(StepMetrics {
            step,
            total_steps: self.plan.total_steps,
            epoch: self.plan.epochs_after(step),
            loss: f64::from(loss),
            lr,
            grad_norm: f64::from(norm),
            n_tokens,
            // A clock too coarse for a tiny step must not put an infinity into JSON.
            tokens_per_sec: n_tokens as f64 / began.elapsed().as_secs_f64().max(1e-6),
            elapsed_secs: self.elapsed_secs(),
        }))
        .await
    }

    /// Evaluates and writes a checkpoint where they are due and not done yet.
    async fn after_step(&mut self, mut control: Control) -> Result<Control> {
        let step = self.progress.step;
        if let Some(held_out) = self.training.held_out
            && control == Control::Continue
            && self.plan.evaluates_after(step)
            && self.progress.last_eval != step
        {
            control = self.evaluate(held_out).await?;
        }
        if control == Control::Continue && (step == 0 || self.plan.evaluates_after(step)) {
            control = self.sample().await?;
        }
        let due = self.plan.saves_after(step) || self.out_of_patience() || control == Control::Stop;
        if step > 0 && due && self.saved != Some((step, self.progress.last_eval)) {
            self.check_weights().await?;
            self.progress.elapsed_secs = self.elapsed_secs();
            let (weights, state) = (self.model.trainable(), self.optimizer.state());
            let path = checkpoint::save(self.store, &self.progress, weights, state).await?;
            self.saved = Some((step, self.progress.last_eval));
            // Two checkpoints are kept; each may name another best.
            self.saved_bests.extend(self.progress.best.map(|best| best.step));
            self.saved_bests.drain(..self.saved_bests.len().saturating_sub(2));
            checkpoint::keep_bests(self.store, &self.saved_bests).await?;
            let best = self.progress.best.is_some_and(|best| best.step == step);
            if (self.emit)(Event::Checkpoint { step, path, best }) == Control::Stop {
                control = Control::Stop;
            }
        }
        Ok(control)
    }

    async fn evaluate(&mut self, held_out: &HeldOut) -> Result<Control> {
        let step = self.progress.step;
        let Some(figures) = evaluate(&*self.model, held_out, step, &mut *self.emit).await? else {
            return Ok(Control::Stop);
        };
        let eval_loss = figures.eval_loss;
        if !eval_loss.is_finite() {
            return Err(self.not_finite(step, "eval_loss", eval_loss).await?);
        }
        self.progress.last_eval = step;
        if self.progress.best.is_none_or(|best| eval_loss < best.eval_loss) {
            self.progress.best = Some(Best { step, eval_loss });
            self.progress.evals_without_gain = 0;
            checkpoint::save_best(self.store, &self.progress, self.model.trainable()).await?;
            let kept: Vec<usize> = self.saved_bests.iter().copied().chain([step]).collect();
            checkpoint::keep_bests(self.store, &kept).await?;
        } else {
            self.progress.evals_without_gain += 1;
        }
        self.record(Event::Eval(figures)).await
    }

    /// Answers the sample prompts, once a step.
    async fn sample(&mut self) -> Result<Control> {
        let step = self.progress.step;
        let (Some(samples), Some(model)) = (&self.training.samples, self.model.speaker()) else {
            return Ok(Control::Continue);
        };
        if self.sampled == Some(step) {
            return Ok(Control::Continue);
        }
        match samples.answer(model, step, &mut *self.emit).await {
            Ok(None) => Ok(Control::Stop),
            Ok(Some(answers)) => {
                self.sampled = Some(step);
                let mut control = Control::Continue;
                for answer in answers {
                    if self.record(Event::Sample(answer)).await? == Control::Stop {
                        control = Control::Stop;
                    }
                }
                Ok(control)
            }
            Err(problem) => {
                // A run is worth more than what it says on the way.
                self.training.samples = None;
                Ok((self.emit)(samples::note(&problem)))
            }
        }
    }

    async fn record(&mut self, event: Event) -> Result<Control> {
        metrics::append(self.store, &event).await?;
        if let Some(file) = &self.event_file {
            file.append(self.store, &event).await?;
        }
        let sign = self.watch.see(&event);
        let control = (self.emit)(event);
        let after = sign.map_or(control, |sign| (self.emit)(Event::Sign(sign)));
        Ok(if control == Control::Stop { control } else { after })
    }

    fn ends_with_best(&self) -> bool {
        self.patience() > 0 || self.training.run.train.load_best_model_at_end
    }

    fn patience(&self) -> usize {
        self.training.run.train.early_stopping_patience
    }

    fn out_of_patience(&self) -> bool {
        self.patience() > 0 && self.progress.evals_without_gain >= self.patience()
    }

    fn elapsed_secs(&self) -> f64 {
        self.elapsed_before + self.clock.elapsed().as_secs_f64()
    }
}

/// Seed of dropout in one micro-batch: a function of its place alone, so that there is no generator
/// whose state a checkpoint would have to carry. SplitMix64's finaliser spreads neighbouring places.
fn micro_batch_seed(seed: u64, step: usize, micro_batch: usize) -> u64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let odd = 0x9e37_79b9_7f4a_7c15_u64;
    mix(mix(seed.wrapping_add(odd)).wrapping_add((step as u64).wrapping_mul(odd)))
        .wrapping_add(mix(micro_batch as u64 + 1))
}
