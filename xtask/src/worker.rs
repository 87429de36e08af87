//! The page's workers: one program, built for the CPU with and without relaxed SIMD and once more for the GPU, each into
//! a wasm file of its own, so that nobody downloads what their browser cannot use.

use crate::process::{Finished, cargo, run_logged};
use crate::remember::remembered;
use crate::setup::{WASM, WasmToolchain};
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Whether code is shrunk after it was compiled, which takes minutes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Small,
    AsCompiled,
}

/// What a worker computes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    Cpu,
    /// The CPU, in an engine that has relaxed SIMD: one without it refuses the file.
    Relaxed,
    Gpu,
}

impl Worker {
    /// The name of its files.
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "attune-worker",
            Self::Relaxed => "attune-worker-relaxed",
            Self::Gpu => "attune-worker-gpu",
        }
    }

    /// What cargo is told besides its target.
    pub fn cargo_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Cpu => &[],
            Self::Relaxed => &["--features", "relaxed-simd"],
            Self::Gpu => &["--features", "webgpu", "--config", "web/worker/gpu.toml"],
        }
    }

    /// On the CPU the worker's own code computes; on the GPU it only asks.
    fn optimisation(self) -> &'static str {
        match self {
            Self::Cpu | Self::Relaxed => "-Os",
            Self::Gpu => "-Oz",
        }
    }

    /// Builds it into `out`, as `NAME.js` and `NAME_bg.wasm`. `path` is a PATH with the tools.
    ///
    /// # Errors
    /// A build that fails, with its last words.
    pub fn build(self, toolchain: &WasmToolchain, path: &OsStr, out: &Path, size: Size) -> Result<()> {
        let name = self.name();
        let mut build = cargo(["build", "--release", "--locked", "--target", WASM, "--package"]);
        build.args(["attune-worker", "--bin", "attune-worker"]).args(self.cargo_arguments());
        toolchain.set(&mut build);
        finish(name, &mut build)?;
        let built = toolchain.target_dir().join(WASM).join("release/attune-worker.wasm");
        let mut bindgen = Command::new("wasm-bindgen");
        bindgen.args([
            "--target",
            "web",
            "--no-typescript",
            "--remove-producers-section",
            "--out-name",
            name,
        ]);
        finish(&format!("{name}-bindgen"), bindgen.arg("--out-dir").arg(out).arg(&built).env("PATH", path))?;
        if size == Size::AsCompiled {
            return Ok(());
        }
        let wasm = out.join(format!("{name}_bg.wasm"));
        let bytes = fs::read(&wasm).with_context(|| format!("could not read {}", wasm.display()))?;
        // It takes minutes, and most builds of the page change nothing here.
        let level = self.optimisation();
        let smaller = remembered(&format!("wasm-opt{level}"), &bytes, || {
            let target = wasm.with_extension("smaller");
            let mut optimise = Command::new("wasm-opt");
            optimise.arg(level).arg(&wasm).arg("-o").arg(&target).env("PATH", path);
            finish(&format!("{name}-wasm-opt"), &mut optimise)?;
            let bytes = fs::read(&target).with_context(|| format!("could not read {}", target.display()))?;
            fs::remove_file(&target).with_context(|| format!("could not remove {}", target.display()))?;
            Ok(bytes)
        })?;
        fs::write(&wasm, smaller).with_context(|| format!("could not write {}", wasm.display()))
    }
}

fn finish(name: &str, command: &mut Command) -> Result<Finished> {
    let finished = run_logged(name, command)?;
    ensure!(
        finished.success,
        "the page's build failed at {name}:\n{}\n(all of it: {})",
        finished.tail(),
        finished.log.display()
    );
    Ok(finished)
}
