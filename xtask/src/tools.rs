//! Programs that build and try the page: each is installed once, in its pinned version, into the cache.

use crate::process::{cargo, run_logged, succeeds};
use crate::setup;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TRUNK: &str = "0.21.14";
const BINARYEN: &str = "132.0.0";
const PLAYWRIGHT: &str = "1.65.1";
const AXE: &str = "4.14.1";
const JAX: &str = "0.1.25";
const TFJS: &str = "4.22.0";
const DAWN: &str = "0.6.2";

/// A PATH on which Trunk finds itself, wasm-bindgen and wasm-opt.
///
/// # Errors
/// What could not be installed, and why.
pub fn path() -> Result<OsString> {
    let trunk = cargo_tool("trunk", "trunk", TRUNK, &["--locked"])?;
    let bindgen = wasm_bindgen()?;
    let binaryen = npm_package("binaryen", BINARYEN)?.join(".bin");
    let system = env::var_os("PATH").unwrap_or_default();
    let folders = [trunk, bindgen, binaryen].into_iter().chain(env::split_paths(&system));
    env::join_paths(folders).context("a folder of PATH has a colon in its name")
}

/// The folder with wasm-bindgen's programs, `wasm-bindgen-test-runner` among them.
///
/// # Errors
/// They cannot be installed.
pub fn wasm_bindgen() -> Result<PathBuf> {
    // Its locked dependencies include one that the registry withdrew, so the newest that fit are taken.
    cargo_tool("wasm-bindgen-cli", "wasm-bindgen", &wasm_bindgen_version()?, &[])
}

/// What Node takes as `NODE_PATH` to find npm's playwright-core and axe-core.
///
/// # Errors
/// No Node.js, or no registry.
pub fn node_path() -> Result<OsString> {
    let folders = [npm_package("playwright-core", PLAYWRIGHT)?, npm_package("axe-core", AXE)?];
    env::join_paths(folders).context("a folder of the cache has a colon in its name")
}

/// The folder with jax-js as it is distributed.
///
/// # Errors
/// No Node.js, or no registry.
pub fn jax() -> Result<PathBuf> {
    Ok(npm_package("@jax-js/jax", JAX)?.join("@jax-js/jax/dist"))
}

/// TensorFlow.js and its WebGPU backend as scripts, in the order in which a page loads them.
///
/// # Errors
/// No Node.js, or no registry.
pub fn tfjs() -> Result<[PathBuf; 2]> {
    let dist =
        |package: &str| -> Result<PathBuf> { Ok(npm_package(package, TFJS)?.join(package).join("dist")) };
    Ok([
        dist("@tensorflow/tfjs")?.join("tf.min.js"),
        dist("@tensorflow/tfjs-backend-webgpu")?.join("tf-backend-webgpu.min.js"),
    ])
}

/// The folder of Dawn, Chromium's WebGPU, for Node.js.
///
/// # Errors
/// No Node.js, or no registry.
pub fn dawn() -> Result<PathBuf> {
    Ok(npm_package("webgpu", DAWN)?.join("webgpu"))
}

/// A Chromium of the system's: `ATTUNE_CHROMIUM`, or one on PATH, or Debian's, installed if need be.
///
/// # Errors
/// A sentence that says why there is none.
pub fn chromium() -> Result<PathBuf, String> {
    system_program("ATTUNE_CHROMIUM", &["chromium", "chromium-browser", "google-chrome"], "chromium")
}

/// What drives Chromium for tests in wasm: `CHROMEDRIVER`, or one on PATH, or Debian's, installed if need be.
///
/// # Errors
/// A sentence that says why there is none.
pub fn chromedriver() -> Result<PathBuf, String> {
    system_program("CHROMEDRIVER", &["chromedriver"], "chromium-driver")
}

/// What counts instructions: `VALGRIND`, or one on PATH, or Debian's, installed if need be.
///
/// # Errors
/// A sentence that says why there is none.
pub fn valgrind() -> Result<PathBuf, String> {
    system_program("VALGRIND", &["valgrind"], "valgrind")
}

/// A program that an environment variable names, or that is on PATH under one of these names, or that comes with
/// a Debian package.
fn system_program(variable: &str, names: &[&str], package: &str) -> Result<PathBuf, String> {
    if let Some(path) = env::var_os(variable) {
        return Ok(path.into());
    }
    let find = || {
        let starts = |name: &&&str| succeeds(Command::new(name).arg("--version"));
        names.iter().filter(starts).find_map(|name| on_path(name))
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    setup::apt_install(package, &[package])
        .map_err(|reason| format!("no {package} (see {variable}), and {reason}"))?;
    find().ok_or_else(|| format!("Debian's {package} does not start"))
}

/// Where a program is: some callers start it by its path only.
fn on_path(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let mut files = env::split_paths(&folders).map(|folder| folder.join(name));
    files.find(|file| file.is_file())
}

/// The library's version in the lock file: the program that post-processes must have the same.
fn wasm_bindgen_version() -> Result<String> {
    let path = crate::root().join("Cargo.lock");
    let lock = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let after = lock.split("name = \"wasm-bindgen\"\nversion = \"").nth(1);
    let version = after.and_then(|rest| rest.split('"').next());
    Ok(version.context("Cargo.lock names no wasm-bindgen")?.to_string())
}

fn folder(name: &str, version: &str) -> PathBuf {
    crate::cache::dir().join("tools").join(format!("{name}-{version}"))
}

/// The folder with the program `binary` of a crate.
fn cargo_tool(package: &str, binary: &str, version: &str, more: &[&str]) -> Result<PathBuf> {
    let root = folder(binary, version);
    let bin = root.join("bin");
    if bin.join(format!("{binary}{}", env::consts::EXE_SUFFIX)).exists() {
        return Ok(bin);
    }
    eprintln!("  installing {package} {version} (minutes, once)");
    let build = crate::cache::dir().join("tools").join("build");
    let mut install = cargo(["install", package, "--version", &format!("={version}"), "--root"]);
    // Flags of the page's build are not meant for a program of this machine.
    install.arg(&root).args(more).env("CARGO_TARGET_DIR", &build).env_remove("RUSTFLAGS");
    let finished = run_logged(&format!("install-{binary}"), &mut install)?;
    ensure!(
        finished.success,
        "`cargo install {package} --version {version}` failed:\n{}\n(all of it: {})",
        finished.tail(),
        finished.log.display()
    );
    Ok(bin)
}

/// The folder `node_modules` that holds an npm package.
fn npm_package(package: &str, version: &str) -> Result<PathBuf> {
    // One with an owner is called `@owner/name`.
    let plain = package.replace('/', "+");
    let root = folder(&plain, version);
    let modules = root.join("node_modules");
    if modules.exists() {
        return Ok(modules);
    }
    node()?;
    eprintln!("  installing {package} {version}");
    let partial = root.with_extension("partial");
    fs::create_dir_all(&partial).with_context(|| format!("could not create {}", partial.display()))?;
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
    install.arg(&partial).arg(format!("{package}@{version}"));
    let finished = run_logged(&format!("install-{plain}"), &mut install)?;
    ensure!(finished.success, "`npm install {package}@{version}` failed:\n{}", finished.tail());
    // A folder of this name is whole: an interrupted installation never gets it.
    replace(&partial, &root)?;
    Ok(modules)
}

fn replace(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("could not remove {}", to.display()))?;
    }
    fs::rename(from, to).with_context(|| format!("could not rename {}", from.display()))
}

/// Makes sure of Node.js and npm.
fn node() -> Result<()> {
    let present = || ["node", "npm"].iter().all(|name| succeeds(Command::new(name).arg("--version")));
    if present() {
        return Ok(());
    }
    if let Err(reason) = setup::apt_install("node", &["nodejs", "npm"]) {
        bail!("Node.js with npm is needed to shrink the page's code; there is none, and {reason}");
    }
    ensure!(present(), "Debian's nodejs does not start");
    Ok(())
}
