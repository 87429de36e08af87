//! Every dependency's licence, read from its manifest, must be satisfiable with the licences allowed here.
//!
//! The same verdict as `cargo deny check licenses`, which takes minutes to install.

use crate::process::cargo;
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Licences whose terms attune's users can keep without doing anything but passing on the notices.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    // Copyleft of single files; the crates are used unchanged.
    "MPL-2.0",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that name no licence in their manifest, with what their licence file says.
const READ_BY_HAND: &[(&str, &str)] = &[("cfg_block", "Apache-2.0")];

/// The number of dependencies checked, over all features and platforms.
///
/// # Errors
/// Lists every crate whose licence is missing, not understood or not allowed.
pub fn check() -> Result<usize> {
    let output = cargo(["metadata", "--format-version", "1", "--all-features", "--locked"])
        .output()
        .context("could not start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata's answer")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let problems: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let name = package["name"].as_str().unwrap_or("?");
            let by_hand = READ_BY_HAND.iter().find(|(known, _)| *known == name).map(|(_, license)| *license);
            let Some(license) = package["license"].as_str().or(by_hand) else {
                return Some(format!("{name}: names no licence"));
            };
            match satisfiable(license) {
                Ok(true) => None,
                Ok(false) => Some(format!("{name}: {license} is not allowed")),
                Err(problem) => Some(format!("{name}: {license}: {problem}")),
            }
        })
        .collect();
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(packages.len())
}

/// Whether an SPDX expression can be satisfied with [`ALLOWED`] alone. `A/B` is the registry's old spelling of `A OR B`.
fn satisfiable(expression: &str) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = any_of(&mut words)?;
    match words.next() {
        None => Ok(verdict),
        Some(word) => Err(format!("unexpected `{word}`")),
    }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `all_of (OR all_of)*`: AND binds tighter than OR.
fn any_of(words: &mut Words<'_>) -> Result<bool, String> {
    let mut verdict = all_of(words)?;
    while words.next_if_eq(&"OR").is_some() {
        verdict |= all_of(words)?;
    }
    Ok(verdict)
}

/// `term (AND term)*`
fn all_of(words: &mut Words<'_>) -> Result<bool, String> {
    let mut verdict = term(words)?;
    while words.next_if_eq(&"AND").is_some() {
        verdict &= term(words)?;
    }
    Ok(verdict)
}

/// `( expression )` or `LICENCE [WITH exception]`
fn term(words: &mut Words<'_>) -> Result<bool, String> {
    match words.next() {
        Some("(") => {
            let verdict = any_of(words)?;
            if words.next_if_eq(&")").is_none() {
                return Err("a parenthesis is not closed".into());
            }
            Ok(verdict)
        }
        Some(word) if !matches!(word, ")" | "AND" | "OR" | "WITH") => {
            if words.next_if_eq(&"WITH").is_some() {
                let exception = words.next().ok_or("WITH without an exception")?;
                return Ok(ALLOWED.contains(&format!("{word} WITH {exception}").as_str()));
            }
            Ok(ALLOWED.contains(&word))
        }
        Some(word) => Err(format!("unexpected `{word}`")),
        None => Err("ends early".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::satisfiable;

    #[test]
    fn expressions_are_read_as_spdx_defines_them() {
        for (expression, expected) in [
            ("MIT", Ok(true)),
            ("GPL-3.0-only", Ok(false)),
            ("MIT OR GPL-3.0-only", Ok(true)),
            ("MIT AND GPL-3.0-only", Ok(false)),
            ("GPL-3.0-only OR MIT AND ISC", Ok(true)),
            ("GPL-3.0-only OR MIT AND AGPL-3.0", Ok(false)),
            ("(GPL-3.0-only OR MIT) AND ISC", Ok(true)),
            ("GPL-3.0-only/MIT", Ok(true)),
            ("Apache-2.0 WITH LLVM-exception", Ok(true)),
            ("GPL-2.0 WITH Classpath-exception-2.0", Ok(false)),
            ("(MIT", Err(())),
            ("MIT ISC", Err(())),
            ("MIT OR", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(satisfiable(expression).map_err(drop), expected, "{expression}");
        }
    }
}
