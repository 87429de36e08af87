//! Plain text. With a blank line between lines the file is a series of documents parted by blank lines, one row
//! each, line breaks kept; without one, every line is a row.

use super::records::Collector;
use crate::config::Shape;
use serde_json::{Map, Value};

/// Reads documents or lines, whichever the file holds, and notes which.
pub(super) fn read(bytes: &[u8], out: &mut Collector<'_>) {
    if !matches!(out.forced_shape(), Shape::Auto | Shape::Text) {
        return out.fault(
            "",
            "is plain text, which holds rows of shape text only",
            "shape text, or a format with fields",
        );
    }
    let lines: Vec<&[u8]> =
        bytes.split(|&b| b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)).collect();
    let is_blank = |line: &[u8]| line.trim_ascii().is_empty();
    let first = lines.iter().position(|l| !is_blank(l)).unwrap_or(lines.len());
    let last = lines.iter().rposition(|l| !is_blank(l)).map_or(first, |l| l + 1);
    let by_document = lines[first..last].iter().any(|l| is_blank(l));
    if last > first {
        let unit = if by_document { "document between blank lines" } else { "line" };
        out.note(format!("plain text: one row for each {unit}"));
    }

    let mut row: Vec<&[u8]> = Vec::new();
    let mut row_line = 0;
    for (index, &line) in lines[first..last].iter().enumerate() {
        if !is_blank(line) {
            if row.is_empty() {
                row_line = first + index + 1;
            }
            row.push(line);
        }
        let ends = !by_document || is_blank(line) || first + index + 1 == last;
        if ends && !row.is_empty() {
            deliver(&row, row_line, out);
            row.clear();
        }
    }
}

/// Lines that belong together as one row.
fn deliver(lines: &[&[u8]], first_line: usize, out: &mut Collector<'_>) {
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        match std::str::from_utf8(line) {
            Ok(line) => {
                text.push_str(if index == 0 { "" } else { "\n" });
                text.push_str(line);
            }
            Err(e) => {
                let at = format!("{}:{}", first_line + index, e.valid_up_to() + 1);
                let problem = format!("byte 0x{:02X} is not UTF-8", line[e.valid_up_to()]);
                return out.bad_row(at, problem, "text encoded as UTF-8");
            }
        }
    }
    out.record(first_line, &Map::from_iter([("text".to_string(), Value::String(text))]), &[]);
}
