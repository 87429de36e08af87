//! Where every reader delivers its records: shapes are applied, problems placed and collected.

use super::mapping::Mapping;
use super::shapes::{self, FieldProblem};
use super::{Place, Row};
use crate::config::{Columns, Shape};
use crate::protocol::Column;
use crate::store::shortened;
use crate::{Error, Result};
use indexmap::IndexMap;
use serde_json::{Map, Value};

/// How many fields a message names before it only counts.
pub(super) const LISTED_FIELDS: usize = 20;

/// Columns, records and values of a column that are noted, and letters of a value: something to choose from.
const SEEN_COLUMNS: usize = 100;
const SEEN_RECORDS: usize = 20;
pub(super) const SEEN_VALUES: usize = 3;
const SEEN_LETTERS: usize = 80;

/// A data file after reading: usable rows, and everything that was wrong with the others.
#[derive(Debug, Default)]
pub struct RowsRead {
    /// Usable rows in file order.
    pub rows: Vec<Row>,
    /// What is wrong with the file as a whole. Rows may be missing because of it, so no setting passes over it.
    pub faults: Vec<Error>,
    /// What is wrong with single rows, in file order; a row with several bad fields has several.
    pub problems: Vec<Error>,
    /// Rows left out because of their problems.
    pub n_bad_rows: usize,
    /// Shape of the rows: the one asked for, or that of the first row recognised.
    pub shape: Option<Shape>,
    /// Remarks that stop nothing, such as fields that are not used.
    pub notes: Vec<String>,
    /// The file's own fields or columns, with their first values.
    pub columns: Vec<Column>,
}

impl RowsRead {
    /// The rows, or everything that is wrong at once if there is anything.
    pub fn strict(self) -> Result<Vec<Row>> {
        Error::all(self.faults.into_iter().chain(self.problems).collect())?;
        Ok(self.rows)
    }
}

/// Turns records into rows of one shape and keeps the problems.
pub(super) struct Collector<'a> {
    file: &'a str,
    forced: Shape,
    /// Shape in force and the line that set it.
    shape: Option<(Shape, usize)>,
    /// Unused field → line of its first appearance.
    unused: IndexMap<String, usize>,
    mapping: Mapping,
    /// Column → its first values.
    seen: IndexMap<String, Vec<String>>,
    n_seen: usize,
    read: RowsRead,
}

impl<'a> Collector<'a> {
    /// `file` as messages should name it; `shape` and `columns` as the user asked for them.
    pub fn new(file: &'a str, shape: Shape, columns: Option<&Columns>) -> Self {
        let mapping = Mapping::new(columns);
        let forced = if shape == Shape::Auto { mapping.shape().unwrap_or(shape) } else { shape };
        let (unused, seen) = (IndexMap::new(), IndexMap::new());
        Self { file, forced, shape: None, unused, mapping, seen, n_seen: 0, read: RowsRead::default() }
    }

    /// The names that fields have in this file.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Notes that the file has this column.
    pub fn see_column(&mut self, name: &str) {
        if self.seen.len() < SEEN_COLUMNS && !self.seen.contains_key(name) {
            self.seen.insert(name.to_owned(), Vec::new());
        }
    }

    /// Notes a record's columns and values, as long as there are few.
    pub fn see(&mut self, fields: &Map<String, Value>) {
        for (name, value) in fields {
            self.see_column(name);
            let Some(values) = self.seen.get_mut(name).filter(|values| values.len() < SEEN_VALUES) else {
                continue;
            };
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            values.push(text.chars().take(SEEN_LETTERS).collect());
        }
    }

    /// The shape the user asked for, or that the columns they named make.
    pub fn forced_shape(&self) -> Shape {
        self.forced
    }

    /// Faults and problems so far.
    pub fn n_problems(&self) -> usize {
        self.read.faults.len() + self.read.problems.len()
    }

    /// A problem of the file as a whole. `at` follows the file's name: empty, or `:3`.
    pub fn fault(&mut self, at: &str, problem: impl Into<String>, expected: impl Into<String>) {
        let fault = self.error(at, problem.into(), expected.into());
        self.read.faults.push(fault);
    }

    fn problem(&mut self, at: &str, problem: impl Into<String>, expected: impl Into<String>) {
        let problem = self.error(at, problem.into(), expected.into());
        self.read.problems.push(problem);
    }

    /// Names of fields and columns come from the file: they must not drive the terminal that shows the message.
    fn error(&self, at: &str, problem: String, expected: String) -> Error {
        Error::input(format!("{}{}", self.file, printable(at)), printable(&problem), printable(&expected))
    }

    /// A record that could not even be split into fields. `at` is the line, or `line:column`.
    pub fn bad_row(
        &mut self,
        at: impl std::fmt::Display,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.read.n_bad_rows += 1;
        self.problem(&format!(":{at}"), problem, expected);
    }

    /// A remark for the report.
    pub fn note(&mut self, note: String) {
        self.read.notes.push(format!("{}: {}", self.file, printable(&note)));
    }

    /// A record of named fields. `columns` are a table's column names, empty where the format has none.
    pub fn record(&mut self, line: usize, fields: &Map<String, Value>, columns: &[String]) {
        if self.n_seen < SEEN_RECORDS {
            self.n_seen += 1;
            self.see(fields);
        }
        let named = self.mapping.apply(fields);
        let Some(shape) = self.shape_of(line, &named) else { return };
        let parsed = shapes::parse(&named, shape);
        for field in parsed.unused {
            self.unused.entry(field).or_insert(line);
        }
        match parsed.content {
            Ok(content) => {
                let place = Place { file: self.file.to_string(), line };
                self.read.rows.push(Row { place, content });
            }
            Err(problems) => {
                self.read.n_bad_rows += 1;
                for FieldProblem { path, problem, expected } in problems {
                    let at = locate(line, &self.mapping.path(&path), columns);
                    self.problem(&at, self.mapping.words(&problem), self.mapping.words(&expected));
                }
            }
        }
    }

    /// The shape to read a record in; reports the record and returns `None` where there is none.
    fn shape_of(&mut self, line: usize, fields: &Map<String, Value>) -> Option<Shape> {
        if self.forced != Shape::Auto {
            self.shape = Some((self.forced, line));
            return Some(self.forced);
        }
        match (shapes::recognise(fields), self.shape) {
            (Some(shape), None) => {
                self.shape = Some((shape, line));
                Some(shape)
            }
            (Some(shape), Some((first, _))) if shape == first => Some(shape),
            (Some(shape), Some((first, first_line))) => {
                self.bad_row(
                    line,
                    format!("is a row of shape {}", shapes::name(shape)),
                    format!("{} as in line {first_line}, one shape a file", shapes::name(first)),
                );
                None
            }
            (None, _) => {
                self.bad_row(line, shapes::list_fields(fields.keys()), shapes::EXPECTED_FIELDS);
                None
            }
        }
    }

    /// Everything delivered. A file that gave neither a row nor a problem is itself a problem.
    pub fn finish(mut self) -> RowsRead {
        if self.read.rows.is_empty() && self.n_problems() == 0 {
            self.fault("", "holds no rows", "at least one row");
        }
        // Rows whose keys are data have a field of their own each.
        let n_more = self.unused.len().saturating_sub(LISTED_FIELDS);
        for (field, line) in std::mem::take(&mut self.unused).into_iter().take(LISTED_FIELDS) {
            self.note(format!("field `{}` is not used (first in line {line})", shortened(&field)));
        }
        if n_more > 0 {
            self.note(format!("{n_more} more fields are not used"));
        }
        self.read.shape = self.shape.map(|(shape, _)| shape);
        let columns = self.seen.into_iter().map(|(name, values)| Column { name, values });
        self.read.columns = columns.collect();
        self.read
    }
}

/// Control characters spelt out.
fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, letter| {
        if letter.is_control() {
            safe.extend(letter.escape_debug());
        } else {
            safe.push(letter);
        }
        safe
    })
}

/// `:3` for the row, `:3: messages[2].role` for a field, `:3: column 2 (text)` for a table's cell.
fn locate(line: usize, path: &str, columns: &[String]) -> String {
    let top = path.split(['.', '[']).next().unwrap_or(path);
    match columns.iter().position(|c| c == top) {
        _ if path.is_empty() => format!(":{line}"),
        Some(column) => format!(":{line}: column {} ({path})", column + 1),
        None => format!(":{line}: {path}"),
    }
}
