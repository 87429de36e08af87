//! Which batches make up which optimizer step: the arithmetic of transformers' `Trainer`.

use crate::config::TrainConfig;
use std::ops::Range;

/// The steps of a run. Everything about the data cursor is a function of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Batches in one pass over the rows.
    pub batches_per_epoch: usize,
    /// Batches summed into one step; the last step of an epoch takes what is left.
    pub accumulation: usize,
    /// Optimizer steps in the whole run.
    pub total_steps: usize,
    eval_steps: usize,
    save_steps: usize,
}

/// The batches of one optimizer step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepBatches {
    /// Pass over the rows, counted from 0.
    pub epoch: usize,
    /// Indices of the batches within the pass.
    pub batches: Range<usize>,
}

impl Plan {
    /// The plan for rows that make `batches_per_epoch` batches (at least 1).
    ///
    /// As in `Trainer`, an epoch has ceil(batches / accumulation) steps, a fractional number of epochs
    /// is rounded up to whole steps, and `max_steps` wins over `epochs`.
    pub fn new(config: &TrainConfig, batches_per_epoch: usize) -> Self {
        let accumulation = config.gradient_accumulation_steps.max(1);
        let steps_per_epoch = batches_per_epoch.div_ceil(accumulation).max(1);
        let by_epochs = (config.epochs * steps_per_epoch as f64).ceil() as usize;
        Self {
            batches_per_epoch,
            accumulation,
            total_steps: config.max_steps.unwrap_or(by_epochs),
            eval_steps: config.eval_steps,
            save_steps: config.save_steps,
        }
    }

    fn steps_per_epoch(&self) -> usize {
        self.batches_per_epoch.div_ceil(self.accumulation).max(1)
    }

    /// The batches of `step`, counted from 1.
    pub fn batches_of(&self, step: usize) -> StepBatches {
        let index = step.saturating_sub(1);
        let first = index % self.steps_per_epoch() * self.accumulation;
        StepBatches {
            epoch: index / self.steps_per_epoch(),
            batches: first..(first + self.accumulation).min(self.batches_per_epoch),
        }
    }

    /// Passes over the rows after `step` steps; in fractions of an epoch's batches.
    pub fn epochs_after(&self, step: usize) -> f64 {
        if step == 0 {
            return 0.0;
        }
        let StepBatches { epoch, batches } = self.batches_of(step);
        epoch as f64 + batches.end as f64 / self.batches_per_epoch as f64
    }

    /// Whether held-out rows are evaluated after `step`: every `eval_steps` or at the end of each
    /// epoch, and at the end of the run.
    pub fn evaluates_after(&self, step: usize) -> bool {
        step > 0 && (step.is_multiple_of(self.eval_every()) || step >= self.total_steps)
    }

    fn eval_every(&self) -> usize {
        if self.eval_steps > 0 { self.eval_steps } else { self.steps_per_epoch() }
    }

    /// Evaluations in the whole run.
    pub fn n_evaluations(&self) -> usize {
        self.total_steps.div_ceil(self.eval_every())
    }

    /// Whether a checkpoint is written after `step`: every `save_steps` or where an evaluation is due,
    /// and at the end of the run.
    pub fn saves_after(&self, step: usize) -> bool {
        match self.save_steps {
            0 => self.evaluates_after(step),
            every => step > 0 && (step.is_multiple_of(every) || step >= self.total_steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(epochs: f64, gradient_accumulation_steps: usize) -> TrainConfig {
        TrainConfig { epochs, gradient_accumulation_steps, ..TrainConfig::default() }
    }

    #[test]
    fn last_group_of_an_epoch_takes_what_is_left() {
        let plan = Plan::new(&config(2.0, 4), 10);
        assert_eq!(plan.total_steps, 6);
        let steps: Vec<_> = (1..=4).map(|step| plan.batches_of(step)).collect();
        let expected = [(0, 0..4), (0, 4..8), (0, 8..10), (1, 0..4)];
        assert_eq!(steps, expected.map(|(epoch, batches)| StepBatches { epoch, batches }));
        assert_eq!([1, 3, 4].map(|step| plan.epochs_after(step)), [0.4, 1.0, 1.4]);
    }

    #[test]
    fn fractions_of_epochs_round_up_and_max_steps_wins() {
        assert_eq!(Plan::new(&config(0.25, 1), 10).total_steps, 3);
        assert_eq!(Plan::new(&TrainConfig { max_steps: Some(7), ..config(0.25, 1) }, 10).total_steps, 7);
        assert_eq!(Plan::new(&config(1.5, 3), 10).total_steps, 6);
    }

    #[test]
    fn evaluations_and_checkpoints_fall_where_the_settings_say() {
        let due = |plan: Plan| -> (Vec<usize>, Vec<usize>) {
            let all = 1..=plan.total_steps;
            (
                all.clone().filter(|&s| plan.evaluates_after(s)).collect(),
                all.filter(|&s| plan.saves_after(s)).collect(),
            )
        };
        assert_eq!(due(Plan::new(&config(2.5, 1), 4)), (vec![4, 8, 10], vec![4, 8, 10]));
        let config = TrainConfig { eval_steps: 4, save_steps: 3, ..config(2.5, 1) };
        let plan = Plan::new(&config, 4);
        assert_eq!((due(plan), plan.n_evaluations()), ((vec![4, 8, 10], vec![3, 6, 9, 10]), 3));
    }
}
