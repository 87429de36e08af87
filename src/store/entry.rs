//! A tensor as a file's header announces it: checked before anything is allocated, then read.

use super::{Form, HostPacked, HostTensor, Store, StoredType, TensorInfo};
use crate::{Error, Result};
use std::ops::Range;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Shape (slowest dimension first) and type.
    pub info: TensorInfo,
    /// Where its bytes are, from the file's beginning.
    pub bytes: Range<u64>,
}

impl Entry {
    /// Reads the tensor from the file `key`, its bytes in one range. `name` is for messages.
    pub async fn read(&self, store: &impl Store, key: &str, name: &str) -> Result<HostTensor> {
        let bytes = store.read(key, self.bytes.clone()).await?;
        self.info.decode(&bytes, key, name)
    }

    /// Reads a matrix as it is stored, row `i` of it being row `source(i)` of the file; `None` where it has no
    /// [`super::Form`].
    pub async fn read_packed(
        &self,
        store: &impl Store,
        key: &str,
        name: &str,
        source: Option<impl Fn(usize) -> usize>,
    ) -> Result<Option<HostPacked>> {
        let &[rows, columns] = self.info.shape.as_slice() else { return Ok(None) };
        if Form::of(self.info.stored).is_none() || rows == 0 {
            return Ok(None);
        }
        let bytes = store.read(key, self.bytes.clone()).await?;
        self.info.check_length(&bytes, key, name)?;
        let bytes = match source {
            None => bytes,
            Some(source) => {
                let length = bytes.len() / rows;
                (0..rows).flat_map(|row| &bytes[source(row) * length..][..length]).copied().collect()
            }
        };
        Ok(HostPacked::from_stored(self.info.stored, &bytes, [rows, columns]))
    }
}

impl TensorInfo {
    /// Checks that `shape` of `stored` has a size, without allocating; the error says what is wrong with it.
    pub fn new(shape: &[u64], stored: StoredType) -> Result<Self, String> {
        let n_values = shape.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
        let n_values = n_values.ok_or("overflows")?;
        let dims = shape.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<_>>();
        let row = shape.last().copied().unwrap_or(1);
        let block = stored.block().n_values;
        if !row.is_multiple_of(block as u64) {
            return Err(format!("has rows of {row} values, no whole blocks of {block}"));
        }
        let n_bytes = stored.n_bytes(n_values).ok_or("overflows")?;
        Ok(Self { shape: dims.ok_or("overflows")?, stored, n_bytes })
    }

    fn check_length(&self, bytes: &[u8], file: &str, name: &str) -> Result<()> {
        if bytes.len() as u64 == self.n_bytes {
            return Ok(());
        }
        let expected = format!("{} bytes for shape {:?}", self.n_bytes, self.shape);
        Err(Error::input(tensor_place(file, name), format!("{} bytes read", bytes.len()), expected))
    }

    /// The tensor whose bytes these are; `file` and `name` are for messages.
    pub(super) fn decode(&self, bytes: &[u8], file: &str, name: &str) -> Result<HostTensor> {
        self.check_length(bytes, file, name)?;
        Ok(HostTensor { shape: self.shape.clone(), values: self.stored.decode(bytes) })
    }
}

/// How messages name a tensor of a file.
pub(super) fn tensor_place(file: &str, name: &str) -> String {
    format!("{file}, tensor {}", shortened(name))
}

/// Text from a file as a message can carry it: printable, and of bounded length.
pub(crate) fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 100;
    let mut out: String = text.chars().take(MAX_CHARS).flat_map(spell_out).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}
/// Control characters and the like in words; quotes as they are.
fn spell_out(letter: char) -> Box<dyn Iterator<Item = char>> {
    match letter {
        '"' | '\'' => Box::new(std::iter::once(letter)),
        _ => Box::new(letter.escape_debug()),
    }
}
