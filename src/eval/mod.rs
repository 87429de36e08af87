//! Held-out figures: mean loss, perplexity, token accuracy.

mod choices;

pub use choices::Choices;

use crate::data::batches::Batches;
use crate::models::read_scalars;
use crate::objectives::{EvalOutput, Trainee};
use crate::protocol::{Control, EvalMetrics, Event};
use crate::{Error, Result};

/// Evaluates all of `held_out`, or returns `None` where `emit` asked to stop.
///
/// The mean is over all target tokens, not over batches, so that it does not depend on the batch size.
pub async fn evaluate(
    model: &impl Trainee,
    held_out: &Batches,
    step: usize,
    emit: &mut dyn FnMut(Event) -> Control,
) -> Result<Option<EvalMetrics>> {
    let (mut nll_sum, mut n_correct, mut weight, mut n_targets) = (0.0, 0.0, 0.0, 0);
    let total = held_out.len();
    for index in 0..total {
        let batch = held_out.batch(0, index);
        let EvalOutput { nll_sum: nll, n_correct: correct } = model.evaluate(&batch)?;
        // Summed on the host: f32 sums over a whole data set lose digits.
        let [nll, correct] = read_scalars([nll, correct]).await?;
        nll_sum += f64::from(nll);
        n_correct += f64::from(correct);
        weight += batch.target_weight();
        n_targets += batch.loss_weights.iter().filter(|&&w| w != 0.0).count();
        let progress =
            Event::Progress { task: "evaluating".into(), done: index as u64 + 1, total: total as u64 };
        if emit(progress) == Control::Stop {
            return Ok(None);
        }
    }
    if weight <= 0.0 {
        return Err(Error::input(
            "held-out rows",
            "no target token",
            "at least one row with a token that carries loss",
        ));
    }
    let eval_loss = nll_sum / weight;
    Ok(Some(EvalMetrics {
        step,
        eval_loss,
        eval_perplexity: eval_loss.exp(),
        eval_token_accuracy: n_correct / n_targets as f64,
        n_targets,
    }))
}
