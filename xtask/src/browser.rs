//! The page's tests: built and served once, then driven in Chromium by each `tests/browser/test_*.mjs`.

use crate::process::{Finished, run_logged};
use crate::{demo, page, serve, setup, tools};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a script says that this machine cannot make its test.
pub const SKIPPED: i32 = 77;

/// A served page, and what it takes to drive it.
pub struct Browser {
    chromium: PathBuf,
    node_path: OsString,
    attune: PathBuf,
    page: PathBuf,
    python: Option<PathBuf>,
    address: String,
    hub: Hub,
}

/// The page with a hub on this machine, which the test of the hub starts at these addresses.
struct Hub {
    page: String,
    endpoint: String,
    downloads: String,
}

impl Hub {
    fn start(out: &Path) -> Result<Self> {
        // Bound and let go: nothing else asks for ports between here and the test.
        let free = || -> Result<String> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
            Ok(format!("http://{}", listener.local_addr().context("a free port's address")?))
        };
        let (endpoint, downloads) = (free()?, free()?);
        let page = serve::start(out, Some(&format!("{endpoint} {downloads}")))?;
        Ok(Self { page, endpoint, downloads })
    }
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
        page::build(&out, page::Built { gpu: true, quick: false }, None)?;
        let attune = demo::build("cpu")?;
        Ok(Ok(Self {
            chromium,
            node_path,
            attune,
            python: setup::reference_python(),
            address: serve::start(&out, None)?,
            hub: Hub::start(&out)?,
            page: out,
        }))
    }

    /// The folder with the page.
    pub fn page(&self) -> &Path {
        &self.page
    }

    /// The browser.
    pub fn chromium(&self) -> &Path {
        &self.chromium
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
            .env("ATTUNE_PAGE", &self.address)
            .env("ATTUNE_HUB_PAGE", &self.hub.page)
            .env("ATTUNE_HUB", &self.hub.endpoint)
            .env("ATTUNE_HUB_DOWNLOADS", &self.hub.downloads);
        if let Some(python) = &self.python {
            node.env("ATTUNE_PYTHON", python);
        }
        node
    }
}
