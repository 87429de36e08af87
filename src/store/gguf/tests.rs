#![allow(clippy::unwrap_used)]

use super::build::{Builder, string};
use super::*;
use crate::store::memory::{MemoryStore, ready};
use crate::store::{HostTensor, Store, StoredType};
use crate::{Error, Result};
use proptest::prelude::*;
use std::ops::Range;

fn open(bytes: Vec<u8>) -> Result<Header> {
    ready(read_header(&MemoryStore::new().with("f.gguf", bytes), "f.gguf"))
}

fn refuses(bytes: Vec<u8>, expected: &str) {
    let error = open(bytes).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let message = error.to_string();
    assert!(message.contains("f.gguf") && message.contains(expected), "{message}");
}

/// One key of each kind and two tensors.
fn sample() -> Builder {
    Builder::new()
        .text("general.architecture", "llama")
        .u32("n", 7)
        .f32("x", 0.5)
        .pair("yes", 7, [1])
        .pair("small", 1, [254])
        .pair("large", 10, u64::MAX.to_le_bytes())
        .texts("texts", &["a", "bc", ""])
        .pair("ones", 9, [&5u32.to_le_bytes()[..], &2u64.to_le_bytes(), &[1, 0, 0, 0, 1, 0, 0, 0]].concat())
        .f32_tensor("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .tensor("q", &[1, 32], 8, &[&[0x00, 0x3C][..], &[2; 32]].concat())
}

#[test]
fn reads_metadata_of_every_kind() {
    for version in [2, 3] {
        let header = open(Builder { version, ..sample() }.bytes()).unwrap();
        let metadata = &header.metadata;
        assert_eq!(header.version, version);
        assert_eq!(metadata.string("general.architecture").unwrap(), Some("llama"));
        assert_eq!(metadata.u32("n").unwrap(), Some(7));
        assert_eq!(metadata.float("x").unwrap(), Some(0.5));
        assert_eq!(metadata.float("small").unwrap(), Some(-2.0));
        assert_eq!(metadata.bool("yes").unwrap(), Some(true));
        assert_eq!(metadata.strings("texts").unwrap().unwrap(), ["a", "bc", ""]);
        assert_eq!(metadata.u32("ones").unwrap(), Some(1));
        assert_eq!(metadata.u32("absent").unwrap(), None);
        let wrong = metadata.u32("large").unwrap_err().to_string();
        assert!(wrong.contains("f.gguf, metadata key large: 18446744073709551615"), "{wrong}");
        assert!(metadata.string("n").unwrap_err().to_string().contains("key n: 7; expected text"));
    }
}

#[test]
fn reads_tensors_slowest_dimension_first() {
    let store = MemoryStore::new().with("f.gguf", sample().bytes());
    ready(async {
        let header = read_header(&store, "f.gguf").await.unwrap();
        let values = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let w = header.tensors["w"].read(&store, "f.gguf", "w").await.unwrap();
        assert_eq!(w, HostTensor { shape: vec![2, 3], values });
        assert_eq!(header.tensors["q"].info.stored, StoredType::Q8_0);
        let q = header.tensors["q"].read(&store, "f.gguf", "q").await.unwrap();
        assert_eq!(q, HostTensor { shape: vec![1, 32], values: vec![2.0; 32] });
    });
}

#[test]
fn headers_longer_than_the_first_read_are_read_in_pieces() {
    let long: Vec<String> = (0..300_000).map(|i| i.to_string()).collect();
    let texts: Vec<&str> = long.iter().map(String::as_str).collect();
    let bytes = sample().texts("many", &texts).bytes();
    assert!(bytes.len() > 3 << 20);
    let header = open(bytes).unwrap();
    assert_eq!(header.metadata.strings("many").unwrap().unwrap(), long);
    assert_eq!(header.tensors.len(), 2);
}

/// A file of `size` bytes of which all but the first are zeros, read in small ranges only.
struct Sparse {
    head: Vec<u8>,
    size: u64,
}

impl Store for Sparse {
    async fn size(&self, _: &str) -> Result<Option<u64>> {
        Ok(Some(self.size))
    }

    async fn read(&self, _: &str, range: Range<u64>) -> Result<Vec<u8>> {
        assert!(range.end <= self.size && range.end < 2 << 20, "read {range:?} of {}", self.size);
        let byte = |at: u64| self.head.get(at as usize).copied().unwrap_or(0);
        Ok(range.map(byte).collect())
    }

    async fn write(&self, _: &str, _: &[u8]) -> Result<()> {
        unreachable!("a reader writes nothing")
    }

    async fn append(&self, _: &str, _: &[u8]) -> Result<()> {
        unreachable!("a reader writes nothing")
    }

    async fn rename(&self, _: &str, _: &str) -> Result<()> {
        unreachable!("a reader writes nothing")
    }

    async fn list(&self, _: &str) -> Result<Vec<String>> {
        unreachable!("a reader knows its key")
    }

    async fn remove(&self, _: &str) -> Result<()> {
        unreachable!("a reader writes nothing")
    }
}

#[test]
fn the_header_alone_is_read_of_a_large_file() {
    let large = Builder::new().tensor("w", &[20_000_000, 256], 0, &[]);
    let store = Sparse { head: large.bytes(), size: 30 << 30 };
    let header = ready(read_header(&store, "f.gguf")).unwrap();
    assert_eq!(header.tensors["w"].info.n_bytes, 20_480_000_000);
}

#[test]
fn a_header_longer_than_any_real_one_is_refused_unread() {
    let lying = Builder::new().pair("k", 8, (20u64 << 30).to_le_bytes());
    let store = Sparse { head: lying.bytes(), size: 30 << 30 };
    let error = ready(read_header(&store, "f.gguf")).unwrap_err().to_string();
    assert!(
        error.contains("f.gguf: its header takes") && error.contains("at most 100000000 bytes"),
        "{error}"
    );
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample().bytes();
    for n in 0..bytes.len() {
        assert!(open(bytes[..n].to_vec()).is_err(), "cut to {n} of {} bytes", bytes.len());
    }
}

#[test]
fn refuses_what_is_no_gguf_of_a_known_version() {
    refuses(b"GG".to_vec(), "the format's mark takes 4 bytes, 2 remain");
    refuses(b"PK\x03\x04 not a model".to_vec(), "begins with \"PK");
    refuses(
        Builder { version: 1, ..sample() }.bytes(),
        "version 1 is not supported; supported: little-endian GGUF, versions 2 and 3",
    );
    refuses(Builder { version: 3 << 24, ..sample() }.bytes(), "big-endian GGUF");
}

#[test]
fn refuses_counts_and_lengths_beyond_the_file() {
    let with = |at: usize, value: u64| {
        let mut bytes = sample().bytes();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    refuses(with(8, 1 << 40), "the number of tensors is 1099511627776; expected at most");
    refuses(with(16, u64::MAX), "the number of metadata keys is 18446744073709551615");
    refuses(with(24, u64::MAX), "a metadata key takes 18446744073709551615 bytes");
    let list = |kind: u32, n: u64| {
        let bytes = [&kind.to_le_bytes()[..], &n.to_le_bytes()].concat();
        Builder::new().pair("list", 9, bytes).bytes()
    };
    refuses(list(8, 1 << 60), "the length of a list is 1152921504606846976");
    refuses(list(12, 1 << 61), "the length of a list");
    refuses(list(9, 1), "key list: a list of lists; expected a list of texts or numbers");
    refuses(list(99, 1), "key list: value type 99");
    refuses(Builder::new().pair("odd", 13, []).bytes(), "key odd: value type 13");
    refuses(
        Builder::new().pair("text", 8, [&[1, 0, 0, 0, 0, 0, 0, 0][..], &[0xFF]].concat()).bytes(),
        "is not UTF-8",
    );
    let mut twice = Builder::new().u32("k", 1).u32("l", 1).bytes();
    let at = twice.iter().position(|&byte| byte == b'l').unwrap();
    twice[at] = b'k';
    refuses(twice, "metadata key k stands twice");
}

#[test]
fn refuses_tensors_that_do_not_fit_the_file() {
    let with = |change: fn(&mut Builder)| {
        let mut builder = sample();
        change(&mut builder);
        builder.bytes()
    };
    refuses(with(|b| b.tensors[0].dims = vec![1; 5]), "tensor w: 5 dimensions; expected at most 4");
    refuses(with(|b| b.tensors[0].dims = vec![1 << 40, 1 << 40]), "overflows");
    refuses(with(|b| b.tensors[0].dims = vec![1 << 62]), "tensor w: shape [4611686018427387904] overflows");
    refuses(
        with(|b| b.tensors[0].dims = vec![4_000_000_000]),
        "tensor w: its 16000000000 bytes end past the file",
    );
    refuses(
        with(|b| b.tensors[1].dims = vec![33]),
        "tensor q: shape [33] has rows of 33 values, no whole blocks of 32",
    );
    refuses(
        with(|b| b.tensors[0].type_number = 10),
        "tensor w: type 10 (Q2_K) is not supported; supported: F64, F32",
    );
    refuses(with(|b| b.tensors[0].type_number = 4), "tensor w: type 4 (unknown to attune)");
    refuses(with(|b| b.tensors[1].offset = 0), "tensor q: offset 0; expected 32, behind the tensor before");
    refuses(with(|b| b.tensors[1].offset = 33), "tensor q: offset 33");
    refuses(with(|b| b.tensors[1].offset = u64::MAX), "tensor q: offset 18446744073709551615");
    refuses(with(|b| b.tensors[1].name = "w".into()), "tensor w: its name stands twice");
    refuses(with(|b| b.tensors[0].name.clear()), "its name is empty");
    refuses(
        sample().u32("general.alignment", 24).bytes(),
        "key general.alignment: 24; expected a power of two",
    );
    refuses(
        sample().u32("general.alignment", 0).bytes(),
        "key general.alignment: 0; expected a power of two",
    );
    refuses(sample().u32("general.alignment", 1 << 31).bytes(), "expected");
    refuses(sample().text("general.alignment", "32").bytes(), "key general.alignment: the text");
}

#[test]
fn a_long_name_is_shortened_in_messages() {
    let error = open(sample().tensor(&"x\n".repeat(5000), &[1], 4, &[]).bytes()).unwrap_err().to_string();
    assert!(error.len() < 1000 && !error.contains('\n'), "{error}");
}

/// What the header's memory is bounded by: names, texts and numbers are copies of the file's bytes.
fn n_bytes_held(header: &Header) -> usize {
    let values = header.metadata.values.iter().map(|(key, value)| {
        key.len()
            + match value {
                Value::Scalar(_) => 1,
                Value::String(text) => text.len(),
                Value::Array(Array::Strings(texts)) => texts.iter().map(|text| 8 + text.len()).sum(),
                Value::Array(Array::Numbers(numbers)) => numbers.iter().len(),
            }
    });
    values.sum::<usize>() + header.tensors.keys().map(|name| 24 + name.len()).sum::<usize>()
}

async fn read_all(bytes: Vec<u8>) -> Result<usize, Error> {
    let store = MemoryStore::new().with("f", bytes);
    let header = read_header(&store, "f").await?;
    for (name, entry) in &header.tensors {
        entry.read(&store, "f", name).await?;
    }
    Ok(n_bytes_held(&header))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A file with bytes changed, cut or added is refused or read within its own bytes; nothing panics.
    #[test]
    fn mutated_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = sample().bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let n_bytes = bytes.len();
        if let Ok(n_held) = ready(read_all(bytes)) {
            prop_assert!(n_held <= n_bytes);
        }
    }

    /// A whole 64-bit field replaced by a hostile number.
    #[test]
    fn hostile_numbers_never_panic(
        at in any::<prop::sample::Index>(),
        value in prop_oneof![Just(u64::MAX), Just(1 << 63), Just(1 << 32), Just(0), any::<u64>()],
    ) {
        let mut bytes = sample().bytes();
        let at = at.index(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let _ = ready(read_all(bytes));
    }

    #[test]
    fn random_bytes_behind_the_mark_never_panic(
        tensors in 0u64..4,
        pairs in 0u64..4,
        tail in prop::collection::vec(prop_oneof![Just(0u8), Just(1), 0u8..16, any::<u8>()], 0..300),
    ) {
        let mark = [&b"GGUF"[..], &3u32.to_le_bytes(), &tensors.to_le_bytes(), &pairs.to_le_bytes()].concat();
        let _ = ready(read_all([&mark[..], &string("k"), &tail].concat()));
        let _ = ready(read_all([&mark[..], &tail].concat()));
    }
}
