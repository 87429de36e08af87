//! The header: read, parsed and checked.

use crate::store::{Entry, Store, StoredType, TensorInfo, shortened, tensor_place};
use crate::{Error, Result};
use indexmap::IndexMap;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::ops::Range;

/// The reference implementation's bound on the header.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The length of the header stands before it, as a little-endian u64.
pub(super) const PREFIX_BYTES: u64 = 8;
/// Mistakes listed at most, the others counted: of a file cut short they are all alike, and a hostile header can
/// have millions.
const MAX_LISTED: usize = 3;

/// PyTorch's bound.
const MAX_DIMS: usize = 64;

const SUPPORTED: &str = "F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL";

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Tensors by name, in the header's order.
    pub tensors: IndexMap<String, Entry>,
    /// The free-form `__metadata__`.
    pub metadata: IndexMap<String, String>,
}

/// Reads and checks the header of `key`; the tensors' bytes stay where they are.
pub async fn read_header(store: &impl Store, key: &str) -> Result<Header> {
    let size = store.size(key).await?;
    let size = size.ok_or_else(|| Error::input(key, "no such file", "a safetensors file"))?;
    let prefix = store.read(key, 0..PREFIX_BYTES.min(size)).await?;
    let json = store.read(key, header_range(&prefix, size, key)?).await?;
    parse(&json, size, key)
}

/// Where the JSON lies, from the file's first eight bytes.
pub(super) fn header_range(prefix: &[u8], file_size: u64, place: &str) -> Result<Range<u64>> {
    let Ok(prefix) = <[u8; 8]>::try_from(prefix) else {
        return Err(Error::input(
            place,
            format!("{file_size} bytes"),
            "a safetensors file of 8 bytes or more",
        ));
    };
    let length = u64::from_le_bytes(prefix);
    let limit = (file_size - PREFIX_BYTES).min(MAX_HEADER_BYTES);
    if length > limit {
        let problem = format!("header length {length}");
        let expected = format!("at most {limit} bytes in a safetensors file of {file_size} bytes");
        return Err(Error::input(place, problem, expected));
    }
    Ok(PREFIX_BYTES..PREFIX_BYTES + length)
}

/// Parses the header's JSON and checks every entry against the file's size.
pub(super) fn parse(json: &[u8], file_size: u64, place: &str) -> Result<Header> {
    let raw: RawHeader = serde_json::from_slice(json).map_err(|e| {
        Error::input(format!("{place}, header"), e.to_string(), "a safetensors header in JSON")
    })?;
    let data_start = PREFIX_BYTES + json.len() as u64;
    let mut tensors = IndexMap::new();
    let mut mistakes = Vec::new();
    let mut n_more = 0_usize;
    for (name, entry) in raw.tensors {
        match check(&name, entry, data_start, file_size, place) {
            Ok(entry) => drop(tensors.insert(name, entry)),
            Err(_) if mistakes.len() == MAX_LISTED => n_more += 1,
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if n_more > 0 {
        let tensors =
            if n_more == 1 { "1 more tensor is".into() } else { format!("{n_more} more tensors are") };
        let problem = format!("{tensors} as wrong");
        // Another copy helps where bytes are missing, not where they are of an unknown kind.
        let is_broken = mistakes.iter().all(|mistake| matches!(mistake, Error::Input { .. }));
        let expected = if is_broken {
            "a whole file: fetch or copy it again"
        } else {
            "tensors of the kinds named above"
        };
        mistakes.push(Error::input(place, problem, expected));
    }
    Error::all(mistakes)?;
    check_contiguous(&tensors, data_start..file_size, place)?;
    Ok(Header { tensors, metadata: raw.metadata })
}

fn check(name: &str, entry: RawEntry, data_start: u64, file_size: u64, place: &str) -> Result<Entry> {
    let place = tensor_place(place, name);
    if name.is_empty() {
        return Err(Error::input(place, "its name is empty", "a name"));
    }
    let stored = match entry.dtype.as_str() {
        "F64" => StoredType::F64,
        "F32" => StoredType::F32,
        "F16" => StoredType::F16,
        "BF16" => StoredType::BF16,
        "I64" => StoredType::I64,
        "I32" => StoredType::I32,
        "I16" => StoredType::I16,
        "I8" => StoredType::I8,
        "U8" => StoredType::U8,
        "BOOL" => StoredType::Bool,
        other => {
            let what = format!("{place}: dtype {}", shortened(other));
            return Err(Error::Unsupported { what, supported: SUPPORTED.into() });
        }
    };
    let Shape(shape) = &entry.shape;
    let info = TensorInfo::new(shape, stored).map_err(|problem| {
        Error::input(&place, format!("shape {:?} {problem}", shape), "a shape that fits the file")
    })?;
    let [start, end] = entry.data_offsets;
    if end.checked_sub(start) != Some(info.n_bytes) {
        let expected = format!("{} bytes for shape {:?} of {}", info.n_bytes, info.shape, entry.dtype);
        return Err(Error::input(place, format!("data_offsets [{start}, {end}]"), expected));
    }
    match data_start.checked_add(end) {
        Some(absolute_end) if absolute_end <= file_size => {
            Ok(Entry { info, bytes: data_start + start..absolute_end })
        }
        _ => {
            let expected = format!("an end within the file's {} bytes of data", file_size - data_start);
            Err(Error::input(place, format!("data_offsets [{start}, {end}]"), expected))
        }
    }
}

/// Ranges follow each other without gap or overlap and fill the file.
fn check_contiguous(tensors: &IndexMap<String, Entry>, data: Range<u64>, place: &str) -> Result<()> {
    let mut by_offset: Vec<_> = tensors.iter().map(|(name, entry)| (&entry.bytes, name)).collect();
    by_offset.sort_by_key(|(bytes, _)| (bytes.start, bytes.end));
    let mut at = data.start;
    for (bytes, name) in by_offset {
        if bytes.start != at {
            let kind = if bytes.start < at { "overlap the tensor before" } else { "leave a gap" };
            let problem = format!("its bytes begin at {} and {kind}", bytes.start - data.start);
            let expected = format!("a begin at {}", at - data.start);
            return Err(Error::input(tensor_place(place, name), problem, expected));
        }
        at = bytes.end;
    }
    if at != data.end {
        let problem = format!("{} bytes after the last tensor", data.end - at);
        return Err(Error::input(place, problem, "a file that ends with its last tensor"));
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Shape,
    data_offsets: [u64; 2],
}

/// Dimensions, of a bounded number: a hostile header could list millions.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dims;
        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = list.next_element()? {
                    if dims.len() == MAX_DIMS {
                        return Err(A::Error::custom(format!("a shape has more than {MAX_DIMS} dimensions")));
                    }
                    dims.push(dim);
                }
                Ok(Shape(dims))
            }
        }
        deserializer.deserialize_seq(Dims)
    }
}

#[derive(Default)]
struct RawHeader {
    tensors: IndexMap<String, RawEntry>,
    metadata: IndexMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = RawHeader;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                let mut has_metadata = false;
                while let Some(key) = map.next_key::<String>()? {
                    let is_new = if key == "__metadata__" {
                        header.metadata = map.next_value::<UniqueKeys>()?.0;
                        !std::mem::replace(&mut has_metadata, true)
                    } else {
                        insert_new(&mut header.tensors, key, &mut map)?
                    };
                    if !is_new {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// A JSON object of strings in which no key stands twice.
struct UniqueKeys(IndexMap<String, String>);

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = UniqueKeys;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueKeys, A::Error> {
                let mut strings = IndexMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if !insert_new(&mut strings, key, &mut map)? {
                        return Err(A::Error::custom("a metadata key stands twice"));
                    }
                }
                Ok(UniqueKeys(strings))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// Whether `key` was new; its value is consumed either way.
fn insert_new<'de, V: Deserialize<'de>, A: MapAccess<'de>>(
    into: &mut IndexMap<String, V>,
    key: String,
    map: &mut A,
) -> Result<bool, A::Error> {
    Ok(into.insert(key, map.next_value()?).is_none())
}
