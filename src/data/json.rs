//! JSON Lines, and JSON documents: a list of rows, or an object with one such list.

use super::records::Collector;
use super::shapes::{self, kind};
use crate::config::Shape;
use serde_json::Value;
use std::ops::Range;

/// One JSON object a line; blank lines are skipped. A bad line does not stop the next.
pub(super) fn read_lines(bytes: &[u8], out: &mut Collector<'_>) {
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
        if !line.trim_ascii().is_empty() {
            record(line, index + 1, out);
        }
    }
}

/// A JSON document: a list of objects, an object with one list of objects, one row, or JSON Lines under
/// another name.
pub(super) fn read_document(bytes: &[u8], out: &mut Collector<'_>) {
    let mut scanner = Scanner::new(bytes);
    scanner.skip_blanks();
    match scanner.peek() {
        None => {}
        Some(b'[') => {
            read_list(&mut scanner, out);
            scanner.skip_blanks();
            if scanner.peek().is_some() {
                let line = scanner.line();
                out.fault(
                    &format!(":{line}"),
                    "there is text after the end of the list",
                    "the end of the file",
                );
            }
        }
        Some(b'{') => read_object(bytes, scanner, out),
        Some(_) => {
            let line = scanner.line();
            out.fault(&format!(":{line}"), "is no JSON list or object", "`[` or `{`");
        }
    }
}

/// The document starts with `{`: several objects in a row are JSON Lines; a single one is a row if its
/// fields say so, else the wrapper of a list.
fn read_object(bytes: &[u8], mut scanner: Scanner<'_>, out: &mut Collector<'_>) {
    let mut start = scanner.clone();
    let range = scanner.value();
    if scanner.peek().is_some() {
        return read_lines(bytes, out);
    }
    let line = start.line();
    let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(&bytes[range.clone()]) else {
        if is_lines(bytes) {
            return read_lines(bytes, out);
        }
        // Look for the broken row inside; where each is fine, or there is none, the object itself is at fault.
        let n_problems = out.n_problems();
        if !read_member_list(start, None, out) || out.n_problems() == n_problems {
            record(&bytes[range], line, out);
        }
        return;
    };
    let is_row = match out.forced_shape() {
        Shape::Auto => shapes::recognise(&out.mapping().apply(&object)).is_some(),
        shape => shapes::fields(shape).0.iter().all(|&f| object.contains_key(out.mapping().column(f))),
    };
    if is_row {
        return out.record(line, &object, &[]);
    }
    let lists: Vec<_> = object.iter().filter(|(_, v)| v.is_array()).map(|(k, _)| k).collect();
    let at = format!(":{line}");
    match lists[..] {
        [list] => _ = read_member_list(start, Some(list), out),
        [] => out.fault(&at, shapes::list_fields(object.keys()), "a row, or one field with the list of rows"),
        _ => out.fault(
            &at,
            format!("has {} lists: {}", lists.len(), shapes::list(lists.into_iter())),
            "one list of rows a file",
        ),
    }
}

/// Whether there are several lines and each that is not blank opens an object: JSON Lines, even if one is torn.
fn is_lines(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty());
    let opens_object = |l: &[u8]| l.starts_with(b"{");
    lines.next().is_some_and(opens_object)
        && lines.next().is_some_and(opens_object)
        && lines.all(opens_object)
}

/// Reads the member named `list`, or the first list there is, of the object the scanner stands on; tells
/// whether it was found.
fn read_member_list(mut scanner: Scanner<'_>, list: Option<&str>, out: &mut Collector<'_>) -> bool {
    scanner.pos += 1; // `{`
    loop {
        scanner.skip_blanks();
        let key = scanner.string();
        scanner.skip_blanks();
        if key.is_empty() || scanner.peek() != Some(b':') {
            return false;
        }
        scanner.pos += 1;
        scanner.skip_blanks();
        let name = serde_json::from_slice::<String>(&scanner.bytes[key]).unwrap_or_default();
        if scanner.peek() == Some(b'[') && list.is_none_or(|l| l == name) {
            read_list(&mut scanner, out);
            return true;
        }
        scanner.value();
        if scanner.peek() == Some(b',') {
            scanner.pos += 1;
        }
    }
}

/// The scanner stands on `[`; afterwards behind the matching `]`.
fn read_list(scanner: &mut Scanner<'_>, out: &mut Collector<'_>) {
    let opened = scanner.line();
    scanner.pos += 1;
    loop {
        scanner.skip_blanks();
        if scanner.peek() == Some(b']') {
            scanner.pos += 1;
            return;
        }
        let line = scanner.line();
        let range = scanner.value();
        if range.is_empty() && scanner.peek().is_some() {
            out.bad_row(line, "nothing where a row should be", "a JSON object");
        } else if !range.is_empty() {
            record(&scanner.bytes[range], line, out);
        }
        match scanner.peek() {
            Some(b',') => scanner.pos += 1,
            Some(b']') => {}
            Some(b'}') => {
                let line = scanner.line();
                scanner.pos = scanner.bytes.len();
                return out.fault(&format!(":{line}"), "`}` without its `{`", "`,` or `]` after a row");
            }
            Some(_) => {
                let line = scanner.line();
                out.fault(&format!(":{line}"), "two rows with nothing between them", "`,` between rows");
            }
            None => {
                return out.fault(
                    &format!(":{opened}"),
                    "the list is not closed",
                    "`]` at the end of the rows",
                );
            }
        }
    }
}

/// One record as text, starting in `line`.
fn record(text: &[u8], line: usize, out: &mut Collector<'_>) {
    if let Err(e) = std::str::from_utf8(text) {
        let (down, column) = position(text, e.valid_up_to());
        return out.bad_row(
            format_args!("{}:{column}", line + down),
            format!("byte 0x{:02X} is not UTF-8", text[e.valid_up_to()]),
            "text encoded as UTF-8",
        );
    }
    match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(fields)) => out.record(line, &fields, &[]),
        Ok(other) => out.bad_row(line, format!("is {}", kind(&other)), "a JSON object"),
        Err(e) => {
            let at = format!("{}:{}", line + e.line().max(1) - 1, e.column());
            let problem = e.to_string();
            let problem = problem.split(" at line ").next().unwrap_or_default();
            out.bad_row(at, format!("broken JSON: {problem}"), "one whole JSON object");
        }
    }
}

/// Lines below the first, and the column counted from 1 in bytes, of `offset`.
fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |p| p + 1);
    (before.iter().filter(|&&b| b == b'\n').count(), offset - line_start + 1)
}

/// Finds where values begin and end without parsing them, so that one broken row does not hide the others
/// and each row knows its line. Works without recursion: depth costs no stack.
#[derive(Clone)]
struct Scanner<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// Where lines were last counted, and the number of the line there.
    counted: (usize, usize),
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0, counted: (0, 1) }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.pos += 1;
        }
    }

    /// Steps over a string, quotes included; an empty range where none starts.
    fn string(&mut self) -> Range<usize> {
        let start = self.pos;
        if self.peek() == Some(b'"') {
            self.pos += 1;
            while let Some(byte) = self.peek() {
                self.pos += if byte == b'\\' { 2 } else { 1 };
                if byte == b'"' {
                    break;
                }
            }
            self.pos = self.pos.min(self.bytes.len());
        }
        start..self.pos
    }

    /// Steps over a value, and blanks, up to what follows: `,` `]` `}` where all is well.
    fn value(&mut self) -> Range<usize> {
        let start = self.pos;
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.string();
                    continue;
                }
                b'[' | b'{' => depth += 1,
                b',' | b']' | b'}' if depth == 0 => break,
                b']' | b'}' => {
                    depth -= 1;
                    if depth == 0 {
                        self.pos += 1;
                        break;
                    }
                }
                _ => {}
            }
            self.pos += 1;
        }
        let end = self.pos;
        self.skip_blanks();
        start..end
    }

    /// The line the scanner stands in, from 1.
    fn line(&mut self) -> usize {
        let (from, line) = self.counted;
        let line = line + self.bytes[from..self.pos].iter().filter(|&&b| b == b'\n').count();
        self.counted = (self.pos, line);
        line
    }
}
