#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::Store as _;
use crate::store::memory::{MemoryStore, ready};
use proptest::prelude::*;

fn file(header: &str, n_data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + n_data, 0);
    bytes
}

/// Fails through both readers with the same message, which must contain `expected`.
fn refuses(bytes: Vec<u8>, expected: &str) {
    let whole = from_bytes(&bytes, "f.safetensors").unwrap_err();
    assert_eq!(whole.exit_code(), 2);
    let store = MemoryStore::new().with("f.safetensors", bytes);
    let ranged = ready(read_header(&store, "f.safetensors")).unwrap_err().to_string();
    assert_eq!(whole.to_string(), ranged);
    assert!(ranged.contains("f.safetensors") && ranged.contains(expected), "{ranged}");
}

fn sample() -> (IndexMap<String, HostTensor>, IndexMap<String, String>) {
    let tensor = |shape: &[usize]| {
        let values = (0..shape.iter().product()).map(|i: usize| i as f32 - 1.5).collect();
        HostTensor { shape: shape.to_vec(), values }
    };
    let tensors = [("b.weight", tensor(&[2, 3])), ("a", tensor(&[])), ("none", tensor(&[0, 4]))];
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    (tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into(), metadata)
}

#[test]
fn what_is_written_is_read() {
    let (tensors, metadata) = sample();
    let bytes = to_bytes(&tensors, &metadata).unwrap();
    assert_eq!(from_bytes(&bytes, "x").unwrap(), (tensors.clone(), metadata));
    let store = MemoryStore::new().with("x", bytes);
    ready(async {
        let header = read_header(&store, "x").await.unwrap();
        for (name, tensor) in &tensors {
            let entry = &header.tensors[name];
            assert!(header.tensors["b.weight"].bytes.start.is_multiple_of(8));
            assert_eq!(&entry.read(&store, "x", name).await.unwrap(), tensor);
        }
    });
}

#[test]
fn streaming_writes_the_same_bytes_and_nothing_on_failure() {
    let (tensors, metadata) = sample();
    let shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    let store = MemoryStore::new().with("out", *b"old");
    ready(async {
        let failing = async |name: &str| match name {
            "a" => Err(crate::Error::Internal("no a".into())),
            name => Ok(tensors[name].clone()),
        };
        assert!(write_streaming(&store, "out", &shapes, &metadata, failing).await.is_err());
        assert_eq!(store.list("").await.unwrap(), ["out"]);
        assert_eq!(store.read("out", 0..3).await.unwrap(), b"old");
        let given = async |name: &str| Ok(tensors[name].clone());
        write_streaming(&store, "out", &shapes, &metadata, given).await.unwrap();
        assert_eq!(store.read_all("out", 1 << 20).await.unwrap(), to_bytes(&tensors, &metadata).unwrap());
        assert_eq!(store.list("").await.unwrap(), ["out"]);
    });
}

#[test]
fn a_tensor_unlike_its_announcement_is_an_internal_error() {
    let (mut tensors, metadata) = sample();
    tensors["a"].values.push(0.0);
    assert!(to_bytes(&tensors, &metadata).unwrap_err().to_string().contains("tensor a"));
}

#[test]
fn refuses_headers_that_do_not_fit_the_file() {
    refuses(vec![], "0 bytes");
    refuses(vec![1, 2, 3], "3 bytes");
    refuses([&[255; 8][..], b"{}"].concat(), "header length 18446744073709551615; expected at most 2 bytes");
    refuses(file("{}", 0)[..9].to_vec(), "header length 2; expected at most 1 bytes");
    refuses(file("[]", 0), "tensors by name");
    refuses(file("{\"a\":", 0), "header in JSON");
    refuses(file("{\"a\":1}", 0), "header");
    refuses(file("\u{1}", 0), "header in JSON");
    refuses(file(&"[".repeat(10_000), 0), "header in JSON");
    refuses(file("{}", 4), "4 bytes after the last tensor");
}

#[test]
fn refuses_tensors_that_do_not_fit_their_bytes() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        file(&format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), 8)
    };
    refuses(
        one("F32", "[3]", "[0,8]"),
        "tensor w: data_offsets [0, 8]; expected 12 bytes for shape [3] of F32",
    );
    refuses(one("F32", "[2]", "[8,0]"), "data_offsets [8, 0]");
    refuses(one("F32", "[1000000000,4]", "[0,16000000000]"), "an end within the file's 8 bytes of data");
    refuses(one("F32", "[2]", "[18446744073709551608,18446744073709551615]"), "expected 8 bytes");
    refuses(one("U8", "[2]", "[18446744073709551613,18446744073709551615]"), "an end within");
    refuses(one("F32", "[4294967296,4294967296,4294967296]", "[0,8]"), "overflows");
    refuses(one("U8", &format!("{:?}", [1; 65]), "[0,8]"), "more than 64 dimensions");
    refuses(one("F32", "[-2]", "[0,8]"), "header in JSON");
    refuses(one("F32", "[2.5]", "[0,8]"), "header in JSON");
    refuses(one("F8_E4M3", "[8]", "[0,8]"), "dtype F8_E4M3 is not supported; supported: F64, F32");
    refuses(file(r#"{"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0), "its name is empty");
}

#[test]
fn refuses_overlaps_gaps_and_duplicates() {
    let entry = |name: &str, start: usize, end: usize| {
        let n = end - start;
        format!(r#""{name}":{{"dtype":"U8","shape":[{n}],"data_offsets":[{start},{end}]}}"#)
    };
    let two = |a: String, b: String| file(&format!("{{{a},{b}}}"), 8);
    refuses(two(entry("a", 0, 5), entry("b", 4, 8)), "tensor b: its bytes begin at 4 and overlap");
    refuses(
        two(entry("a", 0, 3), entry("b", 4, 8)),
        "tensor b: its bytes begin at 4 and leave a gap; expected a begin at 3",
    );
    refuses(two(entry("a", 0, 4), entry("a", 4, 8)), "a name stands twice");
    refuses(file(r#"{"__metadata__":{"a":"1","a":"2"}}"#, 0), "a metadata key stands twice");
    refuses(file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "a name stands twice");
    refuses(file(r#"{"__metadata__":{"a":1}}"#, 0), "header in JSON");
    let twice = r#"{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    refuses(file(twice, 0), "duplicate field `dtype`");
}

#[test]
fn mistakes_are_listed_together_up_to_a_bound_and_then_counted() {
    let entry = |i: usize| format!(r#""t{i}":{{"dtype":"F32","shape":[1],"data_offsets":[0,1]}}"#);
    let entries: Vec<_> = (0..1000).map(entry).collect();
    let error = from_bytes(&file(&format!("{{{}}}", entries.join(",")), 0), "f").unwrap_err().to_string();
    assert_eq!(error.lines().count(), 4);
    assert!(error.contains("f: 997 more tensors are as wrong; expected a whole file"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A file with bytes changed, cut or added is refused or read within its own bytes; nothing panics.
    #[test]
    fn mutated_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
        added in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let (tensors, metadata) = sample();
        let mut bytes = to_bytes(&tensors, &metadata).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(added);
        if let Ok((tensors, _)) = from_bytes(&bytes, "f") {
            let n_values: usize = tensors.values().map(|tensor| tensor.values.len()).sum();
            prop_assert!(n_values <= bytes.len());
        }
    }

    #[test]
    fn random_headers_never_panic(header in "[\\[\\]{}\":,a-f0-9.eE_ -]{0,200}", n_data in 0usize..64) {
        let _ = from_bytes(&file(&header, n_data), "f");
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_bytes(&bytes, "f");
    }
}
