//! Data files → rows → tokens, with everything that is wrong reported at once.

use crate::config::{DataConfig, Run};
use crate::data::check::Report;
use crate::data::encode::{encode, prompt_merges_into_completion};
use crate::data::read::read_rows;
use crate::data::split::holdout;
use crate::data::{Encoded, Row, RowsRead};
use crate::eval::Choices;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// A data file as the user named it, with its bytes.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// Name for messages; its ending tells the format.
    pub name: String,
    /// Content, perhaps gzip.
    pub bytes: Vec<u8>,
}

/// Rows as tokens, ready for batches.
#[derive(Debug)]
pub struct Prepared {
    /// Rows to train on.
    pub train: Vec<Encoded>,
    /// Rows to evaluate on; may be empty.
    pub held_out: Vec<Encoded>,
    /// The held-out rows' answers, where they are questions with a few possible ones.
    pub choices: Option<Choices>,
    /// What was found on the way.
    pub report: Report,
}

/// Reads, splits and encodes the rows of a run.
///
/// # Errors
/// Every bad row of both files at once, unless `skip_bad_rows`; no usable row.
pub fn prepare(
    run: &Run,
    train: &DataFile,
    held_out: Option<&DataFile>,
    tokenizer: &Tokenizer,
) -> Result<Prepared> {
    let config = &run.data;
    let mut read = read_rows(&train.bytes, &train.name, config.shape);
    let mut encoded = encode_rows(&mut read, tokenizer, config);
    let (held_out_rows, held_out) = match held_out {
        Some(file) => {
            let mut other = read_rows(&file.bytes, &file.name, config.shape);
            let encoded = encode_rows(&mut other, tokenizer, config);
            read.problems.append(&mut other.problems);
            read.n_bad_rows += other.n_bad_rows;
            (other.rows, encoded)
        }
        None => split(&mut read, &mut encoded, config.eval_fraction, run.seed)?,
    };
    let report = Report::new(&read, &held_out_rows, &encoded)?;
    if !config.skip_bad_rows {
        Error::all(read.problems)?;
    }
    if encoded.is_empty() {
        return Err(no_usable_row(train));
    }
    let choices = Choices::of(&held_out_rows, &held_out);
    Ok(Prepared { train: encoded, held_out, choices, report })
}

/// The usable rows of one file with their tokens.
///
/// # Errors
/// Every bad row at once, unless `skip_bad_rows`; no usable row.
pub fn usable(
    file: &DataFile,
    tokenizer: &Tokenizer,
    config: &DataConfig,
) -> Result<(Vec<Row>, Vec<Encoded>)> {
    let mut read = read_rows(&file.bytes, &file.name, config.shape);
    let encoded = encode_rows(&mut read, tokenizer, config);
    if !config.skip_bad_rows {
        Error::all(read.problems)?;
    }
    if encoded.is_empty() {
        return Err(no_usable_row(file));
    }
    Ok((read.rows, encoded))
}

fn no_usable_row(file: &DataFile) -> Error {
    Error::input(&file.name, "no usable row", "at least one row with a token that carries loss")
}

/// Encodes the rows that were read; those that cannot be used move from `rows` to `problems`.
pub fn encode_rows(read: &mut RowsRead, tokenizer: &Tokenizer, config: &DataConfig) -> Vec<Encoded> {
    let mut encoded = Vec::with_capacity(read.rows.len());
    let mut n_merging = 0;
    let RowsRead { rows, problems, n_bad_rows, .. } = read;
    rows.retain(|row| match encode(row, tokenizer, config) {
        Ok(tokens) => {
            n_merging += usize::from(prompt_merges_into_completion(row, tokenizer).unwrap_or(false));
            encoded.push(tokens);
            true
        }
        Err(problem) => {
            problems.push(problem);
            *n_bad_rows += 1;
            false
        }
    });
    if n_merging > 0 {
        let note =
            "prompts end inside a token of their completion; a prompt that ends before a space avoids it";
        read.notes.push(format!("{n_merging} {note}"));
    }
    encoded
}

/// Holds rows out and their tokens with them.
fn split(
    read: &mut RowsRead,
    encoded: &mut Vec<Encoded>,
    fraction: f64,
    seed: u64,
) -> Result<(Vec<Row>, Vec<Encoded>)> {
    if fraction == 0.0 {
        return Ok((Vec::new(), Vec::new()));
    }
    let split = holdout(std::mem::take(&mut read.rows), fraction, seed)?;
    // Both halves are in file order, so a merge by place puts each row's tokens on its side.
    let mut held_out = Vec::with_capacity(split.held_out.len());
    let mut kept = Vec::with_capacity(split.train.len());
    let mut next = split.held_out.iter().peekable();
    let mut kept_rows = split.train.iter().peekable();
    for tokens in std::mem::take(encoded) {
        let is_held_out = match (next.peek(), kept_rows.peek()) {
            (Some(out), Some(stays)) => out.place.line < stays.place.line,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_held_out {
            next.next();
            held_out.push(tokens);
        } else {
            kept_rows.next();
            kept.push(tokens);
        }
    }
    *encoded = kept;
    read.rows = split.train;
    Ok((split.held_out, held_out))
}
