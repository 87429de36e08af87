//! Models in the store: whole ones, and what broken downloads left.

use super::stored::TEXT_LIMIT;
use crate::Result;
use crate::hub::Kept;
use crate::protocol::{StoredFile, Unfinished};
use crate::store::{Store, join};
use std::collections::BTreeMap;

/// Folder of all models.
pub(super) const MODELS: &str = "models";

/// Endings of what lies beside a model's file while it is fetched, and of what is noted about it.
pub(super) const BESIDE: [&str; 3] = [Kept::NOTE, Kept::MARK, PARTIAL];
/// Ending of a file that is being written.
const PARTIAL: &str = ".partial";

/// Models, each a folder or a file, and those of which a part is there.
pub(super) async fn list(store: &impl Store) -> Result<(Vec<StoredFile>, Vec<Unfinished>)> {
    #[derive(Default)]
    struct Found {
        n_bytes: u64,
        is_partial: bool,
    }
    let (mut models, mut unfinished) = (Vec::new(), Vec::new());
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for key in store.list(&join(MODELS, "")).await? {
        let Some(name) = key.split('/').nth(1) else { continue };
        let is_file = key.matches('/').count() == 1;
        let owner =
            if is_file { BESIDE.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name) } else { name };
        let model = found.entry(owner.to_owned()).or_default();
        model.n_bytes += store.size(&key).await?.unwrap_or(0);
        model.is_partial |= key.ends_with(PARTIAL);
    }
    for (name, Found { n_bytes, is_partial }) in found {
        let key = join(MODELS, &name);
        if is_partial {
            let hub_id = kept(store, &key, Kept::MARK).await.map(|kept| kept.id);
            let name = hub_id.clone().unwrap_or(name);
            unfinished.push(Unfinished { key, name, n_bytes, hub_id });
        } else {
            let name = kept(store, &key, Kept::NOTE).await.map_or(name, |kept| kept.id);
            models.push(StoredFile { key, name, n_bytes });
        }
    }
    Ok((models, unfinished))
}

/// The note or mark beside a model of the hub.
pub(super) async fn kept(store: &impl Store, model: &str, ending: &str) -> Option<Kept> {
    Kept::parse(&store.read_all(&Kept::key(model, ending), TEXT_LIMIT).await.ok()?)
}
