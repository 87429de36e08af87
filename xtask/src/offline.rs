//! The list of the page's files in its service worker, and their common version.

use crate::policy::{HEADERS, replaced};
use anyhow::{Context, Result};
use base64::Engine;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

pub const SERVICE_WORKER: &str = "sw.js";
const INDEX: &str = "index.html";
/// What version and files stand between in `web/sw.js`.
const VERSION: [&str; 2] = ["const VERSION = '", "';"];
const FILES: [&str; 2] = ["const FILES = ", ";\n"];

/// Writes the names and digests of the files in `folder` into its service worker. Any other byte in any of them is
/// another version, so that a visitor never runs parts of two.
///
/// # Errors
/// Names the file that cannot be read or written; a service worker without a place for its list.
pub fn list(folder: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("could not read {}", path.display()));
    let entries = fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.context("a file of the page")?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Compressed twins have the plain file's address, and what is for the host alone has none.
        let is_twin = [".gz", ".br"].iter().any(|ending| name.ends_with(ending));
        if entry.path().is_file() && ![SERVICE_WORKER, HEADERS].contains(&name.as_str()) && !is_twin {
            let digest = integrity(&read(&entry.path())?);
            files.push((name, digest));
        }
    }
    files.sort();
    let path = folder.join(SERVICE_WORKER);
    let code = String::from_utf8(read(&path)?).context("the service worker is no text")?;
    let code = with_files(&code, &files).with_context(|| path.display().to_string())?;
    fs::write(&path, code).with_context(|| format!("could not write {}", path.display()))
}

/// A service worker's code for a page with `html` in the place of the index it was listed with.
///
/// # Errors
/// The code has no list, or no index in it.
pub fn with_index(code: &str, html: &str) -> Result<String> {
    let [before, after] = FILES;
    let listed = code.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    let (listed, _) = listed.context("it has no list of files")?;
    let mut files: Vec<(String, String)> = serde_json::from_str(listed)
        .context("its list is of an earlier `cargo xtask dist`; build the page again")?;
    let index = files.iter_mut().find(|(name, _)| name == INDEX).context("its list has no index.html")?;
    index.1 = integrity(html.as_bytes());
    with_files(code, &files)
}

fn with_files(code: &str, files: &[(String, String)]) -> Result<String> {
    let text = serde_json::to_string(files).context("the list of files")?;
    let version = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&text));
    let code = replaced(code, VERSION[0], VERSION[1], &version)?;
    replaced(&code, FILES[0], FILES[1], &text)
}

/// As a request names what it expects.
fn integrity(bytes: &[u8]) -> String {
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(style: &str, html: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::copy(crate::root().join("web/sw.js"), folder.path().join("sw.js")).unwrap();
        write("style.css", style);
        write("style.css.gz", "left out");
        write("_headers", "left out");
        write("index.html", html);
        list(folder.path()).unwrap();
        fs::read_to_string(folder.path().join("sw.js")).unwrap()
    }

    #[test]
    fn every_file_is_listed_and_its_content_makes_the_version() {
        let code = listed("abc", "<p>");
        // The digest of FIPS 180-4's first example.
        let style = r#"["style.css","sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="]];"#;
        assert!(code.contains(style), "{code}");
        assert!(code.contains(r#"const FILES = [["index.html","sha256-"#), "{code}");
        assert!(!code.contains("left out") && !code.contains("_headers"), "{code}");
        assert_eq!(code, listed("abc", "<p>"));
        assert_ne!(code, listed("abd", "<p>"));
    }

    #[test]
    fn another_index_is_another_version_of_the_same_files() {
        assert_eq!(with_index(&listed("a", "<p>"), "<b>").unwrap(), listed("a", "<b>"));
        assert!(with_index("const FILES = [\"index.html\"];\n", "<b>").is_err());
    }
}
