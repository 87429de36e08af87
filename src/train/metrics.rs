//! `metrics.jsonl`: one line an optimizer step, an evaluation or a sample, each an [`Event`] as JSON.

use crate::protocol::{EvalMetrics, Event, StepMetrics};
use crate::store::Store;
use crate::{Error, Result};

/// Key of the metrics in the run folder.
pub const METRICS_KEY: &str = "metrics.jsonl";
/// A run of a million steps writes less; anything longer is not ours.
const METRICS_LIMIT: u64 = 1 << 30;
/// Bytes that hold the last lines of most runs.
const TAIL: u64 = 1 << 16;

/// Appends the line of a step, an evaluation or a sample; other events have none.
pub async fn append(store: &impl Store, event: &Event) -> Result<()> {
    if step_of(event).is_none() {
        return Ok(());
    }
    let mut line = serde_json::to_vec(event).map_err(|e| Error::Internal(format!("metrics line: {e}")))?;
    line.push(b'\n');
    store.append(METRICS_KEY, &line).await
}

/// Cuts the lines of steps after `step`, which will be made again, and a line torn by a crash. Returns what is kept.
pub async fn cut_after(store: &impl Store, step: usize) -> Result<Vec<Event>> {
    let bytes = read(store).await?;
    // A run at step 0 begins anew, with the samples before its first step.
    let is_kept = |event: &Event| step > 0 && step_of(event).is_some_and(|s| s <= step);
    let (mut kept, mut events) = (Vec::new(), Vec::new());
    for line in bytes.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n")) {
        if let Some(event) = parse(line).filter(is_kept) {
            kept.extend_from_slice(line);
            events.push(event);
        }
    }
    if kept.len() != bytes.len() {
        store.write(METRICS_KEY, &kept).await?;
    }
    Ok(events)
}

/// The lines of a run so far; one torn by a crash is left out.
pub async fn read_metrics(store: &impl Store) -> Result<Vec<Event>> {
    Ok(read(store).await?.split(|&b| b == b'\n').filter_map(parse).collect())
}

/// The last step and the last evaluation, without reading a long run from its beginning. `has_evals` tells whether
/// an evaluation is worth looking for.
pub async fn last_metrics(
    store: &impl Store,
    has_evals: HasEvals,
) -> Result<(Option<StepMetrics>, Option<EvalMetrics>)> {
    // Longer is not ours, as in `read`.
    let Some(size) = store.size(METRICS_KEY).await?.filter(|&size| size <= METRICS_LIMIT) else {
        return Ok((None, None));
    };
    let (mut step, mut eval) = (None, None);
    let mut length = TAIL;
    loop {
        let start = size.saturating_sub(length);
        for line in store.read(METRICS_KEY, start..size).await?.split(|&b| b == b'\n').rev() {
            match parse(line) {
                Some(Event::Step(metrics)) if step.is_none() => step = Some(metrics),
                Some(Event::Eval(metrics)) if eval.is_none() => eval = Some(metrics),
                _ => {}
            }
        }
        let is_enough = step.is_some() && (eval.is_some() || has_evals == HasEvals::No);
        if start == 0 || is_enough {
            return Ok((step, eval));
        }
        length *= 8;
    }
}

/// Whether a run evaluates.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HasEvals {
    /// It has held-out rows.
    Yes,
    /// It has none.
    No,
}

async fn read(store: &impl Store) -> Result<Vec<u8>> {
    match store.size(METRICS_KEY).await? {
        None => Ok(Vec::new()),
        Some(_) => store.read_all(METRICS_KEY, METRICS_LIMIT).await,
    }
}

fn parse(line: &[u8]) -> Option<Event> {
    serde_json::from_slice(line).ok()
}

fn step_of(event: &Event) -> Option<usize> {
    match event {
        Event::Step(metrics) => Some(metrics.step),
        Event::Eval(metrics) => Some(metrics.step),
        Event::Sample(sample) => Some(sample.step),
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

    #[test]
    fn the_last_lines_are_found_without_reading_all() {
        ready(async {
            let store = MemoryStore::new();
            assert_eq!(last_metrics(&store, HasEvals::Yes).await.unwrap(), (None, None));
            append(&store, &eval(1)).await.unwrap();
            for at in 1..=1000 {
                append(&store, &step(at)).await.unwrap();
            }
            assert!(store.size(METRICS_KEY).await.unwrap().unwrap() > 2 * TAIL);
            let last = |event: Option<StepMetrics>| event.map(|step| step.step);
            let (found, none) = last_metrics(&store, HasEvals::No).await.unwrap();
            assert_eq!((last(found), none), (Some(1000), None));
            let (found, first) = last_metrics(&store, HasEvals::Yes).await.unwrap();
            assert_eq!((last(found), first.map(|eval| eval.step)), (Some(1000), Some(1)));
        });
    }
}
