//! Held-out figures: mean loss, perplexity, token accuracy, and accuracy where the rows are questions.

mod choices;
mod held_out;

pub use choices::Choices;
pub use held_out::HeldOut;

use crate::models::read_vector;
use crate::objectives::{EvalOutput, Trainee};
use crate::protocol::{Control, EvalMetrics, Event};
use crate::{Error, Result};
use burn::tensor::Tensor;

/// Evaluates all of `held_out` in one pass, or returns `None` where `emit` asked to stop.
///
/// The mean is over all target tokens, not over batches, so that it does not depend on the batch size.
/// A question counts as answered right when, of all answers' first tokens, that of its own answer has the
/// largest logit right after the prompt.
pub async fn evaluate(
    model: &impl Trainee,
    held_out: &HeldOut,
    step: usize,
    emit: &mut dyn FnMut(Event) -> Control,
) -> Result<Option<EvalMetrics>> {
    let (mut nll_sum, mut n_correct, mut weight, mut n_targets, mut n_right) = (0.0, 0.0, 0.0, 0, 0);
    for index in 0..held_out.n_batches() {
        let batch = held_out.batch(index);
        let EvalOutput { nll_sum: nll, n_correct: correct, answers } =
            model.evaluate(&batch, held_out.answer_ids())?;
        // One read a batch. Summed on the host: f32 sums over a whole data set lose digits.
        let answers = answers.map(|answers| answers.float());
        let figures =
            read_vector(Tensor::cat([nll, correct].into_iter().chain(answers).collect(), 0)).await?;
        nll_sum += f64::from(figures[0]);
        n_correct += f64::from(figures[1]);
        let answered = figures[2..].iter().zip(held_out.right_answers(index));
        n_right += answered.filter(|&(&answer, &right)| answer as usize == right).count();
        weight += batch.target_weight();
        n_targets += batch.loss_weights.iter().filter(|&&w| w != 0.0).count();
        let (done, total) = (index as u64 + 1, held_out.n_batches() as u64);
        if emit(Event::Progress { task: "evaluating".into(), done, total }) == Control::Stop {
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
        eval_accuracy: held_out.answer_ids().map(|_| n_right as f64 / held_out.n_rows() as f64),
        n_targets,
    }))
}
