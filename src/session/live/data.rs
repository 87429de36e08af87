//! A data file as the page shows it.

use super::super::{Checked, DataFile, Emit, check};
use super::forecast::sizes;
use crate::config::DataConfig;
use crate::data::read::raw_lines;
use crate::data::split::holdout;
use crate::data::{Row, RowContent, encode};
use crate::estimate::RowSize;
use crate::protocol::{BadRow, DataView, ShownField, ShownRow, ShownToken};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Rows that are shown, as read and token by token.
const N_SHOWN: usize = 20;
/// Tokens of a row that are shown.
const N_TOKENS_SHOWN: usize = 400;
/// Letters of a field or of a bad line that are shown.
const N_LETTERS_SHOWN: usize = 300;
/// Bad rows that are shown as they stand in the file.
const N_BAD_SHOWN: usize = 100;
/// Problems that are listed; beyond them the count has to do.
const N_PROBLEMS: usize = 200;

/// Reads a file and says everything about it that stands before a run with this seed, with the sizes of its rows.
///
/// # Errors
/// `emit` asked to stop. What is wrong with the file stands in the view.
pub fn view(
    file: &DataFile,
    tokenizer: &Tokenizer,
    settings: &DataConfig,
    seed: u64,
    emit: Emit<'_>,
) -> Result<(DataView, Vec<RowSize>)> {
    let Checked { train, mut report, .. } = check(settings, file, None, Some(tokenizer), emit)?;
    let mut rows = Vec::new();
    for (row, encoded) in train.read.rows.iter().zip(&train.encoded).take(N_SHOWN) {
        let tokens = encode::show(encoded, tokenizer)?.into_iter().take(N_TOKENS_SHOWN);
        let tokens = tokens.map(|token| ShownToken { text: token.text, weight: token.weight }).collect();
        rows.push(ShownRow { line: row.place.line, fields: fields(row), tokens });
    }
    let split = match holdout(&train.read.rows, settings.eval_fraction, seed) {
        Ok(mask) => {
            let n_held_out = mask.iter().filter(|is_held_out| **is_held_out).count();
            Some((mask.len() - n_held_out, n_held_out))
        }
        // Too few rows to split; a file without any has said so already.
        Err(problem) if !train.read.rows.is_empty() => {
            report.notes.push(problem.to_string());
            None
        }
        Err(_) => None,
    };
    report.problems.truncate(N_PROBLEMS);
    let bad_rows = bad_rows(file, &train.read.problems);
    let view = DataView { name: file.name.clone(), report, rows, bad_rows, split };
    Ok((view, sizes(&train.encoded)))
}

fn fields(row: &Row) -> Vec<ShownField> {
    let field = |name: &str, text: &str| ShownField { name: name.to_owned(), text: shown(text) };
    match &row.content {
        RowContent::Text(text) => vec![field("text", text)],
        RowContent::PromptCompletion { prompt, completion } => {
            vec![field("prompt", prompt), field("completion", completion)]
        }
        RowContent::Chat(turns) => turns.iter().map(|turn| field(&turn.role, &turn.content)).collect(),
    }
}

/// The beginning, marked where something is left out.
fn shown(text: &str) -> String {
    let mut letters = text.chars();
    let mut beginning: String = letters.by_ref().take(N_LETTERS_SHOWN).collect();
    if letters.next().is_some() {
        beginning.push('…');
    }
    beginning
}

/// The first rows with problems, each with all of its own.
fn bad_rows(file: &DataFile, problems: &[Error]) -> Vec<BadRow> {
    let mut by_line: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for problem in problems {
        let text = problem.to_string();
        if let Some((line, words)) = line_of(&text, &file.name) {
            by_line.entry(line).or_default().push(words.to_owned());
        }
    }
    let by_line: BTreeMap<_, _> = by_line.into_iter().take(N_BAD_SHOWN).collect();
    let mut lines = raw_lines(&file.bytes, &file.name, &by_line.keys().copied().collect());
    let row =
        |(line, problems)| BadRow { line, text: lines.remove(&line).map(|text| shown(&text)), problems };
    by_line.into_iter().map(row).collect()
}

/// The line that a problem's place names, and what follows: `rows.csv:3: column 2: …`, `rows.jsonl:9:17: …`.
fn line_of<'t>(problem: &'t str, file: &str) -> Option<(usize, &'t str)> {
    let at = problem.strip_prefix(file)?.strip_prefix(':')?;
    let end = at.find(|sign: char| !sign.is_ascii_digit())?;
    Some((at[..end].parse().ok()?, at[end..].trim_start_matches([':', ' '])))
}
