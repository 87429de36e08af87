#![allow(clippy::unwrap_used)]

use super::write::{Written, directory, local_header};
use super::{extract, members, write};
use crate::Result;
use crate::store::Store;
use crate::store::memory::{MemoryStore, ready};
use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, ZipArchive, ZipWriter};
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::ops::Range;

const LIMIT: u64 = 1 << 20;

fn made_elsewhere(files: &[(&str, &[u8], CompressionMethod)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes, method) in files {
        if name.ends_with('/') {
            writer.add_directory(*name, SimpleFileOptions::default()).unwrap();
            continue;
        }
        writer.start_file(*name, SimpleFileOptions::default().compression_method(*method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn unpacked(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let store = MemoryStore::new().with("a.zip", archive);
    ready(async {
        let mut out = Vec::new();
        for member in members(&store, "a.zip", LIMIT).await? {
            extract(&store, "a.zip", &member, "out").await?;
            out.push((member.name, store.read_all("out", LIMIT).await?));
        }
        Ok(out)
    })
}

fn refusal(archive: &[u8]) -> String {
    let error = unpacked(archive).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

/// Compressible, and longer than one buffer's worth of nothing.
fn text() -> Vec<u8> {
    (0..9000_u32).flat_map(|i| format!("line {}\n", i % 700).into_bytes()).collect()
}

#[test]
fn other_programs_read_what_is_written_and_the_other_way_round() {
    let text = text();
    let store = MemoryStore::new().with("run/a.txt", &text[..]).with("run/b", *b"");
    let mut told = Vec::new();
    ready(write(&store, "run", &["a.txt", "b"], "run/a.zip", &mut |done, total| told.push((done, total))))
        .unwrap();
    assert_eq!(told.last(), Some(&(2 * text.len() as u64, 2 * text.len() as u64)));
    let bytes = ready(store.read_all("run/a.zip", LIMIT)).unwrap();
    let mut archive = ZipArchive::new(Cursor::new(&bytes)).unwrap();
    let mut read = Vec::new();
    archive.by_name("a.txt").unwrap().read_to_end(&mut read).unwrap();
    assert_eq!((read, archive.len()), (text.clone(), 2));
    assert_eq!(unpacked(&bytes).unwrap(), [("a.txt".into(), text.clone()), ("b".into(), vec![])]);

    let files: [(&str, &[u8], _); 3] = [
        ("adapter/", b"", CompressionMethod::Stored),
        ("adapter/a.txt", &text, CompressionMethod::Deflated),
        ("adapter/b", b"stored", CompressionMethod::Stored),
    ];
    let found = unpacked(&made_elsewhere(&files)).unwrap();
    assert_eq!(found, [("adapter/a.txt".into(), text), ("adapter/b".into(), b"stored".to_vec())]);
}

#[test]
fn archives_that_claim_too_much_or_are_damaged_are_refused() {
    let text = text();
    let deflated = made_elsewhere(&[("a", &text, CompressionMethod::Deflated)]);
    let stored = made_elsewhere(&[("a", &text, CompressionMethod::Stored)]);
    for archive in [&deflated, &stored] {
        for cut in [0, 10, archive.len() / 2, archive.len() - 1] {
            assert!(refusal(&archive[..cut]).contains("whole zip archive"), "{cut}");
        }
        // Whatever byte is wrong, the content is right or nothing comes out.
        for at in (0..archive.len()).step_by(7) {
            let mut spoilt = archive.clone();
            spoilt[at] ^= 0x55;
            if let Ok(found) = unpacked(&spoilt) {
                assert!(found.iter().all(|(_, bytes)| *bytes == text), "byte {at}");
            }
        }
    }
    let central = deflated.windows(4).rposition(|sign| sign == b"PK\x01\x02").unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = deflated.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let bomb = refusal(&with(central + 24, &u32::to_le_bytes(3 << 30)));
    assert!(bomb.contains("claims 3221225472 bytes for a"), "{bomb}");
    assert!(refusal(&with(central + 24, &u32::to_le_bytes(9))).contains("is damaged"));
    assert!(refusal(&with(central + 8, &[1])).contains("encrypted"));
    assert!(refusal(&with(central + 10, &[12])).contains("packed by method 12"));
    let long = made_elsewhere(&[("a", &vec![0; 2 << 20], CompressionMethod::Deflated)]);
    assert!(refusal(&long).contains("unpacks to 2097152 bytes; expected at most 1048576"));
    for name in ["../a", "/a", "c:/a", "x/../../a"] {
        let error = refusal(&made_elsewhere(&[(name, b"x", CompressionMethod::Stored)]));
        assert!(error.contains("a file called"), "{name}: {error}");
    }
}

/// A file of zeros but for a few pieces, as large as one likes; every other key is in memory.
struct Sparse {
    pieces: Vec<(u64, Vec<u8>)>,
    size: u64,
    at: u64,
    memory: MemoryStore,
}

impl Sparse {
    fn zeros_and_pieces(&self, range: Range<u64>) -> Vec<u8> {
        let mut out = vec![0; (range.end - range.start) as usize];
        for (start, piece) in &self.pieces {
            let overlap = range.start.max(*start)..range.end.min(start + piece.len() as u64);
            if overlap.start < overlap.end {
                let within = |from: u64| (overlap.start - from) as usize..(overlap.end - from) as usize;
                out[within(range.start)].copy_from_slice(&piece[within(*start)]);
            }
        }
        out
    }
}

impl Store for Sparse {
    async fn size(&self, key: &str) -> Result<Option<u64>> {
        if key == "big.zip" { Ok(Some(self.size)) } else { self.memory.size(key).await }
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        if key == "big.zip" { Ok(self.zeros_and_pieces(range)) } else { self.memory.read(key, range).await }
    }

    async fn write(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.memory.write(key, bytes).await
    }

    async fn append(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.memory.append(key, bytes).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.memory.rename(from, to).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.memory.list(prefix).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.memory.remove(key).await
    }
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let end = self.size.min(self.at + buffer.len() as u64);
        let bytes = self.zeros_and_pieces(self.at..end);
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at = end;
        Ok(bytes.len())
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(back) => self.size.saturating_add_signed(back),
            SeekFrom::Current(on) => self.at.saturating_add_signed(on),
        };
        Ok(self.at)
    }
}

#[test]
fn sizes_and_places_beyond_4_gb_are_told() {
    const BIG: u64 = 5 << 30;
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    };
    // The big file's checksum is not asked for: nobody reads five gigabytes in a test.
    let first = Written { name: "model.safetensors".into(), crc: 0, size: BIG, offset: 0 };
    let header = local_header(&first);
    let offset = header.len() as u64 + BIG;
    let second = Written { name: "config.json".into(), crc: crc(b"{}"), size: 2, offset };
    let mut rest = local_header(&second);
    rest.extend(b"{}");
    let files_end = offset + rest.len() as u64;
    rest.extend(directory(&[first, second], files_end));
    let size = offset + rest.len() as u64;
    let mut sparse =
        Sparse { pieces: vec![(0, header), (offset, rest)], size, at: 0, memory: MemoryStore::new() };

    let listed = ready(members(&sparse, "big.zip", 2 * BIG)).unwrap();
    let sizes: Vec<_> = listed.iter().map(|member| (member.name.as_str(), member.size)).collect();
    assert_eq!(sizes, [("model.safetensors", BIG), ("config.json", 2)]);
    ready(extract(&sparse, "big.zip", &listed[1], "config.json")).unwrap();
    assert_eq!(ready(sparse.memory.read_all("config.json", 9)).unwrap(), b"{}");
    assert!(ready(members(&sparse, "big.zip", BIG)).is_err());

    let mut archive = ZipArchive::new(&mut sparse).unwrap();
    assert_eq!(archive.by_name("model.safetensors").unwrap().size(), BIG);
    let mut read = String::new();
    archive.by_name("config.json").unwrap().read_to_string(&mut read).unwrap();
    assert_eq!(read, "{}");
}
