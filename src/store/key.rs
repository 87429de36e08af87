//! What may be a key, and sizes as messages name them.

use crate::{Error, Result};
use std::path::{Component, Path};

/// Refuses a key that names nothing or could reach outside its store, on this system or another.
///
/// # Errors
/// [`Error::Input`] with the key.
pub fn check_key(key: &str) -> Result<()> {
    let is_plain = |part: &str| {
        // Windows would take a colon for a drive or a stream, and a backslash for a folder.
        let mut components = Path::new(part).components();
        !part.contains(['\\', ':', '\0'])
            && matches!(components.next(), Some(Component::Normal(_)))
            && components.next().is_none()
    };
    if key.split('/').all(is_plain) {
        return Ok(());
    }
    Err(Error::input(
        format!("{key:?}"),
        "is not a file of this folder",
        "a relative path with forward slashes, without `.`, `..` or a drive",
    ))
}

/// A size as people write it: "98.4 MB".
pub fn human_bytes(n_bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n_bytes as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n_bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_that_leave_the_folder_are_refused() {
        for key in ["", "/", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "a\\b", "c:/x", "a\0"] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
        for key in ["a", "a/b.json", ".hidden", "a..b/...", "模型/x y"] {
            check_key(key).unwrap();
        }
    }

    #[test]
    fn sizes_read_well() {
        let sizes = [0, 999, 1000, 98_362_432, 999_960_000, 5_000_000_000_000_000];
        assert_eq!(
            sizes.map(human_bytes),
            ["0 B", "999 B", "1.0 kB", "98.4 MB", "1.0 GB", "5000.0 TB"].map(str::to_owned)
        );
    }
}
