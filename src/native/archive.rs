//! Single members out of archives: zip to a file, tar in memory. Nothing else is unpacked.

use super::atomic::{AtomicFile, io_error};
use super::download::{PROGRESS_INTERVAL, check_space};
use super::{Events, hex, human_bytes};
use crate::protocol::Event;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;
use std::time::Instant;

/// A file inside an archive, known to the byte.
#[derive(Debug)]
pub(super) struct Member {
    /// Name within the archive, or its end.
    pub name: &'static str,
    /// Bytes when unpacked.
    pub size: u64,
    /// SHA-256 of the unpacked bytes, in hexadecimal.
    pub sha256: &'static str,
}

/// Unpacks the one member of `archive` whose name ends in `member.name` to the file `to`.
///
/// # Errors
/// [`Error::Input`] where the archive is damaged, lacks the member, or holds another one; [`Error::Io`].
pub(super) fn unzip_member(archive: &Path, member: &Member, to: &Path, events: Events) -> Result<()> {
    let file = File::open(archive).map_err(|source| io_error("read", archive, source))?;
    let damaged = |problem: String| {
        Error::input(
            archive.display().to_string(),
            problem,
            "the published archive; remove it and fetch again",
        )
    };
    let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(error.to_string()))?;
    let index = (0..zip.len())
        .find(|&index| zip.name_for_index(index).is_some_and(|name| is_called(name, member.name)))
        .ok_or_else(|| damaged(format!("holds no {}", member.name)))?;
    let mut packed = zip.by_index(index).map_err(|error| damaged(error.to_string()))?;
    check_space(to, member.size)?;
    let mut out = AtomicFile::create(to)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    let mut done = 0;
    let mut told = Instant::now();
    let task = format!("unpacking {}", member.name);
    loop {
        let n = packed.read(&mut chunk).map_err(|error| damaged(error.to_string()))?;
        if n == 0 {
            break;
        }
        done += n as u64;
        // Stops a lying archive before it fills the disk.
        if done > member.size {
            return Err(damaged(format!("{} is longer than {}", member.name, human_bytes(member.size))));
        }
        hash.update(&chunk[..n]);
        out.write_all(&chunk[..n])?;
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            events(Event::Progress { task: task.clone(), done, total: member.size });
        }
    }
    events(Event::Progress { task, done, total: member.size });
    let found = hex(&hash.finalize());
    if found != member.sha256 {
        return Err(damaged(format!(
            "{} has the checksum (SHA-256) {found}, not {}",
            member.name, member.sha256
        )));
    }
    out.commit()
}

/// The bytes of the first member of a tar archive whose name ends in `name`, or `None`.
///
/// Reads ustar, and GNU's and pax's archives where the name fits into the header (POSIX.1-1988, section 10.1.1).
///
/// # Errors
/// Of kind `InvalidData` for a header with a wrong checksum or size, or a member above `limit` bytes; else those of
/// `archive`.
pub(super) fn tar_member(archive: &mut impl Read, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    const BLOCK: u64 = 512;
    let mut header = [0; BLOCK as usize];
    loop {
        match archive.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        // A block of zeros ends the archive.
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The sum is taken as if its own field held spaces.
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(i, byte)| if (148..156).contains(&i) { 32 } else { u64::from(*byte) })
            .sum();
        let size = octal(&header[124..136]);
        let (Some(size), true) = (size, octal(&header[148..156]) == Some(sum)) else {
            return Err(invalid("a tar header is damaged"));
        };
        let is_file = matches!(header[156], b'0' | 0);
        let is_ustar = header[257..262] == *b"ustar";
        let prefix = if is_ustar { text(&header[345..500]) } else { String::new() };
        let own = text(&header[..100]);
        let full = if prefix.is_empty() { own } else { format!("{prefix}/{own}") };
        if is_file && is_called(&full, name) {
            if size > limit {
                return Err(invalid(&format!("{full} has {size} bytes; expected at most {limit}")));
            }
            let mut bytes = Vec::new();
            archive.by_ref().take(size).read_to_end(&mut bytes)?;
            return if bytes.len() as u64 == size {
                Ok(Some(bytes))
            } else {
                Err(ErrorKind::UnexpectedEof.into())
            };
        }
        let padded =
            size.checked_next_multiple_of(BLOCK).ok_or_else(|| invalid("a tar header is damaged"))?;
        io::copy(&mut archive.by_ref().take(padded), &mut io::sink())?;
    }
}

/// Whether `path` is `name` or ends in `/name`.
fn is_called(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|folder| folder.is_empty() || folder.ends_with('/'))
}

fn octal(field: &[u8]) -> Option<u64> {
    u64::from_str_radix(text(field).trim(), 8).ok()
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    /// A ustar archive of `members`.
    pub fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, bytes) in members {
            let mut header = [0u8; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[100..108].copy_from_slice(b"0000644\0");
            header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
            header[148..156].fill(b' ');
            header[156] = b'0';
            header[257..263].copy_from_slice(b"ustar\0");
            let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            archive.extend(header);
            archive.extend(*bytes);
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
        archive.resize(archive.len() + 1024, 0);
        archive
    }

    #[test]
    fn a_tar_member_is_found_behind_others() {
        let archive = tar(&[("p/other.txt", &[1; 700]), ("p/wanted.txt", b"here"), ("p/last", b"")]);
        assert_eq!(tar_member(&mut &archive[..], "wanted.txt", 9).unwrap().unwrap(), b"here");
        assert_eq!(tar_member(&mut &archive[..], "p/last", 9).unwrap().unwrap(), b"");
        assert_eq!(tar_member(&mut &archive[..], "ted.txt", 9).unwrap(), None, "a whole name is asked for");
    }

    #[test]
    fn damaged_and_oversized_tars_are_refused() {
        let archive = tar(&[("a", &[1; 700]), ("b", b"here")]);
        assert!(tar_member(&mut &archive[..], "a", 699).unwrap_err().to_string().contains("700 bytes"));
        assert!(tar_member(&mut &archive[..900], "a", 999).is_err(), "torn in the member");
        let mut damaged = archive;
        damaged[130] ^= 1;
        assert!(tar_member(&mut &damaged[..], "b", 999).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn the_systems_tar_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("member.txt"), "by tar").unwrap();
        for format in ["ustar", "gnu", "pax"] {
            let made = std::process::Command::new("tar")
                .args(["--format", format, "-cf", "-", "./member.txt"])
                .current_dir(folder.path())
                .output();
            // Systems whose tar knows no formats have nothing to compare with.
            let Ok(made) = made else { return };
            if made.status.success() {
                assert_eq!(tar_member(&mut &made.stdout[..], "member.txt", 99).unwrap().unwrap(), b"by tar");
            }
        }
    }

    fn zipped(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.whl");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
        zip.finish().unwrap();
        (folder, path)
    }

    const MEMBER: Member = Member {
        name: "tiny.gguf",
        size: 3,
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };

    #[test]
    fn a_zip_member_is_unpacked_and_verified() {
        let (folder, archive) = zipped("package/tiny.gguf", b"abc");
        let to = folder.path().join("out/tiny.gguf");
        unzip_member(&archive, &MEMBER, &to, &mut |_| {}).unwrap();
        assert_eq!(std::fs::read(to).unwrap(), b"abc");
    }

    #[test]
    fn another_zip_member_leaves_nothing() {
        for (name, bytes, problem) in [
            ("p/tiny.gguf", &b"abd"[..], "checksum"),
            ("p/tiny.gguf", b"abcd", "longer"),
            ("p/notiny.gguf", b"abc", "holds no tiny.gguf"),
        ] {
            let (folder, archive) = zipped(name, bytes);
            let to = folder.path().join("out/tiny.gguf");
            let error = unzip_member(&archive, &MEMBER, &to, &mut |_| {}).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
            assert!(std::fs::read_dir(folder.path().join("out")).map_or(0, Iterator::count) == 0);
        }
    }
}
