//! The file system as a [`Store`].

use super::atomic::{self, durable_rename, io_error, parent, write_atomically};
use crate::store::{Store, check_key};
use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The files below one folder. A key is a relative path with forward slashes that stays below it.
#[derive(Clone, Debug)]
pub struct FileStore {
    root: PathBuf,
}

impl FileStore {
    /// A store over `root`, which need not exist before the first write.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the value of `key` lies.
    ///
    /// # Errors
    /// [`Error::Input`] where the key is empty, absolute, or could leave the folder.
    pub fn path(&self, key: &str) -> Result<PathBuf> {
        check_key(key)?;
        Ok(self.root.join(key))
    }

    fn collect(&self, folder: &str, prefix: &str, keys: &mut Vec<String>) -> Result<()> {
        let path = self.root.join(folder);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(io_error("list", &path, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|source| io_error("list", &path, source))?;
            let file_name = entry.file_name();
            // A name that is not Unicode cannot be a key.
            let Some(name) = file_name.to_str() else { continue };
            let key = format!("{folder}{name}");
            // The kind of the entry itself: links to folders are not followed, for they may form a ring.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let below = format!("{key}/");
                if below.starts_with(prefix) || prefix.starts_with(&below) {
                    self.collect(&below, prefix, keys)?;
                }
            } else if key.starts_with(prefix) && !atomic::is_temporary(name) && entry.path().is_file() {
                keys.push(key);
            }
        }
        Ok(())
    }
}

impl Store for FileStore {
    async fn size(&self, key: &str) -> Result<Option<u64>> {
        let path = self.path(key)?;
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(io_error("read", &path, error)),
        }
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let path = self.path(key)?;
        let mut file = File::open(&path).map_err(|source| io_error("read", &path, source))?;
        let size = file.metadata().map_err(|source| io_error("read", &path, source))?.len();
        // Before anything is allocated: the range may come from a lying header.
        if range.start > range.end || range.end > size {
            return Err(Error::input(
                path.display().to_string(),
                format!("bytes {}..{} were asked for", range.start, range.end),
                format!("a range within its {size} bytes"),
            ));
        }
        let n_bytes = usize::try_from(range.end - range.start)
            .map_err(|_| Error::input(key, "more bytes than this machine can address", "a smaller range"))?;
        let mut bytes = vec![0; n_bytes];
        file.seek(SeekFrom::Start(range.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| io_error("read", &path, source))?;
        Ok(bytes)
    }

    async fn write(&self, key: &str, bytes: &[u8]) -> Result<()> {
        write_atomically(&self.path(key)?, bytes)
    }

    async fn append(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(key)?;
        atomic::create_folder(&parent(&path))?;
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|source| io_error("write", &path, source))?;
        let before = file.metadata().map_err(|source| io_error("write", &path, source))?.len();
        file.write_all(bytes).map_err(|source| {
            // Half a line would make the whole log unreadable; what was there before stays.
            let _ = file.set_len(before);
            io_error("write", &path, source)
        })
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.path(from)?, self.path(to)?);
        atomic::create_folder(&parent(&to))?;
        // Appended bytes may still be in memory only; after the rename they would be taken for whole.
        File::open(&from)
            .and_then(|file| file.sync_all())
            .map_err(|source| io_error("rename", &from, source))?;
        durable_rename(&from, &to)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        if !prefix.is_empty() {
            check_key(prefix.trim_end_matches('/'))?;
        }
        // Only the folder that the prefix names can hold matches.
        let folder = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        let mut keys = Vec::new();
        self.collect(folder, prefix, &mut keys)?;
        keys.sort_unstable();
        Ok(keys)
    }

    async fn remove(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", &path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::block_on;
    use super::*;
    use proptest::prelude::*;

    fn store() -> (tempfile::TempDir, FileStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path().join("root"));
        (folder, store)
    }

    #[test]
    fn values_are_written_read_listed_renamed_and_removed() {
        let (_folder, store) = store();
        block_on(async {
            assert_eq!(store.size("a/b").await.unwrap(), None);
            assert!(store.list("").await.unwrap().is_empty());
            store.write("a/b", b"0123456789").await.unwrap();
            store.append("log", b"one\n").await.unwrap();
            store.append("log", b"two\n").await.unwrap();
            store.write("ab", b"x").await.unwrap();
            assert_eq!(store.size("a/b").await.unwrap(), Some(10));
            assert_eq!(store.size("a").await.unwrap(), None, "a folder is no value");
            assert_eq!(store.read("a/b", 3..6).await.unwrap(), b"345");
            assert_eq!(store.read("a/b", 10..10).await.unwrap(), b"");
            assert_eq!(store.read_all("log", 8).await.unwrap(), b"one\ntwo\n");
            assert!(store.read_all("log", 7).await.is_err());
            assert_eq!(store.list("").await.unwrap(), ["a/b", "ab", "log"]);
            assert_eq!(store.list("a").await.unwrap(), ["a/b", "ab"]);
            assert_eq!(store.list("a/").await.unwrap(), ["a/b"]);
            store.rename("a/b", "c/d").await.unwrap();
            assert_eq!(store.list("").await.unwrap(), ["ab", "c/d", "log"]);
            store.remove("ab").await.unwrap();
            store.remove("ab").await.unwrap();
            assert_eq!(store.size("ab").await.unwrap(), None);
        });
    }

    #[test]
    fn ranges_past_the_end_are_refused_before_allocation() {
        let (_folder, store) = store();
        block_on(async {
            store.write("v", b"12345").await.unwrap();
            #[allow(clippy::reversed_empty_ranges)]
            for range in [0..6, 5..u64::MAX, 4..3, 6..6] {
                let error = store.read("v", range).await.unwrap_err();
                assert!(error.to_string().contains("within its 5 bytes"), "{error}");
            }
        });
    }

    proptest! {
        #[test]
        fn an_accepted_key_stays_below_the_root(key in "[./\\\\a-c:]{0,12}") {
            let store = FileStore::new("/root-of-store");
            if let Ok(path) = store.path(&key) {
                prop_assert!(path.starts_with("/root-of-store"));
                prop_assert!(path.components().all(|part| part != std::path::Component::ParentDir));
            }
        }
    }

    /// Appending to a link to the device that is always full fails as on a full disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn appending_to_a_full_disk_says_what_to_do() {
        let (_folder, store) = store();
        std::fs::create_dir_all(store.root()).unwrap();
        std::os::unix::fs::symlink("/dev/full", store.root().join("log")).unwrap();
        let error = block_on(store.append("log", b"line\n")).unwrap_err();
        assert!(matches!(&error, Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull));
        assert!(error.to_string().contains("free some space"), "{error}");
    }

    /// Runs itself again in a process that may write no file above a few KiB.
    #[cfg(unix)]
    #[test]
    fn a_write_that_does_not_fit_keeps_the_old_value_and_leaves_nothing() {
        const FOLDER: &str = "ATTUNE_TEST_LIMITED_FOLDER";
        if let Some(folder) = std::env::var_os(FOLDER) {
            let store = FileStore::new(folder);
            let large = vec![7; 1 << 20];
            let written = block_on(store.write("value", &large)).unwrap_err();
            assert!(matches!(&written, Error::Io { source, .. } if source.kind() == ErrorKind::FileTooLarge));
            let appended = block_on(store.append("log", &large)).unwrap_err();
            assert!(appended.to_string().contains("ulimit"), "{appended}");
            return;
        }
        let (_folder, store) = store();
        block_on(store.write("value", b"old")).unwrap();
        block_on(store.write("log", b"line\n")).unwrap();
        let child = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["a_write_that_does_not_fit_keeps_the_old_value_and_leaves_nothing", "--nocapture"])
            .env(FOLDER, store.root())
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        assert_eq!(std::fs::read_dir(store.root()).unwrap().count(), 2, "no temporary file is left");
        assert_eq!(block_on(store.read_all("value", 99)).unwrap(), b"old");
        assert_eq!(block_on(store.read_all("log", 99)).unwrap(), b"line\n", "no half line is left");
    }
}
