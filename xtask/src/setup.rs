//! What the other tasks need from the machine, installed where it is missing.

use crate::process::{run_logged, succeeds};
use anyhow::Result;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether a continuous-integration service runs this: there, nothing that cannot be set up may be skipped.
pub fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// Makes `cargo fmt` and `cargo clippy` available; a minimal rustup profile lacks them.
pub fn rustup_component(component: &str, probe: &str) -> bool {
    let present = || succeeds(crate::process::cargo([probe, "--version"]).stdin(std::process::Stdio::null()));
    present() || (succeeds(Command::new("rustup").args(["component", "add", component])) && present())
}

/// How to compile for wasm32-unknown-unknown on this machine.
pub enum WasmToolchain {
    /// rustup's target is installed.
    Rustup,
    /// Debian's compiler for the web; it carries the standard library's source, built with the crate.
    Debian,
}

/// The target that a browser runs.
pub const WASM: &str = "wasm32-unknown-unknown";
/// Seconds for all tests in the browser together.
const TEST_SECS: &str = "300";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library/Cargo.toml";

/// rustup's wasm target, or Debian's where rustup cannot download.
///
/// # Errors
/// A sentence that says why neither can be had.
pub fn wasm_toolchain() -> Result<WasmToolchain, String> {
    let installed = || {
        let output = Command::new("rustup").args(["target", "list", "--installed"]).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == WASM))
    };
    if installed() || (succeeds(Command::new("rustup").args(["target", "add", WASM])) && installed()) {
        return Ok(WasmToolchain::Rustup);
    }
    let debian = || Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_STD).exists();
    if debian() {
        return Ok(WasmToolchain::Debian);
    }
    apt_install("wasm", &["rustc-web", "rust-web-src", "lld-22"])
        .map_err(|reason| format!("`rustup target add {WASM}` failed, and {reason}"))?;
    if debian() { Ok(WasmToolchain::Debian) } else { Err(format!("{DEBIAN_STD} is missing")) }
}

impl WasmToolchain {
    /// `cargo check` of the library, the page and its worker for the browser.
    pub fn check(&self) -> Command {
        let mut command = crate::process::cargo(["check", "--release", "--locked", "--target", WASM]);
        command.args(["--package", "attune-web", "--package", "attune-worker"]);
        self.set(&mut command);
        command
    }

    /// `cargo test` of the page's worker in the browser that `driver` drives; what the page's own build compiles of
    /// it is compiled once. `build` are cargo's arguments for one worker, `only` is part of the names of its tests.
    pub fn test(&self, runner: &Path, driver: &Path, build: &[&str], only: &str) -> Command {
        let mut command = crate::process::cargo(["test", "--release", "--locked", "--target", WASM]);
        command.args(["--package", "attune-worker", "--test", "in_browser"]).args(build).args(["--", only]);
        self.set(&mut command);
        command
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner)
            .env("CHROMEDRIVER", driver)
            .env("WASM_BINDGEN_TEST_TIMEOUT", TEST_SECS);
        command
    }

    /// Where it builds: another compiler's artefacts would evict the ordinary ones.
    pub fn target_dir(&self) -> PathBuf {
        crate::cache::target_dir().join(match self {
            Self::Rustup => "wasm",
            Self::Debian => "wasm-debian",
        })
    }

    /// Makes a command, cargo or one that calls it, compile with this toolchain.
    pub fn set(&self, command: &mut Command) {
        command.env("CARGO_TARGET_DIR", self.target_dir());
        match self {
            Self::Rustup => {}
            Self::Debian => {
                command
                    .env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort")
                    .env("RUSTC", DEBIAN_RUSTC)
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-22");
            }
        }
    }
}

/// Installs Debian packages; only root can.
///
/// # Errors
/// A clause that says what failed, to stand after "and".
pub fn apt_install(name: &str, packages: &[&str]) -> Result<(), String> {
    let what = packages.join(" ");
    eprintln!("  installing {what}");
    let apt = |arguments: &[&str], step: &str| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        match run_logged(&format!("apt-{name}-{step}"), &mut command) {
            Ok(finished) if finished.success => Ok(()),
            Ok(finished) => Err(format!("`apt-get install {what}` failed ({})", finished.log.display())),
            Err(_) => Err(format!("`apt-get install {what}` is not possible on this system")),
        }
    };
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(packages);
    // The package lists may be missing or stale: refresh them only where the first attempt fails.
    apt(&install, "install").or_else(|_| apt(&["update"], "update").and_then(|()| apt(&install, "install")))
}

/// Whether a backend, or a device as `webgpu:0`, reaches the device through Vulkan on Linux.
pub fn needs_graphics_driver(device: &str) -> bool {
    ["vulkan", "webgpu"].contains(&device.split(':').next().unwrap_or(device))
}

/// Makes sure that a Vulkan driver is there: a GPU's own, else llvmpipe, which runs on the CPU.
///
/// # Errors
/// A sentence that says what is missing.
pub fn graphics_driver() -> Result<(), String> {
    let has_driver = || {
        VULKAN_DRIVERS
            .iter()
            .any(|folder| Path::new(folder).read_dir().is_ok_and(|mut files| files.next().is_some()))
    };
    // Outside Linux the driver comes with the system.
    if !cfg!(target_os = "linux") || env::var_os("VK_ICD_FILENAMES").is_some() || has_driver() {
        return Ok(());
    }
    apt_install("vulkan", &["libvulkan1", "mesa-vulkan-drivers"])
        .map_err(|reason| format!("no Vulkan driver, and {reason}"))
}

/// The fastest backend that this machine seems to have a device for; the CPU where it has none.
pub fn best_backend() -> &'static str {
    if cfg!(target_os = "macos") {
        return "metal";
    }
    let said = |program: &str, arguments: &[&str]| {
        let output =
            Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    if said("nvidia-smi", &["-L"]).is_some_and(|gpus| gpus.lines().any(|line| line.starts_with("GPU "))) {
        return "cuda";
    }
    let has_vulkan = match said("vulkaninfo", &["--summary"]) {
        Some(summary) => names_a_gpu(&summary),
        // Without the tool: a device to render on, and a driver besides the one that renders on the CPU.
        None => lists("/dev/dri", "renderD") && has_gpu_driver(),
    };
    if has_vulkan { "vulkan" } else { "cpu" }
}

/// Whether `vulkaninfo --summary` lists a device that is no CPU, as llvmpipe is.
fn names_a_gpu(summary: &str) -> bool {
    summary.lines().any(|line| {
        let line = line.trim();
        line.starts_with("deviceType") && line.ends_with("_GPU")
    })
}

fn lists(folder: &str, prefix: &str) -> bool {
    let entries = Path::new(folder).read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with(prefix))
}

/// Where Linux's Vulkan drivers announce themselves.
const VULKAN_DRIVERS: [&str; 3] =
    ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];

fn has_gpu_driver() -> bool {
    let files =
        VULKAN_DRIVERS.iter().filter_map(|folder| Path::new(folder).read_dir().ok()).flatten().flatten();
    files.map(|entry| entry.file_name()).any(|name| !name.to_string_lossy().starts_with("lvp_"))
}

/// A Python that has torch, transformers and peft: `ATTUNE_PYTHON`, the cache's `ref` environment, or `python3`.
pub fn reference_python() -> Option<PathBuf> {
    let script = if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" };
    let candidates = [
        env::var_os("ATTUNE_PYTHON").map(PathBuf::from),
        Some(crate::cache::dir().join("ref").join(script)),
        Some(PathBuf::from("python3")),
    ];
    let modules = ["torch", "transformers", "peft"];
    candidates.into_iter().flatten().find(|python| has_modules(python, &modules))
}

/// Whether a Python can find these modules.
pub fn has_modules(python: &Path, modules: &[&str]) -> bool {
    // find_spec does not import: importing torch takes seconds.
    let probe =
        "import sys, importlib.util as u; sys.exit(any(u.find_spec(m) is None for m in sys.argv[1:]))";
    succeeds(Command::new(python).args(["-c", probe]).args(modules))
}

#[cfg(test)]
mod tests {
    use super::names_a_gpu;

    #[test]
    fn a_device_that_is_a_cpu_is_no_gpu() {
        let device = |kind: &str| {
            format!("GPU0:\n\tapiVersion = 1.4.305\n\tdeviceType = PHYSICAL_DEVICE_TYPE_{kind}\n")
        };
        assert!(names_a_gpu(&device("DISCRETE_GPU")) && names_a_gpu(&device("INTEGRATED_GPU")));
        assert!(!names_a_gpu(&device("CPU")) && !names_a_gpu(""));
        assert!(names_a_gpu(&(device("CPU") + &device("VIRTUAL_GPU"))));
    }
}
