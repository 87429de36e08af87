//! House rules that no compiler checks: file length, the one-way dependency of modules, a core free of files,
//! threads and clocks, and fixtures that stay small.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this has more than one reason to be.
const LONGEST_FILE: usize = 600;

/// Weights in the repository are tiny or they are not there: all of them together, in bytes.
const MOST_WEIGHTS: u64 = 1_000_000;

/// Modules from the bottom up. A module may use those of its own row and of the rows above it in this table.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["config", "device", "store"],
    &["tokenizer", "data", "ops", "methods", "protocol", "curves", "hub", "native"],
    &["models"],
    &["generate"],
    &["objectives"],
    &["train", "eval", "export", "estimate"],
    &["session"],
    &["cli", "main"],
];

/// Edges against the layers that are wanted, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    // A run file is the sum of its parts' settings, and a method declares its own.
    ("config", "methods"),
    // A chat template renders the conversation that a row holds.
    ("tokenizer", "data"),
];

/// Modules that may touch the operating system; everything else also runs in a browser.
const NATIVE: &[&str] = &["native", "cli", "main"];

/// Files that may use what the system has all the same, because no browser compiles them.
const NATIVE_FILES: &[&str] = &["src/ops/cpu/pool.rs"];

/// Paths that do not exist, or panic, in a browser.
const OS_PATHS: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net",
    "std::process",
    "std::env",
];

/// The number of files checked.
///
/// # Errors
/// Lists every breach with file and line.
pub fn check() -> Result<usize> {
    let root = crate::root();
    let mut files = Vec::new();
    for folder in ["src", "xtask/src", "tests", "web/src", "web/worker/src", "web/worker/tests"] {
        rust_files(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut breaches = Vec::new();
    let mut edges = BTreeMap::new();
    for path in &files {
        let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
        let relative = path.strip_prefix(&root).unwrap_or(path);
        let n_lines = text.lines().count();
        if n_lines > LONGEST_FILE {
            breaches.push(format!("{}: {n_lines} lines; at most {LONGEST_FILE}", relative.display()));
        }
        if let Some(module) = module_of(relative) {
            check_module(&module, &relative.display().to_string(), &text, &mut breaches, &mut edges);
        }
    }
    breaches.extend(cycles(&edges));
    let n_bytes = weights(&root.join("tests/fixtures"))?;
    if n_bytes > MOST_WEIGHTS {
        breaches.push(format!("tests/fixtures: {n_bytes} bytes of weights; at most {MOST_WEIGHTS}"));
    }
    if !breaches.is_empty() {
        bail!("{}", breaches.join("\n"));
    }
    Ok(files.len())
}

/// Bytes of the models and adapters in a folder; golden values are none.
fn weights(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let entry = entry.context("an entry of the fixtures")?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_weights = name.ends_with(".gguf")
            || (name.ends_with(".safetensors")
                && ["model", "adapter_model"].iter().any(|start| name.starts_with(start)));
        if path.is_dir() {
            total += weights(&path)?;
        } else if is_weights {
            total += entry.metadata().with_context(|| format!("could not read {}", path.display()))?.len();
        }
    }
    Ok(total)
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("could not read {}", folder.display()))?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// `src/store/gguf.rs` belongs to `store`; `lib.rs`, tests and tasks to no module of the core.
fn module_of(relative: &Path) -> Option<String> {
    let mut parts = relative.iter().map(|part| part.to_string_lossy());
    if parts.next()? != "src" {
        return None;
    }
    let module = parts.next()?.trim_end_matches(".rs").to_string();
    (module != "lib").then_some(module)
}

/// Edges between modules, each with the place where it was first seen.
type Edges = BTreeMap<(String, String), String>;

fn check_module(module: &str, file: &str, text: &str, breaches: &mut Vec<String>, edges: &mut Edges) {
    let Some(rank) = rank_of(module) else {
        breaches.push(format!(
            "{file}: module `{module}` stands in no layer; add it to LAYERS in xtask/src/house.rs"
        ));
        return;
    };
    // Tests may look wherever they need to, and by convention they end the file or are one of that name.
    let body = if file.ends_with("/tests.rs") { "" } else { text };
    let body = body.split("#[cfg(test)]").next().unwrap_or(body);
    for (number, line) in body.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        let place = format!("{file}:{}", number + 1);
        for used in used_modules(code) {
            let Some(used_rank) = rank_of(&used) else { continue };
            if used == module || EXCEPTIONS.contains(&(module, &used)) {
                continue;
            }
            if used_rank > rank {
                breaches.push(format!("{place}: `{module}` must not use `{used}`, which stands above it"));
            } else if used == "native" && !NATIVE.contains(&module) {
                breaches
                    .push(format!("{place}: `{module}` must not use `native`: it has to run in a browser"));
            } else if used_rank == rank {
                edges.entry((module.to_string(), used)).or_insert_with(|| place.clone());
            }
        }
        if !NATIVE.contains(&module) && !NATIVE_FILES.contains(&file) {
            let spread = code.replace("std::{", "std::");
            for path in OS_PATHS.iter().filter(|path| spread.contains(**path)) {
                breaches.push(format!("{place}: `{path}` outside native; the core has to run in a browser"));
            }
        }
    }
}

fn rank_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The first segments after `crate::` or `attune::`, braces included: `crate::{config, store::Store}`.
fn used_modules(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for root in ["crate::", "attune::"] {
        for (start, _) in code.match_indices(root) {
            let path = &code[start + root.len()..];
            match path.strip_prefix('{') {
                Some(list) => used.extend(top_level_names(list)),
                None => used.push(identifier(path)),
            }
        }
    }
    used
}

/// `a::{b, c}, d}` → `a`, `d`
fn top_level_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_usize;
    let mut item_start = true;
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => item_start = true,
            _ if item_start && !letter.is_whitespace() => {
                names.push(identifier(&list[at..]));
                item_start = false;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// Two modules of one layer must not need each other, over however many steps.
fn cycles(edges: &Edges) -> Vec<String> {
    let mut reachable: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in edges.keys() {
        reachable.entry(from).or_default().insert(to);
    }
    loop {
        let before: usize = reachable.values().map(BTreeSet::len).sum();
        let snapshot = reachable.clone();
        for targets in reachable.values_mut() {
            let further: Vec<&str> =
                targets.iter().filter_map(|target| snapshot.get(target)).flatten().copied().collect();
            targets.extend(further);
        }
        if reachable.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    edges
        .iter()
        .filter(|((from, to), _)| {
            reachable.get(to.as_str()).is_some_and(|targets| targets.contains(from.as_str()))
        })
        .map(|((from, to), place)| format!("{place}: `{from}` and `{to}` need each other"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(module: &str, text: &str) -> Vec<String> {
        let mut breaches = Vec::new();
        check_module(module, "file.rs", text, &mut breaches, &mut Edges::new());
        breaches
    }

    #[test]
    fn an_edge_upwards_is_a_breach_however_it_is_written() {
        for text in [
            "use crate::models::CausalLm;",
            "use crate::{Error, models::{CausalLm, Llama}, store::Store};",
            "fn f() -> crate::models::CausalLm {}",
        ] {
            assert_eq!(breaches("store", text).len(), 1, "{text}");
        }
        assert!(breaches("train", "use crate::{Error, models::CausalLm};").is_empty());
        assert!(breaches("store", "// see crate::models").is_empty());
        assert!(breaches("store", "fn f() {}\n#[cfg(test)]\nmod tests { use crate::models::X; }").is_empty());
        let mut breaches = Vec::new();
        check_module(
            "store",
            "src/store/tests.rs",
            "use crate::models::X;",
            &mut breaches,
            &mut Edges::new(),
        );
        assert!(breaches.is_empty());
    }

    #[test]
    fn the_core_touches_no_operating_system() {
        for text in ["use std::fs;", "use std::{thread, fmt};", "let t = std::time::Instant::now();"] {
            assert_eq!(breaches("train", text).len(), 1, "{text}");
            assert!(breaches("native", text).is_empty(), "{text}");
        }
        assert_eq!(breaches("session", "use crate::native::FileStore;").len(), 1);
        assert!(breaches("cli", "use attune::native::FileStore;").is_empty());
    }

    #[test]
    fn modules_of_one_layer_must_not_need_each_other() {
        let edge = |from: &str, to: &str| ((from.to_string(), to.to_string()), "here".to_string());
        assert!(cycles(&Edges::from([edge("data", "tokenizer"), edge("tokenizer", "ops")])).is_empty());
        let circle = Edges::from([edge("data", "tokenizer"), edge("tokenizer", "ops"), edge("ops", "data")]);
        assert_eq!(cycles(&circle).len(), 3);
    }

    #[test]
    fn an_unknown_module_has_to_be_given_a_layer() {
        assert_eq!(breaches("novelty", "").len(), 1);
    }
}
