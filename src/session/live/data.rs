//! A data file as the page shows it.

use super::super::{Checked, DataFile, Emit, check};
use super::forecast::sizes;
use crate::Result;
use crate::config::DataConfig;
use crate::data::encode;
use crate::estimate::RowSize;
use crate::protocol::{DataView, ShownRow, ShownToken};
use crate::tokenizer::Tokenizer;

/// Rows that are shown token by token.
const N_SHOWN: usize = 20;
/// Tokens of a row that are shown.
const N_TOKENS_SHOWN: usize = 400;
/// Problems that are listed; beyond them the count has to do.
const N_PROBLEMS: usize = 200;

/// Reads a file and says everything about it that stands before a run, with the sizes of its rows.
///
/// # Errors
/// `emit` asked to stop. What is wrong with the file stands in the view.
pub fn view(
    file: &DataFile,
    tokenizer: &Tokenizer,
    settings: &DataConfig,
    emit: Emit<'_>,
) -> Result<(DataView, Vec<RowSize>)> {
    let Checked { train, mut report, .. } = check(settings, file, None, Some(tokenizer), emit)?;
    let mut rows = Vec::new();
    for (row, encoded) in train.read.rows.iter().zip(&train.encoded).take(N_SHOWN) {
        let tokens = encode::show(encoded, tokenizer)?.into_iter().take(N_TOKENS_SHOWN);
        let tokens = tokens.map(|token| ShownToken { text: token.text, weight: token.weight }).collect();
        rows.push(ShownRow { line: row.place.line, tokens });
    }
    report.problems.truncate(N_PROBLEMS);
    Ok((DataView { name: file.name.clone(), report, rows }, sizes(&train.encoded)))
}
