//! A data file as the page shows it.

use super::super::{DataFile, encode_rows};
use crate::Result;
use crate::config::DataConfig;
use crate::data::check::Report;
use crate::data::encode;
use crate::data::read::read_rows;
use crate::protocol::{DataView, LengthBar, ShownRow, ShownToken};
use crate::tokenizer::Tokenizer;

/// Rows that are shown token by token.
const N_SHOWN: usize = 20;
/// Tokens of a row that are shown.
const N_TOKENS_SHOWN: usize = 400;
/// Problems that are listed; beyond them the count has to do.
const N_PROBLEMS: usize = 200;

/// Reads a file and says everything about it that stands before a run.
pub fn view(file: &DataFile, tokenizer: &Tokenizer, settings: &DataConfig) -> Result<DataView> {
    let mut read = read_rows(&file.bytes, &file.name, settings.shape);
    let encoded = encode_rows(&mut read, tokenizer, settings);
    let report = Report::new(&read, &[], &encoded)?;
    let mut rows = Vec::new();
    for (row, encoded) in read.rows.iter().zip(&encoded).take(N_SHOWN) {
        let tokens = encode::show(encoded, tokenizer)?.into_iter().take(N_TOKENS_SHOWN);
        let tokens = tokens.map(|token| ShownToken { text: token.text, weight: token.weight }).collect();
        rows.push(ShownRow { line: row.place.line, tokens });
    }
    let mut view = DataView {
        name: file.name.clone(),
        n_rows: report.n_rows,
        n_bad_rows: report.n_bad_rows,
        problems: report.problems.into_iter().take(N_PROBLEMS).collect(),
        notes: report.notes,
        shape: report.shape.map(str::to_string),
        n_duplicates: report.duplicates.len(),
        rows,
        ..DataView::default()
    };
    if let Some(tokens) = report.tokens {
        view.n_tokens = tokens.n_tokens;
        view.n_target_tokens = tokens.n_target_tokens;
        view.n_truncated = tokens.truncated.len();
        view.median = tokens.median;
        view.longest = tokens.longest;
        let bars = tokens.lengths.iter();
        view.lengths =
            bars.map(|bar| LengthBar { up_to_tokens: bar.up_to_tokens, n_rows: bar.n_rows }).collect();
    }
    Ok(view)
}
