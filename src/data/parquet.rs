//! Parquet through the record interface of the `parquet` crate, which needs no Arrow.
//!
//! Only the columns a shape may use are decoded. Their types are checked before the first value is read,
//! because the record interface panics on types it does not know.

use super::records::Collector;
use super::shapes;
use crate::config::Shape;
use ::parquet::basic::{ConvertedType, Repetition, Type as PhysicalType};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;
use ::parquet::schema::types::Type;
use bytes::Bytes;
use serde_json::{Map, Number, Value};

/// Nesting of lists and groups in a column that still makes sense for text rows.
const MAX_DEPTH: usize = 8;

/// Reads a whole Parquet file; a row's line is its number, from 1. The file is copied once in memory, since the
/// reader keeps what it reads from. `max_bytes` bounds what the columns may unpack to.
pub(super) fn read(bytes: &[u8], max_bytes: u64, out: &mut Collector<'_>) {
    let file = match SerializedFileReader::new(Bytes::copy_from_slice(bytes)) {
        Ok(file) => file,
        Err(e) => return out.fault("", format!("is broken Parquet: {}", words(&e)), "a whole Parquet file"),
    };
    let Some(projection) = projection(&file, out) else { return };
    let unpacked = unpacked_bytes(&file, &projection);
    if unpacked > max_bytes {
        let problem = format!("its columns unpack to {unpacked} bytes");
        return out.fault("", problem, format!("{max_bytes} bytes or fewer; split the file"));
    }
    let rows = match file.get_row_iter(Some(projection)) {
        Ok(rows) => rows,
        Err(e) => return out.fault("", format!("is broken Parquet: {}", words(&e)), "a readable schema"),
    };
    for (index, row) in rows.enumerate() {
        let line = index + 1;
        match row {
            Ok(row) => {
                let fields = row.into_columns().into_iter().map(|(name, field)| (name, json(field)));
                out.record(line, &fields.collect(), &[]);
            }
            // After a failed page the reader has lost its place.
            Err(e) => {
                let problem = format!("broken Parquet, not read from here on: {}", words(&e));
                return out.bad_row(line, problem, "readable pages and text in UTF-8");
            }
        }
    }
}

/// The file's schema cut down to the columns a shape may use; reports columns that are missing or of a type that
/// no row can have.
fn projection(file: &SerializedFileReader<Bytes>, out: &mut Collector<'_>) -> Option<Type> {
    let schema = file.metadata().file_metadata().schema();
    let names: Map<String, Value> =
        schema.get_fields().iter().map(|f| (f.name().to_string(), Value::Bool(true))).collect();
    let shape = match out.forced_shape() {
        Shape::Auto => shapes::recognise(&names),
        shape => Some(shape).filter(|&s| shapes::fields(s).0.iter().all(|&f| names.contains_key(f))),
    };
    let Some(shape) = shape else {
        let found = shapes::list_fields(names.keys()).replace("fields", "columns");
        let expected = match out.forced_shape() {
            Shape::Auto => shapes::EXPECTED_FIELDS.to_string(),
            shape => format!("the columns {}", shapes::fields(shape).0.join(", ")),
        };
        out.fault("", found, expected);
        return None;
    };
    let (required, optional) = shapes::fields(shape);
    let (used, unused): (Vec<_>, Vec<_>) = schema
        .get_fields()
        .iter()
        .partition(|f| required.contains(&f.name()) || optional.contains(&f.name()));
    for field in unused {
        out.note(format!("column `{}` is not used", field.name()));
    }
    let n_problems = out.n_problems();
    for field in &used {
        if let Err(problem) = readable(field, 0) {
            out.fault(&format!(": column `{}`", field.name()), problem, "strings, numbers, and lists and groups of them");
        }
    }
    if out.n_problems() > n_problems {
        return None;
    }
    Type::group_type_builder(schema.name())
        .with_fields(used.into_iter().cloned().collect())
        .build()
        .map_err(|e| out.fault("", format!("is broken Parquet: {}", words(&e)), "a readable schema"))
        .ok()
}

/// Whether the record interface reads this type without panicking.
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
                C::NONE | C::INT_8 | C::INT_16 | C::INT_32 | C::UINT_8 | C::UINT_16 | C::UINT_32
            ),
            PhysicalType::INT64 => matches!(info.converted_type(), C::NONE | C::INT_64 | C::UINT_64),
            PhysicalType::BYTE_ARRAY => matches!(info.converted_type(), C::NONE | C::UTF8 | C::ENUM | C::JSON),
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

/// What the projected columns say they unpack to.
fn unpacked_bytes(file: &SerializedFileReader<Bytes>, projection: &Type) -> u64 {
    let used = |name: &str| projection.get_fields().iter().any(|f| f.name() == name);
    let groups = file.metadata().row_groups().iter();
    groups
        .flat_map(|g| g.columns())
        .filter(|c| c.column_path().parts().first().is_some_and(|p| used(p)))
        .fold(0, |sum, c| sum.saturating_add(c.uncompressed_size().max(0).unsigned_abs()))
}

/// A value as JSON, the common language of the shapes.
fn json(field: Field) -> Value {
    let float = |x: f64| Number::from_f64(x).map_or(Value::Null, Value::Number);
    match field {
        Field::Bool(b) => Value::Bool(b),
        Field::Byte(n) => n.into(),
        Field::Short(n) => n.into(),
        Field::Int(n) => n.into(),
        Field::Long(n) => n.into(),
        Field::UByte(n) => n.into(),
        Field::UShort(n) => n.into(),
        Field::UInt(n) => n.into(),
        Field::ULong(n) => n.into(),
        Field::Float(x) => float(f64::from(x)),
        Field::Double(x) => float(x),
        Field::Str(text) => Value::String(text),
        // Old writers leave out the mark that a byte string is text.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => Value::Array(Vec::new()),
        },
        Field::Group(row) => row.into_columns().into_iter().map(|(k, v)| (k, json(v))).collect(),
        Field::ListInternal(list) => list.elements().iter().cloned().map(json).collect(),
        // Refused by `readable`, but for null.
        _ => Value::Null,
    }
}

/// The library's message without its prefix.
fn words(error: &::parquet::errors::ParquetError) -> String {
    let text = error.to_string();
    text.trim_start_matches("Parquet error: ").to_string()
}
