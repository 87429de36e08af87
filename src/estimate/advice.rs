//! What to change where the memory does not suffice: found by trying.

use crate::Result;
use crate::config::Run;
use crate::protocol::Advice;

/// A shorter row than this teaches little.
const SHORTEST: usize = 64;

/// Changes that bring the peak within `limit`, the one that costs least first: each alone where that is enough, else
/// all together. `peak` is the peak of a run in bytes.
pub(super) fn advise(run: &Run, limit: u64, peak: &dyn Fn(&Run) -> Result<u64>) -> Result<Vec<Advice>> {
    let candidates =
        [checkpointing(run), smaller_batch(run, limit, peak)?, adapters(run), shorter(run, limit, peak)?];
    let mut found = Vec::new();
    let mut together = (run.clone(), Vec::new());
    for (changed, changes) in candidates.into_iter().flatten() {
        let peak_bytes = peak(&changed)?;
        // The same changes on top of those before.
        apply(&mut together.0, &changed, run);
        together.1.extend(changes.clone());
        found.push(Advice { changes, peak_bytes, fits: peak_bytes <= limit });
    }
    if found.iter().any(|advice| advice.fits) {
        found.retain(|advice| advice.fits);
    } else if found.len() > 1 {
        let peak_bytes = peak(&together.0)?;
        found = vec![Advice { changes: together.1, peak_bytes, fits: peak_bytes <= limit }];
    }
    Ok(found)
}

type Candidate = Option<(Run, Vec<(String, String)>)>;

fn change(key: &str, value: impl ToString) -> (String, String) {
    (key.to_string(), value.to_string())
}

/// Costs a third of the speed, and nothing else.
fn checkpointing(run: &Run) -> Candidate {
    let mut changed = run.clone();
    changed.train.gradient_checkpointing = true;
    (changed != *run).then(|| (changed, vec![change("train.gradient_checkpointing", true)]))
}

/// The same step from more, smaller batches: the largest size that is enough, else single rows.
fn smaller_batch(run: &Run, limit: u64, peak: &dyn Fn(&Run) -> Result<u64>) -> Result<Candidate> {
    let rows_per_step = run.train.batch_size.saturating_mul(run.train.gradient_accumulation_steps);
    let mut changed = run.clone();
    while changed.train.batch_size > 1 {
        changed.train.batch_size /= 2;
        changed.train.gradient_accumulation_steps = rows_per_step.div_ceil(changed.train.batch_size);
        if peak(&changed)? <= limit {
            break;
        }
    }
    let train = &changed.train;
    let changes = vec![
        change("train.batch_size", train.batch_size),
        change("train.gradient_accumulation_steps", train.gradient_accumulation_steps),
    ];
    Ok((changed != *run).then_some((changed, changes)))
}

fn adapters(run: &Run) -> Candidate {
    let changed = Run { method: crate::methods::MethodConfig::default(), ..run.clone() };
    let is_full = matches!(run.method, crate::methods::MethodConfig::Full(_));
    is_full.then(|| (changed, vec![change("method.kind", "lora")]))
}

/// Shorter rows lose their ends.
fn shorter(run: &Run, limit: u64, peak: &dyn Fn(&Run) -> Result<u64>) -> Result<Candidate> {
    let mut changed = run.clone();
    while changed.data.max_length / 2 >= SHORTEST {
        changed.data.max_length /= 2;
        if peak(&changed)? <= limit {
            break;
        }
    }
    let changes = vec![change("data.max_length", changed.data.max_length)];
    // Where rows are shorter than that anyway, cutting changes nothing.
    let helps = changed != *run && peak(&changed)? < peak(run)?;
    Ok(helps.then_some((changed, changes)))
}

/// Brings what differs between `changed` and `from` into `run`.
fn apply(run: &mut Run, changed: &Run, from: &Run) {
    if changed.train.gradient_checkpointing != from.train.gradient_checkpointing {
        run.train.gradient_checkpointing = true;
    }
    if changed.train.batch_size != from.train.batch_size {
        run.train.batch_size = changed.train.batch_size;
        run.train.gradient_accumulation_steps = changed.train.gradient_accumulation_steps;
    }
    if changed.method != from.method {
        run.method = changed.method.clone();
    }
    if changed.data.max_length != from.data.max_length {
        run.data.max_length = changed.data.max_length;
    }
}
