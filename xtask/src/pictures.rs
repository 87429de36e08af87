//! `cargo xtask pictures`: the README's pictures, taken from the page at real work.

use crate::browser::Browser;
use crate::process::run_logged;
use anyhow::{Result, ensure};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Folder that receives them.
    #[arg(long, value_name = "DIR", default_value = "docs/pictures")]
    out: PathBuf,
}

/// Runs `cargo xtask pictures`.
pub fn run(args: &Args) -> Result<()> {
    let browser = Browser::start()?.map_err(anyhow::Error::msg)?;
    let out = crate::root().join(&args.out);
    let mut node = browser.node(&crate::root().join("tests/browser/pictures.mjs"));
    let finished = run_logged("pictures", node.env("ATTUNE_PICTURES", &out))?;
    ensure!(finished.success, "no pictures:\n{}\n(all of it: {})", finished.tail(), finished.log.display());
    println!("{} in {}", finished.lines.last().map_or("", String::as_str), out.display());
    Ok(())
}
