//! Writing: whole files in memory, and files larger than memory tensor by tensor.

use super::header::PREFIX_BYTES;
use crate::store::{HostTensor, Store};
use crate::{Error, Result};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The metadata that transformers asks of a file with PyTorch's names and orientation.
pub fn pytorch_metadata() -> IndexMap<String, String> {
    IndexMap::from([("format".to_string(), "pt".to_string())])
}

/// A file of F32 tensors in memory.
pub fn to_bytes(
    tensors: &IndexMap<String, HostTensor>,
    metadata: &IndexMap<String, String>,
) -> Result<Vec<u8>> {
    let shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    let mut bytes = header_bytes(&shapes, metadata)?;
    for (name, tensor) in tensors {
        check_shape(name, tensor, &tensor.shape)?;
        bytes.extend_from_slice(&le_bytes(&tensor.values));
    }
    Ok(bytes)
}

/// Writes a file of F32 tensors, asking `tensor` for one at a time in the order of `shapes`.
///
/// The bytes go to `key` with `.partial` appended, which takes the name `key` once it is whole and is
/// removed on failure.
pub async fn write_streaming(
    store: &impl Store,
    key: &str,
    shapes: &IndexMap<String, Vec<usize>>,
    metadata: &IndexMap<String, String>,
    tensor: impl AsyncFnMut(&str) -> Result<HostTensor>,
) -> Result<()> {
    let partial = format!("{key}.partial");
    let written = write_to(store, &partial, shapes, metadata, tensor).await;
    match written {
        Ok(()) => store.rename(&partial, key).await,
        Err(error) => {
            // The first failure is the one to tell; a left-over partial file is overwritten next time.
            let _ = store.remove(&partial).await;
            Err(error)
        }
    }
}

async fn write_to(
    store: &impl Store,
    key: &str,
    shapes: &IndexMap<String, Vec<usize>>,
    metadata: &IndexMap<String, String>,
    mut tensor: impl AsyncFnMut(&str) -> Result<HostTensor>,
) -> Result<()> {
    store.write(key, &header_bytes(shapes, metadata)?).await?;
    for (name, shape) in shapes {
        let tensor = tensor(name).await?;
        check_shape(name, &tensor, shape)?;
        store.append(key, &le_bytes(&tensor.values)).await?;
    }
    Ok(())
}

/// Length and JSON, padded with spaces so that the tensors begin at a multiple of eight bytes.
fn header_bytes(
    shapes: &IndexMap<String, Vec<usize>>,
    metadata: &IndexMap<String, String>,
) -> Result<Vec<u8>> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut end = 0u64;
    for (name, shape) in shapes {
        let start = end;
        let n_values = shape.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim as u64));
        let next = n_values.and_then(|n| n.checked_mul(4)).and_then(|n| n.checked_add(start));
        end = next.ok_or_else(|| Error::Internal(format!("tensor {name} of shape {shape:?} overflows")))?;
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
        header.insert(name.clone(), entry);
    }
    let mut json = Value::Object(header).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(PREFIX_BYTES as usize), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}

fn check_shape(name: &str, tensor: &HostTensor, expected: &[usize]) -> Result<()> {
    let n_values: usize = expected.iter().product();
    if tensor.shape == expected && tensor.values.len() == n_values {
        return Ok(());
    }
    let (shape, len) = (&tensor.shape, tensor.values.len());
    Err(Error::Internal(format!("tensor {name}: shape {shape:?} with {len} values, announced {expected:?}")))
}

/// The values as the file has them; borrowed where the machine's byte order is the file's.
fn le_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}
