//! Builds GGUF files for tests, right and wrong ones.

use indexmap::IndexMap;

/// A tensor as it goes into the header: `dims` fastest first; `offset` from the data's beginning.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub name: String,
    pub dims: Vec<u64>,
    pub type_number: u32,
    pub offset: u64,
}

/// A file in the making.
#[derive(Clone)]
pub(crate) struct Builder {
    pub version: u32,
    pub alignment: usize,
    /// Type number and bytes of each value, by key.
    pub pairs: IndexMap<String, (u32, Vec<u8>)>,
    pub tensors: Vec<Tensor>,
    pub data: Vec<u8>,
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Builder {
    pub fn new() -> Self {
        Self { version: 3, alignment: 32, pairs: IndexMap::new(), tensors: vec![], data: vec![] }
    }

    pub fn pair(mut self, key: &str, type_number: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.pairs.insert(key.into(), (type_number, bytes.into()));
        self
    }

    pub fn text(self, key: &str, text: &str) -> Self {
        self.pair(key, 8, string(text))
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        self.pair(key, 4, value.to_le_bytes())
    }

    pub fn f32(self, key: &str, value: f32) -> Self {
        self.pair(key, 6, value.to_le_bytes())
    }

    pub fn texts(self, key: &str, texts: &[&str]) -> Self {
        let mut bytes = [&8u32.to_le_bytes()[..], &(texts.len() as u64).to_le_bytes()].concat();
        bytes.extend(texts.iter().flat_map(|text| string(text)));
        self.pair(key, 9, bytes)
    }

    /// Adds a tensor behind those before; `shape` slowest first.
    pub fn tensor(mut self, name: &str, shape: &[usize], type_number: u32, bytes: &[u8]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(self.alignment), 0);
        let dims = shape.iter().rev().map(|&dim| dim as u64).collect();
        self.tensors.push(Tensor { name: name.into(), dims, type_number, offset: self.data.len() as u64 });
        self.data.extend(bytes);
        self
    }

    pub fn f32_tensor(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        self.tensor(name, shape, 0, bytemuck::cast_slice(values))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, (type_number, bytes)) in &self.pairs {
            out.extend(string(key));
            out.extend(type_number.to_le_bytes());
            out.extend(bytes);
        }
        for tensor in &self.tensors {
            out.extend(string(&tensor.name));
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(tensor.type_number.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(&self.data);
        out
    }
}
