//! Metadata values: parsed, and looked up by key and kind.

use super::cursor::{Cursor, Stop};
use crate::store::shortened;
use crate::{Error, Result};
use indexmap::IndexMap;

/// A number or truth value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// Any integer type.
    Int(i128),
    /// Either floating-point type.
    Float(f64),
    /// A truth value.
    Bool(bool),
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One number or truth value.
    Scalar(Scalar),
    /// Text.
    String(String),
    /// A list of one type.
    Array(Array),
}

/// A list of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Texts.
    Strings(Vec<String>),
    /// Numbers as the file has them, which takes no more memory than they take there.
    Numbers(Numbers),
}

/// Numbers of one type, packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    kind: Kind,
    bytes: Vec<u8>,
}

impl Numbers {
    /// The numbers, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Scalar> {
        self.bytes.chunks_exact(self.kind.n_bytes()).map(|bytes| self.kind.decode(bytes))
    }
}

/// Scalar types, by the number GGUF gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

const STRING: u32 = 8;
const ARRAY: u32 = 9;

impl Kind {
    fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    fn n_bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// `bytes` are [`Self::n_bytes`] many.
    fn decode(self, bytes: &[u8]) -> Scalar {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Scalar::Int(bits.into()),
            Self::I8 => Scalar::Int((bits as i8).into()),
            Self::I16 => Scalar::Int((bits as i16).into()),
            Self::I32 => Scalar::Int((bits as i32).into()),
            Self::I64 => Scalar::Int(bits.cast_signed().into()),
            Self::F32 => Scalar::Float(f32::from_bits(bits as u32).into()),
            Self::F64 => Scalar::Float(f64::from_bits(bits)),
            Self::Bool => Scalar::Bool(bits != 0),
        }
    }
}

/// The metadata of a file, with lookups whose errors name file, key and expected kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The file's name, for messages.
    pub file: String,
    /// Values by key, in the file's order.
    pub values: IndexMap<String, Value>,
}

impl Metadata {
    /// Reads `n` keys and values.
    pub(super) fn parse(cursor: &mut Cursor<'_>, n: u64) -> Result<Self, Stop> {
        let mut values = IndexMap::new();
        for _ in 0..n {
            let place = cursor.place();
            let key = cursor.string("a metadata key")?;
            let value = parse_value(cursor, key)?;
            if values.insert(key.to_owned(), value).is_some() {
                let problem = format!("metadata key {} stands twice", shortened(key));
                return Err(Error::input(place, problem, "each key once").into());
            }
        }
        Ok(Self { file: cursor.file.to_owned(), values })
    }

    /// Text under `key`.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.get(key, "text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A truth value under `key`.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "a truth value", |value| match value {
            Value::Scalar(Scalar::Bool(truth)) => Some(*truth),
            _ => None,
        })
    }

    /// A number, or an integer, under `key`.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a finite number", |value| match value {
            Value::Scalar(scalar) => scalar.as_f64().filter(|number| number.is_finite()),
            _ => None,
        })
    }

    /// An unsigned 32-bit integer under `key`. A list with the same integer for every layer counts as that integer.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.get(key, "an integer from 0 to 4294967295, the same for all layers", |value| match value {
            Value::Scalar(scalar) => scalar.as_u32(),
            Value::Array(Array::Numbers(numbers)) => {
                let first = numbers.iter().next()?;
                numbers.iter().all(|number| number == first).then(|| first.as_u32()).flatten()
            }
            _ => None,
        })
    }

    /// A list of texts under `key`.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.get(key, "a list of texts", |value| match value {
            Value::Array(Array::Strings(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// A list of numbers under `key`.
    pub fn numbers(&self, key: &str) -> Result<Option<&Numbers>> {
        self.get(key, "a list of numbers", |value| match value {
            Value::Array(Array::Numbers(numbers)) => Some(numbers),
            _ => None,
        })
    }

    /// The error for a `key` that must be there.
    pub fn missing(&self, key: &str) -> Error {
        Error::input(&self.file, format!("no metadata key {key}"), "a model's GGUF file")
    }

    /// Where `key` stands, for messages.
    pub fn place(&self, key: &str) -> String {
        format!("{}, metadata key {}", self.file, shortened(key))
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        match read(value) {
            Some(found) => Ok(Some(found)),
            None => Err(Error::input(self.place(key), value.summary(), expected)),
        }
    }
}

impl Scalar {
    /// The value as f64; none for a truth value.
    pub fn as_f64(self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(number as f64),
            Self::Float(number) => Some(number),
            Self::Bool(_) => None,
        }
    }

    /// The value where it is an integer of that range.
    pub fn as_u32(self) -> Option<u32> {
        match self {
            Self::Int(number) => u32::try_from(number).ok(),
            Self::Float(_) | Self::Bool(_) => None,
        }
    }
}

impl Value {
    /// The value in a few words.
    fn summary(&self) -> String {
        match self {
            Self::Scalar(Scalar::Int(number)) => number.to_string(),
            Self::Scalar(Scalar::Float(number)) => number.to_string(),
            Self::Scalar(Scalar::Bool(truth)) => truth.to_string(),
            Self::String(text) => format!("the text {:?}", shortened(text)),
            Self::Array(Array::Strings(texts)) => format!("a list of {} texts", texts.len()),
            Self::Array(Array::Numbers(numbers)) => format!("a list of {} numbers", numbers.iter().len()),
        }
    }
}

fn parse_value(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, Stop> {
    let type_number = cursor.u32("a value type")?;
    match type_number {
        STRING => Ok(Value::String(cursor.string("a metadata value")?.to_owned())),
        ARRAY => parse_array(cursor, key).map(Value::Array),
        number => {
            let kind = Kind::new(number).ok_or_else(|| unknown_type(cursor, key, number))?;
            let bytes = cursor.take(kind.n_bytes() as u64, "a metadata value")?;
            Ok(Value::Scalar(kind.decode(bytes)))
        }
    }
}

fn parse_array(cursor: &mut Cursor<'_>, key: &str) -> Result<Array, Stop> {
    const LENGTH_BYTES: u64 = 8; // each text stands behind its length
    let type_number = cursor.u32("a value type")?;
    if type_number == STRING {
        let n = cursor.count(LENGTH_BYTES, "the length of a list")?;
        let texts = (0..n).map(|_| cursor.string("a metadata value").map(str::to_owned));
        return texts.collect::<Result<_, _>>().map(Array::Strings);
    }
    let kind = Kind::new(type_number).ok_or_else(|| unknown_type(cursor, key, type_number))?;
    let n = cursor.count(kind.n_bytes() as u64, "the length of a list")?;
    let bytes = cursor.take(n * kind.n_bytes() as u64, "a list")?.to_vec();
    Ok(Array::Numbers(Numbers { kind, bytes }))
}

fn unknown_type(cursor: &Cursor<'_>, key: &str, number: u32) -> Stop {
    let place = format!("{}, metadata key {}", cursor.place(), shortened(key));
    if number == ARRAY {
        return Error::input(place, "a list of lists", "a list of texts or numbers").into();
    }
    Error::input(place, format!("value type {number}"), "a type from 0 to 12").into()
}
