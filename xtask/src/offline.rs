//! The list of the page's files in its service worker, and their common version.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

const SERVICE_WORKER: &str = "sw.js";
/// Stand in `web/sw.js` where version and files belong.
const VERSION: &str = "/*version*/";
const FILES: &str = "/*files*/";

/// Writes the names of the files in `folder` into its service worker. Any other byte in any of them is another
/// version, so that a visitor never runs parts of two.
pub fn list(folder: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("could not read {}", path.display()));
    let entries = fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.context("a file of the page")?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Compressed twins have the plain file's address.
        let is_twin = [".gz", ".br"].iter().any(|ending| name.ends_with(ending));
        if entry.path().is_file() && name != SERVICE_WORKER && !is_twin {
            names.push(name);
        }
    }
    names.sort();
    let mut version = Sha256::new();
    for name in &names {
        version.update(name.as_bytes());
        version.update(Sha256::digest(read(&folder.join(name))?));
    }
    let version = base64::engine::general_purpose::STANDARD.encode(version.finalize());
    let path = folder.join(SERVICE_WORKER);
    let code = String::from_utf8(read(&path)?).context("the service worker is no text")?;
    ensure!(code.contains(VERSION) && code.contains(FILES), "{} has no place for its list", path.display());
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    let code = code.replacen(VERSION, &version, 1).replacen(FILES, &quoted.join(", "), 1);
    fs::write(&path, code).with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_with(style: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("sw.js", "const VERSION = '/*version*/';\nconst FILES = [/*files*/];\n");
        write("style.css", style);
        write("style.css.gz", "left out");
        write("index.html", "<p>");
        list(folder.path()).unwrap();
        fs::read_to_string(folder.path().join("sw.js")).unwrap()
    }

    #[test]
    fn every_file_is_listed_and_its_content_makes_the_version() {
        let code = version_with("a");
        assert!(code.ends_with("FILES = [\"index.html\", \"style.css\"];\n"), "{code}");
        assert_eq!(code, version_with("a"));
        assert_ne!(code, version_with("b"));
    }
}
