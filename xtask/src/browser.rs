//! The page's tests: built and served once, then driven in Chromium by each `tests/browser/test_*.mjs`.

use crate::process::{Finished, run_logged};
use crate::{demo, page, serve, tools};
use anyhow::Result;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a script says that this machine cannot make its test.
pub const SKIPPED: i32 = 77;

/// A served page, and what it takes to drive it.
pub struct Browser {
    chromium: PathBuf,
    node_path: OsString,
    attune: PathBuf,
    address: String,
}

impl Browser {
    /// Builds and serves the page; a sentence where there is no browser to drive.
    ///
    /// # Errors
    /// The page cannot be built or served.
    pub fn start() -> Result<Result<Self, String>> {
        let chromium = match tools::chromium() {
            Ok(chromium) => chromium,
            Err(reason) => return Ok(Err(reason)),
        };
        let node_path = tools::node_path()?;
        let out = crate::cache::target_dir().join("page");
        page::build(&out, page::Devices::CpuAndGpu)?;
        let attune = demo::build("cpu")?;
        Ok(Ok(Self { chromium, node_path, attune, address: serve::start(&out)? }))
    }

    /// Runs one script to its end.
    ///
    /// # Errors
    /// Node cannot be started.
    pub fn run(&self, name: &str, script: &Path) -> Result<Finished> {
        run_logged(&format!("browser-{name}"), &mut self.node(script))
    }

    /// Node with a script that drives the page.
    pub fn node(&self, script: &Path) -> Command {
        let mut node = Command::new("node");
        node.arg(script)
            .env("NODE_PATH", &self.node_path)
            .env("ATTUNE_CHROMIUM", &self.chromium)
            .env("ATTUNE_BIN", &self.attune)
            .env("ATTUNE_PAGE", &self.address);
        node
    }
}
