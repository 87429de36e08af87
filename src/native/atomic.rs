//! Files that appear whole or not at all, and what to tell the user when the system refuses.

use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// End of the names of files in the making; they begin with a dot.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// A file being written beside its destination. Dropped before [`AtomicFile::commit`], it leaves nothing.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    temporary: Temporary,
    destination: PathBuf,
}

/// Removes its file when dropped, unless that was given its final name.
#[derive(Debug)]
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // Nothing better can be done here, and the error that led here is the one to report.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl AtomicFile {
    /// Begins a file that will be called `destination`, creating its folder.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder or the temporary file cannot be created.
    pub fn create(destination: &Path) -> Result<Self> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let Some(name) = destination.file_name().and_then(|name| name.to_str()) else {
            return Err(Error::input(
                destination.display().to_string(),
                "names no file",
                "a path that ends in a file name",
            ));
        };
        let folder = parent(destination);
        create_folder(&folder)?;
        // Process and serial number keep writers of one key apart; the folder keeps the rename within one disk.
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".{name}.{}-{serial}{TEMPORARY_SUFFIX}", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|source| io_error("create", &path, source))?;
        Ok(Self { file, temporary: Temporary(Some(path)), destination: destination.to_owned() })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`Error::Io`], such as a full disk.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|source| io_error("write", &self.destination, source))
    }

    /// Gives the file its name, once its bytes are on the disk.
    ///
    /// # Errors
    /// [`Error::Io`]; the old file, where there was one, is then still in place.
    pub fn commit(mut self) -> Result<()> {
        self.file.sync_all().map_err(|source| io_error("write", &self.destination, source))?;
        if let Some(path) = &self.temporary.0 {
            durable_rename(path, &self.destination)?;
        }
        self.temporary.0 = None;
        Ok(())
    }
}

/// Replaces the file at `path`: a reader, or a crash, sees the old bytes or the new.
///
/// # Errors
/// [`Error::Io`]; the old file is then still in place and nothing lies beside it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Renames and puts the new name on the disk, so that a power cut cannot undo it.
pub(super) fn durable_rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|source| io_error("rename", from, source))?;
    sync_folder(&parent(to));
    Ok(())
}

/// Flushes a folder's entries. Some file systems refuse to; the rename itself has happened by then.
#[cfg(unix)]
fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// Windows has no such call: its renames are journalled.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) {}

/// Creates a folder and those above it.
pub(super) fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| io_error("create", folder, source))
}

/// The folder a path lies in; the current one for a bare name.
pub(super) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Removes what killed writers left below `folder`. Only the holder of the folder's lock may call it.
pub(super) fn remove_temporaries(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder {
            remove_temporaries(&path);
        } else if entry.file_name().to_str().is_some_and(is_temporary) {
            // One that stays is merely space lost.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether a file name is that of an [`AtomicFile`] in the making: `.NAME.PROCESS-SERIAL.tmp`. Other programs have
/// temporary files of their own.
pub(super) fn is_temporary(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(TEMPORARY_SUFFIX)?.rsplit_once('.'))
        .and_then(|(_, numbers)| numbers.split_once('-'));
    numbers.is_some_and(|(process, serial)| is_number(process) && is_number(serial))
}

/// [`Error::Io`] with what to do where the cause is one that the user can mend.
pub(super) fn io_error(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Error {
    let advice = match source.kind() {
        ErrorKind::StorageFull => "free some space, or choose a folder on another disk",
        ErrorKind::QuotaExceeded => "free some space, or choose a folder outside this quota",
        ErrorKind::FileTooLarge => {
            "the file system or a limit of this process (ulimit -f) does not allow a file of this size"
        }
        ErrorKind::PermissionDenied => "change the permissions, or choose another folder",
        ErrorKind::ReadOnlyFilesystem => "choose a folder that can be written to",
        _ => return Error::io(action, path, source),
    };
    Error::io(action, path, io::Error::new(source.kind(), format!("{source}; {advice}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_abandoned_file_leaves_the_old_one_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/value");
        write_atomically(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half of the ne").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(parent(&path)).unwrap().count(), 1);
    }

    #[test]
    fn temporaries_of_a_killed_writer_are_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        write_atomically(&folder.path().join("a/kept.tmp"), b"1").unwrap();
        write_atomically(&folder.path().join("a/.others.tmp"), b"1").unwrap();
        let mut killed = AtomicFile::create(&folder.path().join("a/b/value")).unwrap();
        killed.write_all(b"2").unwrap();
        std::mem::forget(killed);
        assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1);
        remove_temporaries(folder.path());
        assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 0);
        assert!(folder.path().join("a/kept.tmp").exists() && folder.path().join("a/.others.tmp").exists());
    }

    #[test]
    fn a_full_disk_is_reported_with_what_to_do() {
        let error = io_error("write", "x", io::Error::from(ErrorKind::StorageFull)).to_string();
        assert!(error.contains("could not write x") && error.contains("free some space"), "{error}");
    }
}
