//! Data files → rows → tokens, with everything that is wrong reported at once.

use super::{Emit, prompts};
use crate::config::{DataConfig, Run};
use crate::data::check::{Part, Report};
use crate::data::encode::{encode, model_faults};
use crate::data::read::read_columns;
use crate::data::split::holdout;
use crate::data::{Encoded, RowsRead};
use crate::eval::Choices;
use crate::protocol::{Control, Event};
use crate::tokenizer::Tokenizer;
use crate::train::SamplePrompt;
use crate::{Error, Result};

/// Rows between two signs of progress.
const ROWS_A_SIGN: usize = 64;

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
    /// Prompts answered along the way, where the run asks for them.
    pub prompts: Vec<SamplePrompt>,
}

/// The files of a data set, looked at and not judged.
#[derive(Debug)]
pub struct Checked {
    /// Rows to train on.
    pub train: Part,
    /// Rows of the file to evaluate on, where there is one.
    pub held_out: Option<Part>,
    /// What there is to say about them.
    pub report: Report,
}

/// Reads the files of a data set and, with a tokenizer, encodes them.
///
/// # Errors
/// [`Error::Interrupted`] where `emit` asked to stop. What is wrong with the files stands in the report.
pub fn check(
    config: &DataConfig,
    train: &DataFile,
    held_out: Option<&DataFile>,
    tokenizer: Option<&Tokenizer>,
    emit: Emit<'_>,
) -> Result<Checked> {
    let train = part(train, tokenizer, config, emit)?;
    let mut held_out = held_out.map(|file| part(file, tokenizer, config, emit)).transpose()?;
    if let Some(Part { read, .. }) = &mut held_out {
        // What the model lacks is no news the second time.
        let known: Vec<String> = train.read.faults.iter().map(ToString::to_string).collect();
        read.faults.retain(|fault| !known.contains(&fault.to_string()));
    }
    let report = Report::new(&train, held_out.as_ref())?;
    Ok(Checked { train, held_out, report })
}

/// Reads, splits and encodes the rows of a run, and emits the report.
///
/// # Errors
/// Faults of a file; bad rows, unless `skip_bad_rows`; a file without a usable row; rows that cannot be split.
pub fn prepare(
    run: &Run,
    train_file: &DataFile,
    held_out_file: Option<&DataFile>,
    tokenizer: &Tokenizer,
    emit: Emit<'_>,
) -> Result<Prepared> {
    let config = &run.data;
    let Checked { mut train, mut held_out, mut report } =
        check(config, train_file, held_out_file, Some(tokenizer), emit)?;
    let mut refusals = refusals(train_file, &mut train, config);
    if let (Some(file), Some(part)) = (held_out_file, &mut held_out) {
        refusals.extend(self::refusals(file, part, config));
    }
    // Only rows that are going to be used can be split.
    if refusals.is_empty() && held_out.is_none() && config.eval_fraction > 0.0 {
        match holdout(&train.read.rows, config.eval_fraction, run.seed) {
            Ok(mask) => {
                held_out = Some(hold_out(&mut train, &mask));
                report = Report::new(&train, held_out.as_ref())?;
            }
            Err(problem) => refusals.push(problem),
        }
    }
    emit(Event::Data(Box::new(report)));
    Error::all(refusals)?;
    let held_out = held_out.unwrap_or_default();
    let choices = Choices::of(&held_out.read.rows, &held_out.encoded);
    let asked = if held_out.read.rows.is_empty() { &train.read.rows } else { &held_out.read.rows };
    let prompts = prompts::sample_prompts(run, asked, tokenizer)?;
    Ok(Prepared { train: train.encoded, held_out: held_out.encoded, choices, prompts })
}

/// The usable rows of one file with their tokens; emits the report.
///
/// # Errors
/// As [`prepare`].
pub(super) fn usable(
    file: &DataFile,
    tokenizer: &Tokenizer,
    config: &DataConfig,
    emit: Emit<'_>,
) -> Result<Part> {
    let Checked { train: mut part, report, .. } = check(config, file, None, Some(tokenizer), emit)?;
    emit(Event::Data(Box::new(report)));
    Error::all(refusals(file, &mut part, config))?;
    Ok(part)
}

/// Why a file cannot be used as it is. The report lists every bad row, so they are only counted here.
fn refusals(file: &DataFile, part: &mut Part, config: &DataConfig) -> Vec<Error> {
    let RowsRead { rows, faults, problems, n_bad_rows, .. } = &mut part.read;
    if !faults.is_empty() {
        return std::mem::take(faults);
    }
    if !problems.is_empty() && !config.skip_bad_rows {
        let counted = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
        let (problems, bad_rows) = (counted(problems.len(), "problem"), counted(*n_bad_rows, "bad row"));
        let found = format!("{problems} in {bad_rows}, as reported");
        let expected = "none; data.skip_bad_rows (--skip-bad-rows) leaves bad rows out";
        return vec![Error::input(&file.name, found, expected)];
    }
    if rows.is_empty() {
        let first = problems.first().map_or(String::new(), |first| format!(" ({first})"));
        let expected = "at least one row with a token that carries loss";
        return vec![Error::input(&file.name, format!("no usable row{first}"), expected)];
    }
    Vec::new()
}

/// Reads a file and, with a tokenizer, encodes its rows; those that cannot be used move to `problems`.
fn part(file: &DataFile, tokenizer: Option<&Tokenizer>, config: &DataConfig, emit: Emit<'_>) -> Result<Part> {
    let mut read = read_columns(&file.bytes, &file.name, config.shape, config.columns.as_ref());
    let Some(tokenizer) = tokenizer else { return Ok(Part { read, encoded: Vec::new() }) };
    let lacking = model_faults(&read.rows, tokenizer);
    if !lacking.is_empty() {
        read.faults.extend(lacking);
        return Ok(Part { read, encoded: Vec::new() });
    }
    let total = read.rows.len();
    let mut rows = Vec::with_capacity(total);
    let mut encoded = Vec::with_capacity(total);
    let mut n_merging = 0;
    for (index, row) in std::mem::take(&mut read.rows).into_iter().enumerate() {
        match encode(&row, tokenizer, config) {
            Ok(row_encoded) => {
                n_merging += usize::from(row_encoded.prompt_merges);
                encoded.push(row_encoded.tokens);
                rows.push(row);
            }
            Err(problem) => {
                read.problems.push(problem);
                read.n_bad_rows += 1;
            }
        }
        let done = index + 1;
        if done == total || done.is_multiple_of(ROWS_A_SIGN) {
            let sign = Event::Progress { task: "tokenising".into(), done: done as u64, total: total as u64 };
            if emit(sign) == Control::Stop {
                return Err(Error::Interrupted("tokenising".into()));
            }
        }
    }
    read.rows = rows;
    if n_merging > 0 {
        let note =
            "prompts end inside a token of their completion; a prompt that ends before a space avoids it";
        read.notes.push(format!("{n_merging} {note}"));
    }
    Ok(Part { read, encoded })
}

/// Moves the rows of the mask, and their tokens with them, out of `train`.
fn hold_out(train: &mut Part, mask: &[bool]) -> Part {
    let mut held_out = Part::default();
    let (rows, encoded) = (std::mem::take(&mut train.read.rows), std::mem::take(&mut train.encoded));
    for ((row, tokens), is_held_out) in rows.into_iter().zip(encoded).zip(mask) {
        let side = if *is_held_out { &mut held_out } else { &mut *train };
        side.read.rows.push(row);
        side.encoded.push(tokens);
    }
    held_out
}
