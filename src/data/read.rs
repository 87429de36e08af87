//! A data file's bytes → rows: unpacks gzip, tells the format, and hands over to its reader.

use super::records::{Collector, RowsRead};
use super::{json, parquet, table, text};
use crate::config::{Columns, Shape};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// Most bytes a file may unpack to: bounds what a small gzip or Parquet file can claim, and keeps within the
/// 4 GiB a browser's memory can address.
pub const MAX_UNPACKED_BYTES: u64 = 2 << 30;

/// How a file holds its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `.jsonl`, `.ndjson`.
    JsonLines,
    /// A list of objects, or an object with one such list: `.json`.
    Json,
    /// Cells parted by commas, named by the first line: `.csv`.
    Csv,
    /// Cells parted by tabs, named by the first line: `.tsv`.
    Tsv,
    /// Columns: `.parquet`, or by its magic bytes.
    Parquet,
    /// Lines, or documents between blank lines: `.txt`, `.text`, `.md`.
    Text,
}

impl Format {
    /// By the magic bytes of Parquet, then by `name`'s ending (before `.gz`), then by a leading `{` or `[`.
    pub fn detect(name: &str, bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"PAR1") {
            return Some(Self::Parquet);
        }
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("jsonl" | "ndjson") => Some(Self::JsonLines),
            Some("json") => Some(Self::Json),
            Some("csv") => Some(Self::Csv),
            Some("tsv" | "tab") => Some(Self::Tsv),
            Some("parquet") => Some(Self::Parquet),
            Some("txt" | "text" | "md") => Some(Self::Text),
            _ => match bytes.trim_ascii_start().first() {
                Some(b'{' | b'[') => Some(Self::Json),
                _ => None,
            },
        }
    }
}

/// Reads the rows of one file. `name` tells the format and stands in messages; `shape` is [`Shape::Auto`] or
/// what the user insists on. Nothing is refused outright: every problem is in [`RowsRead::faults`] or
/// [`RowsRead::problems`], and reading goes on behind a bad row where the format permits.
pub fn read_rows(bytes: &[u8], name: &str, shape: Shape) -> RowsRead {
    read_columns(bytes, name, shape, None)
}

/// [`read_rows`], with a shape's fields read from the columns that `columns` names.
pub fn read_columns(bytes: &[u8], name: &str, shape: Shape, columns: Option<&Columns>) -> RowsRead {
    read_bounded(bytes, name, shape, columns, MAX_UNPACKED_BYTES)
}

/// The text of single lines, counted from 1, for showing what is wrong with them; none of a format without lines.
/// Bytes that are no UTF-8 are replaced.
pub fn raw_lines(bytes: &[u8], name: &str, wanted: &BTreeSet<usize>) -> BTreeMap<usize, String> {
    let mut out = Collector::new(name, Shape::Auto, None);
    let Some(bytes) = unpack(bytes, MAX_UNPACKED_BYTES, &mut out) else { return BTreeMap::new() };
    if Format::detect(name, &bytes) == Some(Format::Parquet) {
        return BTreeMap::new();
    }
    let lines = bytes.split(|&byte| byte == b'\n').enumerate().map(|(index, line)| (index + 1, line));
    let wanted = lines.filter(|(line, _)| wanted.contains(line));
    wanted.map(|(line, text)| (line, String::from_utf8_lossy(text).trim_end().to_owned())).collect()
}

fn read_bounded(
    bytes: &[u8],
    name: &str,
    shape: Shape,
    columns: Option<&Columns>,
    max_bytes: u64,
) -> RowsRead {
    let mut out = Collector::new(name, shape, columns);
    if let Some(bytes) = unpack(bytes, max_bytes, &mut out) {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
        read_format(bytes, name, max_bytes, &mut out);
    }
    out.finish()
}

fn read_format(bytes: &[u8], name: &str, max_bytes: u64, out: &mut Collector<'_>) {
    if bytes.is_empty() {
        return out.fault("", "is empty", "at least one row");
    }
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return out.fault(":1", "is encoded as UTF-16", "text encoded as UTF-8");
    }
    match Format::detect(name, bytes) {
        Some(Format::JsonLines) => json::read_lines(bytes, out),
        Some(Format::Json) => json::read_document(bytes, out),
        Some(Format::Csv) => table::read(bytes, b',', out),
        Some(Format::Tsv) => table::read(bytes, b'\t', out),
        Some(Format::Parquet) => parquet::read(bytes, max_bytes, out),
        Some(Format::Text) => text::read(bytes, out),
        None => out.fault(
            "",
            "has no format that can be told",
            "a name ending in .jsonl, .json, .csv, .tsv, .parquet or .txt, or that with .gz",
        ),
    }
}

/// The bytes themselves, or what they unpack to if they are gzip; `None`, and a report, where that fails.
fn unpack<'b>(bytes: &'b [u8], max_bytes: u64, out: &mut Collector<'_>) -> Option<Cow<'b, [u8]>> {
    if !bytes.starts_with(b"\x1F\x8B") {
        return Some(Cow::Borrowed(bytes));
    }
    let mut unpacked = Vec::new();
    let mut stream = flate2::read::MultiGzDecoder::new(bytes).take(max_bytes.saturating_add(1));
    if let Err(e) = stream.read_to_end(&mut unpacked) {
        out.fault("", format!("is broken gzip: {e}"), "a whole gzip file");
        return None;
    }
    if unpacked.len() as u64 > max_bytes {
        out.fault("", format!("unpacks to more than {max_bytes} bytes"), "less: a sample of its rows");
        return None;
    }
    Some(Cow::Owned(unpacked))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    #[test]
    fn a_gzip_bomb_is_refused_before_it_unfolds() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&[b' '; 100_000]).unwrap();
        let gzip = gzip.finish().unwrap();
        let read = read_bounded(&gzip, "bomb.jsonl.gz", Shape::Auto, None, 1000);
        let fault = read.faults[0].to_string();
        assert_eq!(
            fault,
            "bomb.jsonl.gz: unpacks to more than 1000 bytes; expected less: a sample of its rows"
        );
    }

    #[test]
    fn parquet_that_unpacks_to_too_much_is_refused() {
        let bytes = include_bytes!("../../tests/fixtures/data/chat.parquet");
        let read = read_bounded(bytes, "chat.parquet", Shape::Auto, None, 10);
        assert!(read.rows.is_empty());
        assert!(read.faults[0].to_string().contains("its columns unpack to"), "{:?}", read.faults);
    }
}
