//! The figures of a run for other programs and for people: a table, and the lines of a log.

use crate::config::Run;
use crate::methods::MethodConfig;
use crate::protocol::{EvalMetrics, Event, StepMetrics};

/// Names of the columns, those of `metrics.jsonl`.
const COLUMNS: &str = "step,total_steps,epoch,loss,lr,grad_norm,n_tokens,tokens_per_sec,elapsed_secs,\
                       eval_loss,eval_perplexity,eval_token_accuracy,eval_accuracy,n_targets";

/// A table as RFC 4180 has it: a row for each step, with the evaluation made after it, if any. Numbers have all
/// their digits.
pub fn csv(events: &[Event]) -> String {
    let mut out = format!("{COLUMNS}\r\n");
    let mut waiting: Option<&StepMetrics> = None;
    for event in events {
        match event {
            Event::Step(step) => {
                if let Some(step) = waiting.replace(step) {
                    row(&mut out, Some(step), None);
                }
            }
            Event::Eval(eval) => {
                // Another step's row is whole already, and an evaluation without its step has a row of its own.
                let own = waiting.take_if(|step| step.step == eval.step);
                if let Some(step) = waiting.take() {
                    row(&mut out, Some(step), None);
                }
                row(&mut out, own, Some(eval));
            }
            _ => {}
        }
    }
    if let Some(step) = waiting {
        row(&mut out, Some(step), None);
    }
    out
}

fn row(out: &mut String, step: Option<&StepMetrics>, eval: Option<&EvalMetrics>) {
    let number = step.map_or(eval.map(|eval| eval.step), |step| Some(step.step));
    let mut cells = vec![number.map_or_else(String::new, |number| number.to_string())];
    cells.extend(match step {
        Some(step) => [
            step.total_steps.to_string(),
            step.epoch.to_string(),
            step.loss.to_string(),
            step.lr.to_string(),
            step.grad_norm.to_string(),
            step.n_tokens.to_string(),
            step.tokens_per_sec.to_string(),
            step.elapsed_secs.to_string(),
        ],
        None => Default::default(),
    });
    cells.extend(match eval {
        Some(eval) => [
            eval.eval_loss.to_string(),
            eval.eval_perplexity.to_string(),
            eval.eval_token_accuracy.to_string(),
            eval.eval_accuracy.map_or_else(String::new, |accuracy| accuracy.to_string()),
            eval.n_targets.to_string(),
        ],
        None => Default::default(),
    });
    out.push_str(&cells.join(","));
    out.push_str("\r\n");
}

/// What was trained, then a line for each step and each evaluation, as the command line prints them.
pub fn log(run: &Run, events: &[Event]) -> String {
    let method = match &run.method {
        MethodConfig::Lora(lora) => format!("LoRA of rank {}", lora.rank),
        MethodConfig::Full(_) => "full tuning".to_string(),
    };
    let data = run.data.path.as_deref().unwrap_or("unnamed rows");
    let mut out = format!("attune {}: {}, {method}, {data}\n", env!("CARGO_PKG_VERSION"), run.model);
    let mut last = None;
    for event in events {
        match event {
            Event::Step(step) => {
                last = Some(step);
                out.push_str(&format!("{step}\n"));
            }
            Event::Eval(eval) => out.push_str(&format!("{eval}\n")),
            _ => {}
        }
    }
    if let Some(last) = last {
        out.push_str(&format!("{} steps in {:.0} s\n", last.step, last.elapsed_secs));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: usize) -> Event {
        Event::Step(StepMetrics {
            step,
            total_steps: 3,
            epoch: 0.5,
            loss: 1.0 / 3.0,
            lr: 1e-4,
            grad_norm: 0.25,
            n_tokens: 12,
            tokens_per_sec: 3.0,
            elapsed_secs: 4.25,
        })
    }

    fn eval(step: usize) -> Event {
        Event::Eval(EvalMetrics {
            step,
            eval_loss: 0.5,
            eval_perplexity: 1.5,
            eval_token_accuracy: 0.75,
            eval_accuracy: (step > 2).then_some(1.0),
            n_targets: 7,
        })
    }

    #[test]
    fn a_table_has_a_row_for_each_step_and_loses_no_evaluation() {
        let table = csv(&[eval(0), step(1), step(2), eval(2), step(3), eval(3)]);
        let rows: Vec<_> = table.split_terminator("\r\n").collect();
        assert!(rows.iter().all(|row| row.split(',').count() == COLUMNS.split(',').count()), "{table}");
        let figures = "3,0.5,0.3333333333333333,0.0001,0.25,12,3,4.25";
        assert_eq!(
            rows[1..],
            [
                "0,,,,,,,,,0.5,1.5,0.75,,7".to_string(),
                format!("1,{figures},,,,,"),
                format!("2,{figures},0.5,1.5,0.75,,7"),
                format!("3,{figures},0.5,1.5,0.75,1,7"),
            ]
        );
        assert_eq!(csv(&[]), format!("{COLUMNS}\r\n"));
    }

    #[test]
    fn a_log_reads_like_the_command_lines_own() {
        let run = Run { model: "tiny".into(), ..Run::default() };
        let text = log(&run, &[step(1), eval(1)]);
        let expected = "step 1/3  epoch 0.50  loss 0.3333  3 tokens/s  lr 1.00e-4  grad norm 0.250\n\
                        step 1: held-out loss 0.5000, perplexity 1.500, token accuracy 75.0 % of 7\n\
                        1 steps in 4 s\n";
        assert_eq!(text.split_once('\n').map(|(_, rest)| rest), Some(expected), "{text}");
    }
}
