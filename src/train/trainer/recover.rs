//! Going back to values that were good: the last finite ones, or those of the lowest held-out loss.

use super::super::checkpoint::{self, Best, CHECKPOINT};
use super::super::clip;
use super::Trainer;
use crate::models::read_scalars;
use crate::objectives::Trainee;
use crate::protocol::Event;
use crate::store::Store;
use crate::{Error, Result};

impl<M: Trainee, S: Store> Trainer<'_, M, S> {
    /// The last update's result is used by no later step that would find it out.
    pub(super) async fn check_weights(&mut self) -> Result<()> {
        let Some(norm) = clip::global_norm(&self.model.trainable()) else { return Ok(()) };
        let [norm] = read_scalars([norm]).await?;
        if norm.is_finite() {
            return Ok(());
        }
        Err(self.not_finite(self.progress.step, "norm of the weights", f64::from(norm)).await?)
    }

    /// Puts the last good values back and says what went wrong.
    pub(super) async fn not_finite(
        &mut self,
        step: usize,
        quantity: &'static str,
        value: f64,
    ) -> Result<Error> {
        // The last update is the suspect, and a checkpoint written after it holds its result.
        checkpoint::remove_from(self.store, CHECKPOINT, self.progress.step).await?;
        let good_values = match self.good_values.take() {
            Some(values) => Some(values),
            None => {
                let mut note = |message| _ = (self.emit)(Event::Note { message });
                checkpoint::load_newest(self.store, CHECKPOINT, &self.device, &mut note)
                    .await?
                    .map(|older| older.weights)
            }
        };
        if let Some(values) = good_values {
            self.model.set_trainable(values)?;
        }
        let lr = self.training.run.learning_rate();
        let advice = match (step, self.training.run.train.max_grad_norm) {
            (1, _) => "the model or the first batch is at fault: try device cpu and look at the rows with `attune data check`".into(),
            (_, 0.0) => format!("try a train.learning_rate below {lr:e}, more train.warmup_steps, or train.max_grad_norm 1"),
            (_, limit) => format!("try a train.learning_rate below {lr:e}, more train.warmup_steps, or a train.max_grad_norm below {limit}"),
        };
        Ok(Error::NotFinite { step, quantity, value, advice })
    }

    /// A run is not lost with its best weights: the last ones are used where those cannot be read.
    pub(super) async fn restore_best(&mut self, best: Best) -> Result<()> {
        let Best { step, eval_loss } = best;
        let mut note = |message| _ = (self.emit)(Event::Note { message });
        match checkpoint::load_best(self.store, step, &self.device).await {
            Ok(weights) => {
                note(format!(
                    "using the weights of step {step}, with the lowest held-out loss {eval_loss:.4}"
                ));
                self.model.set_trainable(weights)
            }
            Err(problem) => {
                note(format!(
                    "the weights of step {step}, with the lowest held-out loss, cannot be read ({problem}); \
                     those of the last step are used"
                ));
                Ok(())
            }
        }
    }
}
