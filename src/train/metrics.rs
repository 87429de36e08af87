//! `metrics.jsonl`: one line an optimizer step, one line an evaluation, each an [`Event`] as JSON.

use crate::protocol::Event;
use crate::store::Store;
use crate::{Error, Result};

/// Key of the metrics in the run folder.
pub const METRICS_KEY: &str = "metrics.jsonl";
/// A run of a million steps writes less; anything longer is not ours.
const METRICS_LIMIT: u64 = 1 << 30;

/// Appends the line of a step or an evaluation; other events have none.
pub async fn append(store: &impl Store, event: &Event) -> Result<()> {
    if step_of(event).is_none() {
        return Ok(());
    }
    let mut line = serde_json::to_vec(event).map_err(|e| Error::Internal(format!("metrics line: {e}")))?;
    line.push(b'\n');
    store.append(METRICS_KEY, &line).await
}

/// Cuts the lines of steps after `step`, which will be made again, and a line torn by a crash.
pub async fn cut_after(store: &impl Store, step: usize) -> Result<()> {
    if store.size(METRICS_KEY).await?.is_none() {
        return Ok(());
    }
    let bytes = store.read_all(METRICS_KEY, METRICS_LIMIT).await?;
    let is_kept = |line: &&[u8]| {
        line.ends_with(b"\n")
            && serde_json::from_slice(line).is_ok_and(|event| step_of(&event).is_some_and(|s| s <= step))
    };
    let kept: Vec<u8> = bytes.split_inclusive(|&b| b == b'\n').filter(is_kept).flatten().copied().collect();
    if kept.len() == bytes.len() { Ok(()) } else { store.write(METRICS_KEY, &kept).await }
}

/// The lines of a run so far; one torn by a crash is left out.
pub async fn read_metrics(store: &impl Store) -> Result<Vec<Event>> {
    if store.size(METRICS_KEY).await?.is_none() {
        return Ok(Vec::new());
    }
    let bytes = store.read_all(METRICS_KEY, METRICS_LIMIT).await?;
    Ok(bytes.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

fn step_of(event: &Event) -> Option<usize> {
    match event {
        Event::Step(metrics) => Some(metrics.step),
        Event::Eval(metrics) => Some(metrics.step),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::{EvalMetrics, StepMetrics};
    use crate::store::memory::{MemoryStore, ready};

    fn step(step: usize) -> Event {
        Event::Step(StepMetrics {
            step,
            total_steps: 9,
            epoch: 0.5,
            loss: 1.25,
            lr: 1e-4,
            grad_norm: 0.1,
            n_tokens: 12,
            tokens_per_sec: 3.0,
            elapsed_secs: 4.0,
        })
    }

    fn eval(step: usize) -> Event {
        Event::Eval(EvalMetrics {
            step,
            eval_loss: 0.1,
            eval_perplexity: 1.1,
            eval_token_accuracy: 0.5,
            eval_accuracy: None,
            n_targets: 7,
        })
    }

    #[test]
    fn lines_after_the_checkpoint_and_torn_lines_are_cut() {
        ready(async {
            let store = MemoryStore::new();
            for event in [step(1), step(2), eval(2), Event::Note { message: "no line".into() }, step(3)] {
                append(&store, &event).await.unwrap();
            }
            store.append(METRICS_KEY, br#"{"event":"step","ste"#).await.unwrap();
            cut_after(&store, 2).await.unwrap();
            let text = String::from_utf8(store.read_all(METRICS_KEY, 1 << 20).await.unwrap()).unwrap();
            let steps: Vec<_> =
                text.lines().map(|line| serde_json::from_str::<Event>(line).unwrap()).collect();
            assert_eq!(steps, [step(1), step(2), eval(2)]);
            assert!(text.starts_with(r#"{"event":"step","step":1,"total_steps":9,"epoch":0.5,"loss":1.25,"lr":0.0001,"grad_norm":0.1,"n_tokens":12,"#), "{text}");
        });
    }
}
