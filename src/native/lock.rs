//! One writer a folder: a lock that the system releases when its process ends, however it ends.

use super::atomic::{create_folder, io_error, remove_temporaries};
use crate::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Name of the lock file in a locked folder. It stays there: removing it would race with others.
const LOCK_FILE: &str = ".lock";

/// A folder held by this process until dropped.
#[derive(Debug)]
pub struct FolderLock {
    // Closing the file releases the lock.
    _file: File,
}

impl FolderLock {
    /// Takes `folder`, creating it, and removes what a killed writer left half-written in it.
    ///
    /// # Errors
    /// [`Error::Input`] where another process holds it; [`Error::Io`] where it cannot be created.
    pub fn acquire(folder: &Path) -> Result<Self> {
        let mut file = open(folder)?;
        match file.try_lock() {
            Ok(()) => Self::held(file, folder),
            Err(TryLockError::WouldBlock) => Err(Error::input(
                folder.display().to_string(),
                format!("busy: {} is writing to it", holder(&mut file)),
                "a folder that no other run is using; wait for that run, stop it, or name another folder",
            )),
            Err(TryLockError::Error(source)) => Err(io_error("lock", folder, source)),
        }
    }

    /// Takes `folder`, sleeping while another process holds it; `on_wait` is told the holder first.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be created or locked.
    pub fn wait(folder: &Path, on_wait: &mut dyn FnMut(String)) -> Result<Self> {
        let mut file = open(folder)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                on_wait(holder(&mut file));
                file.lock().map_err(|source| io_error("lock", folder, source))?;
            }
            Err(TryLockError::Error(source)) => return Err(io_error("lock", folder, source)),
        }
        Self::held(file, folder)
    }

    fn held(mut file: File, folder: &Path) -> Result<Self> {
        remove_temporaries(folder);
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| write!(file, "{}", std::process::id()))
            .map_err(|source| io_error("lock", folder, source))?;
        Ok(Self { _file: file })
    }
}

fn open(folder: &Path) -> Result<File> {
    create_folder(folder)?;
    let path = folder.join(LOCK_FILE);
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| io_error("lock", &path, source))
}

/// "process 1234", as far as the lock file tells (Windows does not let others read a locked file).
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(20).read_to_string(&mut text) {
        Ok(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("process {text}")
        }
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_held_folder_is_busy_until_released() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("runs/a");
        let held = FolderLock::acquire(&run).unwrap();
        let error = FolderLock::acquire(&run).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("busy") && text.contains(&std::process::id().to_string()), "{text}");
        drop(held);
        FolderLock::acquire(&run).unwrap();
    }

    #[test]
    fn waiting_ends_when_the_holder_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let held = FolderLock::acquire(folder.path()).unwrap();
        let (told, hear) = std::sync::mpsc::channel();
        let path = folder.path().to_owned();
        let waiter = std::thread::spawn(move || {
            FolderLock::wait(&path, &mut |holder| told.send(holder).unwrap()).map(drop)
        });
        assert!(hear.recv().unwrap().contains("process"));
        drop(held);
        waiter.join().unwrap().unwrap();
    }
}
