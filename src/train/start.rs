//! What has to hold before the first step, and what a resumed run is compared by.

use super::checkpoint;
use super::trainer::Training;
use crate::store::Store;
use crate::{Error, Result};
use sha2::{Digest, Sha256};

/// Refuses to begin a run where another one has checkpoints.
///
/// # Errors
/// There is one.
pub async fn refuse_checkpoints(store: &impl Store) -> Result<()> {
    if !checkpoint::exists(store).await? {
        return Ok(());
    }
    Err(Error::input(
        "run folder",
        "it holds checkpoints of another run",
        "an empty folder, or to resume that run (`--resume`)",
    ))
}

/// Refuses settings that need held-out rows where there are none.
pub(super) fn check_held_out(training: &Training<'_>) -> Result<()> {
    let train = &training.run.train;
    let patience = train.early_stopping_patience;
    let mut problems = Vec::new();
    let expected = "data.eval_path or data.eval_fraction beside it";
    if patience > 0 {
        let problem = format!("{patience} without held-out rows");
        problems.push(Error::input("train.early_stopping_patience", problem, expected));
    }
    if train.load_best_model_at_end {
        problems.push(Error::input("train.load_best_model_at_end", "true without held-out rows", expected));
    }
    if training.held_out.is_some() { Ok(()) } else { Error::all(problems) }
}

/// Hexadecimal SHA-256 of all rows as tokens: a resumed run must see the same.
pub(super) fn data_digest(training: &Training<'_>) -> String {
    let mut digest = Sha256::new();
    training.batches.digest(&mut digest);
    digest.update(b"held out");
    if let Some(held_out) = training.held_out {
        held_out.digest(&mut digest);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
