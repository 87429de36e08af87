//! The page's test: built, served, and driven in Chromium by `tests/browser/way.mjs`.

use crate::process::{Finished, run_logged};
use crate::{demo, page, serve, tools};
use anyhow::Result;
use std::process::Command;

/// Builds and drives the page; a sentence where there is no browser to drive.
///
/// # Errors
/// The page cannot be built or served.
pub fn run() -> Result<Result<Finished, String>> {
    let chromium = match tools::chromium() {
        Ok(chromium) => chromium,
        Err(reason) => return Ok(Err(reason)),
    };
    let playwright = tools::playwright()?;
    let out = crate::cache::target_dir().join("page");
    page::build(&out)?;
    let attune = demo::build("cpu")?;
    let mut node = Command::new("node");
    node.arg(crate::root().join("tests/browser/way.mjs"))
        .env("NODE_PATH", playwright)
        .env("ATTUNE_CHROMIUM", chromium)
        .env("ATTUNE_BIN", attune)
        .env("ATTUNE_PAGE", serve::start(&out)?);
    Ok(Ok(run_logged("browser", &mut node)?))
}
