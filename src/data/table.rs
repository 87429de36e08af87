//! CSV and TSV with a header line, after RFC 4180: cells may be quoted, a quote inside is doubled, quoted
//! cells may span lines.
//!
//! Lenient parsers take a torn quote for the start of a cell that swallows the following rows in silence. Here
//! it is an error of the line it stands in, and reading goes on with the next line. A quote inside an
//! unquoted cell (`5" disk`) is an ordinary character.

use super::records::{Collector, SEEN_VALUES};
use super::shapes;
use crate::config::Shape;
use crate::store::shortened;
use serde_json::{Map, Value};

/// Reads a table whose cells are parted by `delimiter`: `,` or a tab.
pub(super) fn read(bytes: &[u8], delimiter: u8, out: &mut Collector<'_>) {
    if bytes.contains(&b'\r') && !bytes.contains(&b'\n') {
        // Otherwise the whole file would be a header.
        return out.fault("", "its lines end in CR alone, as on old Macs", "lines that end in LF or CRLF");
    }
    let mut parser = Parser { bytes, pos: 0, line: 1, delimiter };
    let Some(header) = parser.next() else { return };
    let line = header.line;
    let Some(columns) = names(header, out) else { return };
    columns.iter().for_each(|name| out.see_column(name));
    if !fits(&columns, line, out) {
        let as_text = |cell: &Vec<u8>| Value::String(String::from_utf8_lossy(cell).into_owned());
        for cells in parser.filter_map(|record| record.cells.ok()).take(SEEN_VALUES) {
            out.see(&columns.iter().cloned().zip(cells.iter().map(as_text)).collect());
        }
        return;
    }
    for record in parser {
        let cells = match record.cells {
            Ok(cells) => cells,
            Err(fault) => {
                let at = format!("{}: column {}", fault.line, fault.column);
                out.bad_row(at, fault.problem, "`\"` around the whole cell, and `\"\"` for a quote inside");
                continue;
            }
        };
        if cells.len() != columns.len() {
            let found = if cells.len() == 1 { "1 cell".into() } else { format!("{} cells", cells.len()) };
            out.bad_row(record.line, format!("has {found}"), format!("{} as in the header", columns.len()));
            continue;
        }
        if let Some(fields) = fields(&columns, cells, record.line, out) {
            out.record(record.line, &fields, &columns);
        }
    }
}

/// The header's names.
fn names(header: Record, out: &mut Collector<'_>) -> Option<Vec<String>> {
    let at = format!(":{}", header.line);
    let cells = match header.cells {
        Ok(cells) => cells,
        Err(fault) => {
            out.fault(
                &at,
                format!("column {} of the header: {}", fault.column, fault.problem),
                "closed quotes",
            );
            return None;
        }
    };
    let mut columns = Vec::with_capacity(cells.len());
    for (index, cell) in cells.into_iter().enumerate() {
        match String::from_utf8(cell) {
            Ok(name) if columns.contains(&name) && !name.is_empty() => {
                out.fault(
                    &at,
                    format!("column `{}` appears twice", shortened(&name)),
                    "a name for each column",
                );
                return None;
            }
            Ok(name) => columns.push(name),
            Err(_) => {
                out.fault(
                    &at,
                    format!("the name of column {} is not UTF-8", index + 1),
                    "text encoded as UTF-8",
                );
                return None;
            }
        }
    }
    Some(columns)
}

/// Whether rows under this header can be right; reports one in which none could, once instead of in every row.
fn fits(columns: &[String], line: usize, out: &mut Collector<'_>) -> bool {
    let at = format!(":{line}");
    let as_record: Map<String, Value> = columns.iter().map(|c| (c.clone(), Value::Bool(true))).collect();
    let found = shapes::list_fields(columns.iter()).replace("fields", "columns");
    match out.forced_shape() {
        Shape::Auto if shapes::recognise(&out.mapping().apply(&as_record)).is_none() => {
            out.fault(&at, found, shapes::EXPECTED_FIELDS);
            false
        }
        shape => {
            let mut needed =
                shapes::fields(shape).0.iter().map(|field| out.mapping().column(field).to_owned());
            let Some(name) = needed.find(|name| !as_record.contains_key(name)) else { return true };
            out.fault(&at, format!("has no column `{name}`; it {found}"), format!("a column `{name}`"));
            false
        }
    }
}

/// A row's cells by name; `None`, and a report, where one is not UTF-8.
fn fields(
    columns: &[String],
    cells: Vec<Vec<u8>>,
    line: usize,
    out: &mut Collector<'_>,
) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    for (index, (name, cell)) in columns.iter().zip(cells).enumerate() {
        match String::from_utf8(cell) {
            Ok(text) => _ = fields.insert(name.clone(), Value::String(text)),
            Err(e) => {
                let byte = e.as_bytes()[e.utf8_error().valid_up_to()];
                let at = format!("{line}: column {} ({})", index + 1, shortened(name));
                out.bad_row(at, format!("byte 0x{byte:02X} is not UTF-8"), "text encoded as UTF-8");
                return None;
            }
        }
    }
    Some(fields)
}

/// One record: the line it starts in and its cells.
struct Record {
    line: usize,
    cells: Result<Vec<Vec<u8>>, QuoteFault>,
}

/// A quote that is not closed as it should be, placed where it opens.
struct QuoteFault {
    line: usize,
    column: usize,
    problem: &'static str,
}

struct Parser<'a> {
    bytes: &'a [u8],
    pos: usize,
    line: usize,
    delimiter: u8,
}

impl Iterator for Parser<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while matches!(self.peek(), Some(b'\n' | b'\r')) {
            self.step();
        }
        self.peek()?;
        let line = self.line;
        let mut cells = Vec::new();
        loop {
            match self.cell(cells.len() + 1) {
                Ok(cell) => cells.push(cell),
                Err(fault) => return Some(Record { line, cells: Err(fault) }),
            }
            if self.peek() == Some(self.delimiter) {
                self.step();
            } else {
                return Some(Record { line, cells: Ok(cells) });
            }
        }
    }
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    fn step(&mut self) {
        self.line += usize::from(self.peek() == Some(b'\n'));
        self.pos += 1;
    }

    /// Whether the cell is over: delimiter, end of line, end of file.
    fn at_end(&self) -> bool {
        match self.peek() {
            None | Some(b'\n') => true,
            Some(b'\r') => matches!(self.bytes.get(self.pos + 1), None | Some(b'\n')),
            Some(byte) => byte == self.delimiter,
        }
    }

    /// Reads a cell and stops at what ends it. After a fault the parser stands at the line below the one in
    /// which the cell opened.
    fn cell(&mut self, column: usize) -> Result<Vec<u8>, QuoteFault> {
        if self.peek() != Some(b'"') {
            let start = self.pos;
            while !self.at_end() {
                self.step();
            }
            return Ok(self.bytes[start..self.pos].to_vec());
        }
        let opened = (self.pos, self.line);
        self.step();
        let mut cell = Vec::new();
        let problem = loop {
            match self.peek() {
                None => break "a quote is opened and never closed",
                Some(b'"') if self.bytes.get(self.pos + 1) == Some(&b'"') => {
                    cell.push(b'"');
                    self.pos += 2;
                }
                Some(b'"') => {
                    self.step();
                    if self.at_end() {
                        return Ok(cell);
                    }
                    break "there is text after the closing quote";
                }
                Some(byte) => {
                    cell.push(byte);
                    self.step();
                }
            }
        };
        (self.pos, self.line) = opened;
        while !matches!(self.peek(), None | Some(b'\n')) {
            self.step();
        }
        Err(QuoteFault { line: opened.1, column, problem })
    }
}
