//! The time that chat templates write. A run's rows are rendered with the time of its beginning, also when it is
//! resumed on another day: other tokens would be other rows.

use crate::store::Store;
use crate::tokenizer::Tokenizer;
use crate::train::Start;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Key of the time in a run's folder; only runs whose template asks for the time have it.
const TEMPLATE_TIME: &str = "template_time.json";

#[derive(Serialize, Deserialize)]
struct TemplateTime {
    unix_secs: u64,
}

/// Stops the clock of the tokenizer's chat template: at the present for a fresh run, at the run's beginning for a
/// resumed one. `store` is the run's folder. Rows are to be prepared after it.
///
/// # Errors
/// The folder's time cannot be read.
pub async fn stop_template_clock(tokenizer: &mut Tokenizer, store: &impl Store, start: Start) -> Result<()> {
    const MAX_BYTES: u64 = 1 << 10;
    if start == Start::Resume && store.size(TEMPLATE_TIME).await?.is_some() {
        let bytes = store.read_all(TEMPLATE_TIME, MAX_BYTES).await?;
        let time: TemplateTime = serde_json::from_slice(&bytes)
            .map_err(|e| Error::input(TEMPLATE_TIME, e.to_string(), "the file as the run wrote it"))?;
        tokenizer.stop_template_clock(Some(time.unix_secs));
    } else {
        tokenizer.stop_template_clock(None);
    }
    Ok(())
}

/// Keeps the time in the folder of a run that begins.
pub(super) async fn save(tokenizer: &Tokenizer, store: &impl Store, start: Start) -> Result<()> {
    let Some(unix_secs) = tokenizer.template_time() else { return Ok(()) };
    if start == Start::Resume && store.size(TEMPLATE_TIME).await?.is_some() {
        return Ok(());
    }
    let json = serde_json::to_vec(&TemplateTime { unix_secs })
        .map_err(|e| Error::Internal(format!("{TEMPLATE_TIME}: {e}")))?;
    store.write(TEMPLATE_TIME, &json).await
}
