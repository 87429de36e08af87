//! The header: read in growing pieces, parsed and checked.

use super::cursor::{Cursor, Stop};
use super::metadata::Metadata;
use crate::store::{Entry, Store, StoredType, TensorInfo, shortened, tensor_place};
use crate::{Error, Result};
use indexmap::IndexMap;

/// Read first; a header of a real vocabulary takes one to some ten megabytes.
const FIRST_READ_BYTES: u64 = 1 << 20;
/// Larger than any real header, and small enough that a lying length does not read a model's weights.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Name length, number of dimensions, type and offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;
/// Key length, value type and one byte of value.
const MIN_PAIR_BYTES: u64 = 8 + 4 + 1;
/// ggml's `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;
const DEFAULT_ALIGNMENT: u32 = 32;

const SUPPORTED: &str =
    "F64, F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, I64, I32, I16, I8";

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Format version, 2 or 3.
    pub version: u32,
    /// Metadata by key.
    pub metadata: Metadata,
    /// Tensors by name, in the file's order.
    pub tensors: IndexMap<String, Entry>,
}

/// Reads and checks the header of `key`, in pieces that double; the tensors' bytes stay where they are.
pub async fn read_header(store: &impl Store, key: &str) -> Result<Header> {
    let size = store.size(key).await?;
    let size = size.ok_or_else(|| Error::input(key, "no such file", "a GGUF file"))?;
    let mut bytes = store.read(key, 0..FIRST_READ_BYTES.min(size)).await?;
    loop {
        let n_read = bytes.len() as u64;
        match parse(&bytes, size, key) {
            Ok(header) => return Ok(header),
            Err(Stop::Bad(error)) => return Err(error),
            Err(Stop::NeedMore(needed)) => {
                let limit = MAX_HEADER_BYTES.min(size);
                if needed > limit || n_read >= limit {
                    let problem = format!("its header takes {needed} bytes or more");
                    return Err(Error::input(key, problem, format!("at most {limit} bytes")));
                }
                // Parsing starts over each time; doubling keeps the sum below twice the last time.
                let target = needed.max(n_read * 2).min(limit);
                bytes.append(&mut store.read(key, n_read..target).await?);
            }
        }
    }
}

/// Parses the beginning of a file of `file_size` bytes.
pub(super) fn parse(bytes: &[u8], file_size: u64, file: &str) -> Result<Header, Stop> {
    let mut cursor = Cursor { bytes, file_size, at: 0, file };
    let magic = cursor.array::<4>("the format's mark")?;
    if &magic != b"GGUF" {
        let found = shortened(&String::from_utf8_lossy(&magic));
        return Err(Error::input(
            file,
            format!("begins with {found:?}"),
            "a GGUF file, which begins with \"GGUF\"",
        )
        .into());
    }
    let version = cursor.u32("the format's version")?;
    if !matches!(version, 2 | 3) {
        // A big-endian file has its version in the upper bytes.
        let kind = if version.swap_bytes() <= 3 && version != 0 {
            "big-endian GGUF".into()
        } else {
            format!("version {version}")
        };
        let what = format!("{file}: {kind}");
        return Err(
            Error::Unsupported { what, supported: "little-endian GGUF, versions 2 and 3".into() }.into()
        );
    }
    let n_tensors = cursor.count(MIN_TENSOR_BYTES, "the number of tensors")?;
    let n_pairs = cursor.count(MIN_PAIR_BYTES, "the number of metadata keys")?;
    let metadata = Metadata::parse(&mut cursor, n_pairs)?;
    let listed: Vec<Listed> = (0..n_tensors).map(|_| parse_tensor(&mut cursor)).collect::<Result<_, _>>()?;
    let tensors = place_tensors(listed, alignment(&metadata)?, &cursor)?;
    Ok(Header { version, metadata, tensors })
}

/// A tensor as the header lists it; `offset` counts from the beginning of the data.
struct Listed {
    name: String,
    info: TensorInfo,
    offset: u64,
}

fn parse_tensor(cursor: &mut Cursor<'_>) -> Result<Listed, Stop> {
    let name = cursor.string("a tensor's name")?.to_owned();
    let place = tensor_place(cursor.file, &name);
    let n_dims = cursor.u32("a number of dimensions")?;
    if n_dims > MAX_DIMS {
        return Err(Error::input(place, format!("{n_dims} dimensions"), format!("at most {MAX_DIMS}")).into());
    }
    let mut shape = (0..n_dims).map(|_| cursor.u64("a dimension")).collect::<Result<Vec<_>, _>>()?;
    shape.reverse(); // the file has the fastest dimension first
    let stored = stored_type(cursor.u32("a tensor's type")?, &place)?;
    let offset = cursor.u64("a tensor's offset")?;
    let info = TensorInfo::new(&shape, stored).map_err(|problem| {
        Error::input(place, format!("shape {shape:?} {problem}"), "a shape that fits the file")
    })?;
    Ok(Listed { name, info, offset })
}

/// Gives each tensor its range: they lie in the listed order, each at the next multiple of `alignment`.
fn place_tensors(
    listed: Vec<Listed>,
    alignment: u64,
    cursor: &Cursor<'_>,
) -> Result<IndexMap<String, Entry>> {
    let file = cursor.file;
    let beyond = |name: &str, n_bytes: u64| {
        let expected = format!("tensors within the file's {} bytes", cursor.file_size);
        Error::input(tensor_place(file, name), format!("its {n_bytes} bytes end past the file"), expected)
    };
    let mut tensors = IndexMap::new();
    let data_start = cursor.at.checked_next_multiple_of(alignment);
    let mut expected_offset = Some(0u64);
    for Listed { name, info, offset } in listed {
        let place = tensor_place(file, &name);
        if name.is_empty() {
            return Err(Error::input(place, "its name is empty", "a name"));
        }
        let expected = expected_offset.ok_or_else(|| beyond(&name, info.n_bytes))?;
        if offset != expected {
            let expected = format!("{expected}, behind the tensor before, aligned to {alignment}");
            return Err(Error::input(place, format!("offset {offset}"), expected));
        }
        let start = data_start.and_then(|start| start.checked_add(offset));
        let range = start.and_then(|start| Some(start..start.checked_add(info.n_bytes)?));
        let bytes = range.filter(|range| range.end <= cursor.file_size);
        let bytes = bytes.ok_or_else(|| beyond(&name, info.n_bytes))?;
        expected_offset =
            offset.checked_add(info.n_bytes).and_then(|end| end.checked_next_multiple_of(alignment));
        if tensors.insert(name, Entry { info, bytes }).is_some() {
            return Err(Error::input(place, "its name stands twice", "each name once"));
        }
    }
    Ok(tensors)
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    const KEY: &str = "general.alignment";
    let alignment = metadata.u32(KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(Error::input(metadata.place(KEY), alignment.to_string(), "a power of two"));
    }
    Ok(alignment.into())
}

/// ggml's type numbers (`enum ggml_type` in `ggml/include/ggml.h`).
fn stored_type(number: u32, place: &str) -> Result<StoredType> {
    let unsupported = match number {
        0 => return Ok(StoredType::F32),
        1 => return Ok(StoredType::F16),
        2 => return Ok(StoredType::Q4_0),
        3 => return Ok(StoredType::Q4_1),
        6 => return Ok(StoredType::Q5_0),
        7 => return Ok(StoredType::Q5_1),
        8 => return Ok(StoredType::Q8_0),
        12 => return Ok(StoredType::Q4K),
        13 => return Ok(StoredType::Q5K),
        14 => return Ok(StoredType::Q6K),
        24 => return Ok(StoredType::I8),
        25 => return Ok(StoredType::I16),
        26 => return Ok(StoredType::I32),
        27 => return Ok(StoredType::I64),
        28 => return Ok(StoredType::F64),
        30 => return Ok(StoredType::BF16),
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => "unknown to attune",
    };
    let what = format!("{place}: type {number} ({unsupported})");
    Err(Error::Unsupported { what, supported: SUPPORTED.into() })
}
