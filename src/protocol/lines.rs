//! Figures as lines of a log, on a terminal and in a file.

use super::{EvalMetrics, StepMetrics};
use std::fmt::{Display, Formatter, Result};

impl Display for StepMetrics {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { step, total_steps, epoch, loss, tokens_per_sec, lr, grad_norm, .. } = self;
        write!(
            f,
            "step {step}/{total_steps}  epoch {epoch:.2}  loss {loss:.4}  {tokens_per_sec:.0} tokens/s  "
        )?;
        write!(f, "lr {lr:.2e}  grad norm {grad_norm:.3}")
    }
}

impl Display for EvalMetrics {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { step, eval_loss, eval_perplexity, eval_token_accuracy, eval_accuracy, n_targets } = self;
        write!(f, "step {step}: held-out loss {eval_loss:.4}, perplexity {eval_perplexity:.3}, ")?;
        write!(f, "token accuracy {:.1} % of {n_targets}", 100.0 * eval_token_accuracy)?;
        match eval_accuracy {
            Some(accuracy) => write!(f, ", accuracy {:.1} %", 100.0 * accuracy),
            None => Ok(()),
        }
    }
}
