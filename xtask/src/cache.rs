//! Where builds, models and data are kept between runs: outside the checkout, so that a fresh clone is warm.

use anyhow::{Context, Result};
use clap::Subcommand;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Print the folders and their sizes (the default).
    Show,
    /// Remove the builds; models and data stay.
    Clean,
}

/// `attune`'s folder in the user's cache; `ATTUNE_CACHE` moves it.
pub fn dir() -> PathBuf {
    if let Some(dir) = env::var_os("ATTUNE_CACHE") {
        return dir.into();
    }
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| ".".into()));
    let base = if let Some(xdg) = env::var_os("XDG_CACHE_HOME") {
        xdg.into()
    } else if cfg!(target_os = "macos") {
        home().join("Library/Caches")
    } else if let Some(local) = env::var_os("LOCALAPPDATA") {
        local.into()
    } else {
        home().join(".cache")
    };
    base.join("attune")
}

/// Where cargo builds: `ATTUNE_TARGET_DIR`, else `CARGO_TARGET_DIR`, else `target` in [`dir`].
pub fn target_dir() -> PathBuf {
    ["ATTUNE_TARGET_DIR", "CARGO_TARGET_DIR"]
        .iter()
        .find_map(|name| env::var_os(name).filter(|value| !value.is_empty()))
        .map_or_else(|| dir().join("target"), PathBuf::from)
}

/// Runs `cargo xtask cache`.
pub fn run(args: &Args) -> Result<()> {
    match args.action {
        None | Some(Action::Show) => {
            for (what, path) in [("builds", target_dir()), ("models, data", dir())] {
                let gib = size(&path) as f64 / f64::from(1 << 30);
                println!("{what:<13} {gib:>6.1} GiB  {}", path.display());
            }
            Ok(())
        }
        Some(Action::Clean) => {
            let target = target_dir();
            // A mistyped variable must not cost somebody a folder: cargo marks its own.
            if !target.join("CACHEDIR.TAG").exists() {
                println!("nothing to remove: {} was not made by cargo", target.display());
                return Ok(());
            }
            fs::remove_dir_all(&target).with_context(|| format!("could not remove {}", target.display()))
        }
    }
}

/// Bytes of all files below `path`; what cannot be read counts as nothing.
fn size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |meta| meta.len()),
            _ => 0,
        })
        .sum()
}
