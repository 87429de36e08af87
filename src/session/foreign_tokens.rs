//! Tokens that a tokenizer has and its model's embedding table lacks, as some published models do.

use crate::data::Encoded;
use crate::models::CausalLm;
use crate::tokenizer::{SkipSpecial, Tokenizer};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Refuses rows with such a token before any of them is computed on; every token is named once. `which` begins
/// the rows' name: `training `, or nothing.
pub(super) fn check_rows(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    which: &str,
    rows: &[Encoded],
) -> Result<()> {
    // Token → the rows that have it, counted from 1.
    let mut found: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        for &id in row.ids.iter().filter(|&&id| !model.has_token(id)) {
            let rows = found.entry(id).or_default();
            if rows.last() != Some(&(index + 1)) {
                rows.push(index + 1);
            }
        }
    }
    let error = |(id, rows): (u32, Vec<usize>)| {
        let text = tokenizer.decode(&[id], SkipSpecial::No).unwrap_or_default();
        let text = crate::store::shortened(&text);
        let n_rows = if rows.len() == 1 { "1 row holds".into() } else { format!("{} rows hold", rows.len()) };
        let problem = format!("the model has no embedding for it, and {n_rows} it");
        let expected = format!(
            "tokens below the model's vocabulary of {}: a tokenizer made for this model, or rows without it",
            model.spec.vocab_size
        );
        Error::input(format!("{which}row {}: token {id} ({text})", rows[0]), problem, expected)
    };
    Error::all(found.into_iter().map(error).collect())
}

/// The token that fills up short rows. Nothing attends to it, so that any that the model has will do.
pub(super) fn pad_id(model: &CausalLm, tokenizer: &Tokenizer) -> u32 {
    Some(tokenizer.pad_id()).filter(|&id| model.has_token(id)).unwrap_or(0)
}
