//! What a look at the data says before a run: counts, problems, lengths, duplicates.

use super::records::RowsRead;
use super::{Encoded, Row, RowContent, shapes};
pub use crate::protocol::{HeldOutReport, LengthBucket, Report, SameContent, TokenReport};

use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;

/// How many remarks of a kind the text rendering lists before it only counts.
const LISTED: usize = 10;

/// Width of the histogram's longest bar, in characters.
const BAR: usize = 40;

/// Rows with their tokens: a data set, or the part of it that is held out.
#[derive(Debug, Default)]
pub struct Part {
    /// The rows, and what was wrong with others.
    pub read: RowsRead,
    /// Tokens of the rows, one for each and in their order; nothing where no tokenizer is at hand.
    pub encoded: Vec<Encoded>,
}

impl Report {
    /// Puts together what was found.
    ///
    /// # Errors
    /// As many encoded rows as neither nothing nor rows: a fault of the caller.
    pub fn new(train: &Part, held_out: Option<&Part>) -> Result<Self> {
        let parts = || std::iter::once(train).chain(held_out);
        for Part { read, encoded } in parts() {
            if !encoded.is_empty() && encoded.len() != read.rows.len() {
                let problem = format!("{} rows but {} encoded rows", read.rows.len(), encoded.len());
                return Err(Error::Internal(problem));
            }
        }
        let mut first_places = HashMap::new();
        let mut duplicates = Vec::new();
        for row in &train.read.rows {
            let first = *first_places.entry(content_hash(&row.content)).or_insert(&row.place);
            if !std::ptr::eq(first, &row.place) {
                duplicates.push(SameContent { first: first.clone(), again: row.place.clone() });
            }
        }
        let overlap = held_out
            .iter()
            .flat_map(|part| &part.read.rows)
            .filter_map(|row| {
                let first = (*first_places.get(&content_hash(&row.content))?).clone();
                Some(SameContent { first, again: row.place.clone() })
            })
            .collect();
        let problems = parts().flat_map(|part| part.read.faults.iter().chain(&part.read.problems));
        Ok(Self {
            n_rows: train.read.rows.len(),
            n_bad_rows: parts().map(|part| part.read.n_bad_rows).sum(),
            problems: problems.map(ToString::to_string).collect(),
            notes: parts().flat_map(|part| part.read.notes.clone()).collect(),
            columns: train.read.columns.clone(),
            shape: train.read.shape,
            duplicates,
            overlap,
            tokens: TokenReport::of(train),
            held_out: held_out
                .map(|part| HeldOutReport { n_rows: part.read.rows.len(), tokens: TokenReport::of(part) }),
        })
    }
}

impl TokenReport {
    fn of(Part { read, encoded }: &Part) -> Option<Self> {
        (!encoded.is_empty()).then(|| Self::new(&read.rows, encoded))
    }

    fn new(rows: &[Row], encoded: &[Encoded]) -> Self {
        // The first token has nothing before it that could predict it, so its weight never counts.
        let n_targets = |e: &Encoded| e.loss_weights.iter().skip(1).filter(|&&w| w > 0.0).count();
        let places = |accept: &dyn Fn(&Encoded) -> bool| {
            let accepted = rows.iter().zip(encoded).filter(|(_, e)| accept(e));
            accepted.map(|(row, _)| row.place.clone()).collect()
        };
        let mut lengths: Vec<usize> = encoded.iter().map(|e| e.ids.len()).collect();
        lengths.sort_unstable();
        Self {
            n_tokens: lengths.iter().sum(),
            n_target_tokens: encoded.iter().map(n_targets).sum(),
            longest: lengths.last().copied().unwrap_or(0),
            median: lengths.get(lengths.len() / 2).copied().unwrap_or(0),
            lengths: histogram(&lengths),
            truncated: places(&|e| e.truncated),
            without_loss: places(&|e| n_targets(e) == 0),
        }
    }
}

/// Rows by the power of two above their length, without empty buckets at either end. `lengths` ascend.
fn histogram(lengths: &[usize]) -> Vec<LengthBucket> {
    let (Some(&shortest), Some(&longest)) = (lengths.first(), lengths.last()) else { return Vec::new() };
    let mut buckets = Vec::new();
    let mut up_to_tokens = shortest.next_power_of_two();
    let mut counted = 0;
    loop {
        let below = lengths.partition_point(|&l| l <= up_to_tokens);
        buckets.push(LengthBucket { up_to_tokens, n_rows: below - counted });
        counted = below;
        if up_to_tokens >= longest {
            return buckets;
        }
        up_to_tokens *= 2;
    }
}

/// SHA-256 of a row's content: equal for equal content, whatever file and line it stands in.
pub fn content_hash(content: &RowContent) -> [u8; 32] {
    let mut hash = Sha256::new();
    // Each part goes in with its length, so that no two contents run together to the same bytes.
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    match content {
        RowContent::Text(text) => {
            part("text");
            part(text);
        }
        RowContent::PromptCompletion { prompt, completion } => {
            part("prompt-completion");
            part(prompt);
            part(completion);
        }
        RowContent::Chat(messages) => {
            part("chat");
            for message in messages {
                part(&message.role);
                part(&message.content);
                part(&message.weight.to_string());
            }
        }
    }
    hash.finalize().into()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = self.shape.map_or(String::new(), |s| format!(" of shape {}", shapes::name(s)));
        writeln!(f, "{}{shape}, {} bad", rows(self.n_rows), self.n_bad_rows)?;
        // A problem that is not shown cannot be mended.
        list(f, "problems", &self.problems, usize::MAX)?;
        list(f, "notes", &self.notes, LISTED)?;
        list(f, "duplicates", &self.duplicates, LISTED)?;
        list(f, "held-out rows that are also trained on", &self.overlap, LISTED)?;
        if let Some(tokens) = &self.tokens {
            tokens.fmt(f)?;
        }
        let Some(HeldOutReport { n_rows, tokens }) = &self.held_out else { return Ok(()) };
        writeln!(f, "held out: {}", rows(*n_rows))?;
        tokens.as_ref().map_or(Ok(()), |tokens| tokens.fmt(f))
    }
}

impl fmt::Display for TokenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} tokens, {} with loss; median row {}, longest {}",
            self.n_tokens, self.n_target_tokens, self.median, self.longest
        )?;
        let most = self.lengths.iter().map(|b| b.n_rows).max().unwrap_or(0).max(1);
        for bucket in &self.lengths {
            let bar = "#".repeat((bucket.n_rows * BAR).div_ceil(most));
            let line = format!("  up to {:>6}  {:>8}  {bar}", bucket.up_to_tokens, bucket.n_rows);
            writeln!(f, "{}", line.trim_end())?;
        }
        list(f, "truncated", &self.truncated, LISTED)?;
        list(f, "without a token that carries loss", &self.without_loss, LISTED)
    }
}

impl fmt::Display for SameContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} repeats {}", self.again, self.first)
    }
}

/// "1 row", "2 rows"
fn rows(n: usize) -> String {
    if n == 1 { "1 row".into() } else { format!("{n} rows") }
}

/// A heading with a count, and the first items; nothing where there are none.
fn list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    items: &[T],
    n_listed: usize,
) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "{heading}: {}", items.len())?;
    for item in items.iter().take(n_listed) {
        writeln!(f, "  {item}")?;
    }
    match items.len().saturating_sub(n_listed) {
        0 => Ok(()),
        more => writeln!(f, "  … and {more} more"),
    }
}
