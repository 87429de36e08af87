//! Parquet, by the `parquet` crate's column readers, which need no Arrow. Only the columns a shape may use are
//! decoded, and their types are checked before the first value is read.

use super::columns::{CellProblem, Rows};
use super::pages::{Budget, caught, is_too_much};
use super::records::{Collector, SEEN_VALUES};
use super::shapes;
use crate::config::Shape;
use ::parquet::basic::{ConvertedType, Repetition, Type as PhysicalType};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::Type;
use bytes::Bytes;
use serde_json::{Map, Value};

/// Nesting of lists and groups in a column that still makes sense for text rows.
const MAX_DEPTH: usize = 8;

/// Reads a whole Parquet file; a row's line is its number, from 1. The file is copied once in memory, since the
/// reader keeps what it reads from. `max_bytes` bounds what the columns may unpack to.
pub(super) fn read(bytes: &[u8], max_bytes: u64, out: &mut Collector<'_>) {
    let file = match caught(|| SerializedFileReader::new(Bytes::copy_from_slice(bytes))) {
        Ok(file) => file,
        Err(e) => return out.fault("", format!("is broken Parquet: {}", words(&e)), "a whole Parquet file"),
    };
    let Some(used) = used_columns(&file, out) else { return };
    let too_much = |out: &mut Collector<'_>| {
        let problem = format!("its columns unpack to more than {max_bytes} bytes");
        out.fault("", problem, "less; split the file");
    };
    if unpacked_bytes(&file, &used) > max_bytes {
        return too_much(out);
    }
    let mut budget = Budget::new(max_bytes);
    let mut line = 0;
    for group in 0..file.num_row_groups() {
        let rows = match caught(|| file.get_row_group(group))
            .and_then(|g| Rows::new(&*g, &used, bytes.len() as u64, &mut budget))
        {
            Ok(rows) => rows,
            Err(e) if is_too_much(&e) => return too_much(out),
            Err(e) => {
                let problem = format!("broken Parquet, not read from here on: {}", words(&e));
                return out.fault(&format!(":{}", line + 1), problem, "readable pages");
            }
        };
        for row in rows {
            line += 1;
            match row {
                Ok(fields) => out.record(line, &fields, &[]),
                Err(CellProblem::NotUtf8) => out.bad_row(line, "text is not UTF-8", "text encoded as UTF-8"),
                Err(CellProblem::LevelsDisagree) => {
                    let problem = "broken Parquet, not read from here on: its columns differ in length";
                    return out.bad_row(line, problem, "a value for each row in each column");
                }
            }
        }
    }
}

/// The columns a shape may use; reports those that are missing or of a type that no row can have.
fn used_columns<'f>(file: &'f SerializedFileReader<Bytes>, out: &mut Collector<'_>) -> Option<Vec<&'f Type>> {
    let schema = file.metadata().file_metadata().schema();
    let own: Map<String, Value> =
        schema.get_fields().iter().map(|f| (f.name().to_string(), Value::Bool(true))).collect();
    let names = out.mapping().apply(&own).into_owned();
    let shape = match out.forced_shape() {
        Shape::Auto => shapes::recognise(&names),
        shape => Some(shape).filter(|&s| shapes::fields(s).0.iter().all(|&f| names.contains_key(f))),
    };
    let Some(shape) = shape else {
        let found = shapes::list_fields(own.keys()).replace("fields", "columns");
        let expected = match out.forced_shape() {
            Shape::Auto => shapes::EXPECTED_FIELDS.to_string(),
            shape => {
                let columns = shapes::fields(shape).0.iter().map(|field| out.mapping().column(field));
                format!("the columns {}", columns.collect::<Vec<_>>().join(", "))
            }
        };
        see_first_rows(file, out);
        out.fault("", found, expected);
        return None;
    };
    let (required, optional) = shapes::fields(shape);
    let (used, unused): (Vec<_>, Vec<_>) =
        schema.get_fields().iter().map(|f| &**f).partition(|f| {
            required.iter().chain(optional).any(|field| out.mapping().column(field) == f.name())
        });
    for field in unused {
        out.see_column(field.name());
        out.note(format!("column `{}` is not used", field.name()));
    }
    let n_problems = out.n_problems();
    for field in &used {
        if let Err(problem) = readable(field, 0) {
            out.fault(
                &format!(": column `{}`", field.name()),
                problem,
                "strings, numbers, and lists and groups of them",
            );
        }
    }
    (out.n_problems() == n_problems).then_some(used)
}

/// Notes the columns and, where they can be read at little cost, their first values: something to choose from.
fn see_first_rows(file: &SerializedFileReader<Bytes>, out: &mut Collector<'_>) {
    const MAX_BYTES: u64 = 64 << 20;
    let fields = file.metadata().file_metadata().schema().get_fields();
    fields.iter().for_each(|field| out.see_column(field.name()));
    let used: Vec<&Type> = fields.iter().map(|f| &**f).filter(|f| readable(f, 0).is_ok()).collect();
    if file.num_row_groups() == 0 || unpacked_bytes(file, &used) > MAX_BYTES {
        return;
    }
    let mut budget = Budget::new(MAX_BYTES);
    let rows = caught(|| file.get_row_group(0)).and_then(|g| Rows::new(&*g, &used, MAX_BYTES, &mut budget));
    for fields in rows.into_iter().flatten().take(SEEN_VALUES).flatten() {
        out.see(&fields);
    }
}

/// Whether [`Rows`] can read this type.
fn readable(field: &Type, depth: usize) -> Result<(), String> {
    let info = field.get_basic_info();
    if depth > MAX_DEPTH {
        return Err(format!("is nested more than {MAX_DEPTH} deep"));
    }
    if !info.has_repetition() {
        return Err("does not say whether it is optional".into());
    }
    use ConvertedType as C;
    if field.is_primitive() {
        let known = match field.get_physical_type() {
            PhysicalType::BOOLEAN | PhysicalType::FLOAT | PhysicalType::DOUBLE => true,
            PhysicalType::INT32 => matches!(
                info.converted_type(),
                C::NONE | C::INT_8 | C::INT_16 | C::INT_32 | C::UINT_8 | C::UINT_16
            ),
            PhysicalType::INT64 => matches!(info.converted_type(), C::NONE | C::INT_64),
            PhysicalType::BYTE_ARRAY => {
                matches!(info.converted_type(), C::NONE | C::UTF8 | C::ENUM | C::JSON)
            }
            PhysicalType::INT96 | PhysicalType::FIXED_LEN_BYTE_ARRAY => false,
        };
        return if known {
            Ok(())
        } else {
            Err(format!("holds {} ({})", field.get_physical_type(), info.converted_type()))
        };
    }
    let children = field.get_fields();
    match info.converted_type() {
        C::LIST => {
            let [element] = children else { return Err("is a list without one kind of element".into()) };
            let element_info = element.get_basic_info();
            if !element_info.has_repetition() || element_info.repetition() != Repetition::REPEATED {
                return Err("is a list whose elements do not repeat".into());
            }
            if element.is_primitive() {
                return readable(element, depth + 1);
            }
            children_readable(element.get_fields(), depth + 2)
        }
        C::NONE if info.repetition() != Repetition::REPEATED => children_readable(children, depth + 1),
        other => Err(format!("is a group of kind {other}")),
    }
}

fn children_readable(children: &[::parquet::schema::types::TypePtr], depth: usize) -> Result<(), String> {
    if children.is_empty() {
        return Err("holds a group without fields".into());
    }
    children.iter().try_for_each(|child| match child.get_basic_info() {
        info if info.has_repetition() && info.repetition() == Repetition::REPEATED => {
            Err("holds a repeated field outside a list".into())
        }
        _ => readable(child, depth),
    })
}

/// What the columns' pages say they take once uncompressed: the least that they unpack to, for entries of a
/// dictionary stand there once.
fn unpacked_bytes(file: &SerializedFileReader<Bytes>, used: &[&Type]) -> u64 {
    let is_used = |name: &str| used.iter().any(|f| f.name() == name);
    let groups = file.metadata().row_groups().iter();
    groups
        .flat_map(|g| g.columns())
        .filter(|c| c.column_path().parts().first().is_some_and(|p| is_used(p)))
        .fold(0, |sum, c| sum.saturating_add(c.uncompressed_size().max(0).unsigned_abs()))
}

/// The library's message without its prefix.
fn words(error: &::parquet::errors::ParquetError) -> String {
    let text = error.to_string();
    text.trim_start_matches("Parquet error: ").to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::RowsRead;
    use ::parquet::data_type::{ByteArray, ByteArrayType};
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    /// A file of one column in row groups; a cell is its text and its levels.
    fn file(schema: &str, groups: &[Vec<(&str, i16, i16)>]) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
        for cells in groups {
            let mut group = writer.next_row_group().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let values: Vec<ByteArray> = cells.iter().map(|&(text, _, _)| text.into()).collect();
            let (defs, reps): (Vec<i16>, Vec<i16>) = cells.iter().map(|&(_, def, rep)| (def, rep)).unzip();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&defs), Some(&reps)).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.into_inner().unwrap()
    }

    fn read_within(bytes: &[u8], shape: Shape, max_bytes: u64) -> RowsRead {
        let mut out = Collector::new("x.parquet", shape, None);
        read(bytes, max_bytes, &mut out);
        out.finish()
    }

    const FLAT: &str = "message rows { required binary text (UTF8); }";
    const TOO_MUCH: &str =
        "x.parquet: its columns unpack to more than 1000000 bytes; expected less; split the file";

    #[test]
    fn an_entry_of_a_dictionary_repeated_counts_as_often_as_it_stands() {
        let text = "x".repeat(1000);
        let bytes = file(FLAT, &[vec![(text.as_str(), 0, 0); 3000]]);
        assert!(bytes.len() < 10_000, "the file is small: {}", bytes.len());
        let refused = read_within(&bytes, Shape::Text, 1_000_000);
        assert_eq!(refused.faults.iter().map(ToString::to_string).collect::<Vec<_>>(), [TOO_MUCH]);
        let whole = read_within(&bytes, Shape::Text, 4_000_000);
        assert_eq!((whole.rows.len(), whole.faults.len()), (3000, 0), "rows beyond one portion are read");
    }

    #[test]
    fn row_groups_share_one_budget() {
        let text = "x".repeat(1000);
        let bytes = file(FLAT, &vec![vec![(text.as_str(), 0, 0); 600]; 2]);
        let read = read_within(&bytes, Shape::Text, 1_000_000);
        assert_eq!(read.faults[0].to_string(), TOO_MUCH);
    }

    #[test]
    fn a_row_with_too_many_cells_is_refused_before_it_is_decoded() {
        let schema = "message rows { required group text (LIST) { repeated group list { required binary element (UTF8); } } }";
        let row: Vec<(&str, i16, i16)> = (0..50_000).map(|i| ("x", 1, i16::from(i > 0))).collect();
        let bytes = file(schema, &[row]);
        assert!(bytes.len() < 10_000, "the file is small: {}", bytes.len());
        let read = read_within(&bytes, Shape::Text, 1_000_000);
        assert_eq!(read.faults[0].to_string(), TOO_MUCH);
    }
}
