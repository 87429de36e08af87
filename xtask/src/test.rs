//! `cargo xtask test`: every check and every test, from nothing. Continuous integration runs exactly this.

use crate::browser::Browser;
use crate::process::{cargo, run_logged};
use crate::setup;
use crate::tools;
use crate::verdict::{Tally, Verdict, counted, driven, script_summary, summaries};
use crate::worker::Worker;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {
    /// Also build this backend and run the tests on it: vulkan, metal, cuda, webgpu.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Run only the stages whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

type Stage = (&'static str, fn(&Args) -> Result<Verdict>);

/// Cheap checks first: a formatting slip should not cost a build.
const STAGES: &[Stage] = &[
    ("format", format),
    ("house", house),
    ("licences", licences),
    ("clippy", clippy),
    ("wasm", wasm),
    ("tests", tests),
    ("instructions", |_| crate::instructions::stage()),
    ("browser", browser),
    ("reference", reference),
];

/// Runs `cargo xtask test`. Each check counts as one beside the tests' own counts.
pub fn run(args: &Args) -> Result<()> {
    eprintln!("building into {}", crate::cache::target_dir().display());
    let begun = Instant::now();
    let mut total = Tally::default();
    for (name, stage) in STAGES {
        if args.only.as_deref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let started = Instant::now();
        let verdict = stage(args).unwrap_or_else(|error| Verdict::failed(format!("{error:#}")));
        total.add(verdict.tally);
        let word = match verdict.tally {
            Tally { failed: 1.., .. } => "FAILED",
            Tally { passed: 0, skipped: 1.., .. } => "skipped",
            _ => "ok",
        };
        println!("{name:<12} {word:<8} {:>6.1} s  {}", started.elapsed().as_secs_f64(), verdict.said);
    }
    println!("all in {:.0} s", begun.elapsed().as_secs_f64());
    println!("{total}");
    if total.failed > 0 {
        bail!("{} failed", total.failed);
    }
    Ok(())
}

fn format(_: &Args) -> Result<Verdict> {
    if !setup::rustup_component("rustfmt", "fmt") {
        return Ok(Verdict::missing("no rustfmt, and `rustup component add rustfmt` failed"));
    }
    let finished = run_logged("format", &mut cargo(["fmt", "--all", "--", "--check", "-l"]))?;
    if finished.success {
        return Ok(Verdict::passed(""));
    }
    Ok(Verdict::failed(format!("`cargo fmt --all` would change\n{}", finished.lines.join("\n"))))
}

fn house(_: &Args) -> Result<Verdict> {
    Ok(Verdict::passed(format!("{} files", crate::house::check()?)))
}

fn licences(_: &Args) -> Result<Verdict> {
    Ok(Verdict::passed(format!("{} packages", crate::licenses::check()?)))
}

fn clippy(args: &Args) -> Result<Verdict> {
    if !setup::rustup_component("clippy", "clippy") {
        return Ok(Verdict::missing("no clippy, and `rustup component add clippy` failed"));
    }
    let mut command = cargo(["clippy", "--workspace", "--all-targets", "--release", "--locked"]);
    with_backend(&mut command, args).args(["--", "-D", "warnings"]);
    Ok(Verdict::of(&run_logged("clippy", &mut command)?))
}

fn wasm(_: &Args) -> Result<Verdict> {
    match setup::wasm_toolchain() {
        Err(reason) => Ok(Verdict::missing(reason)),
        Ok(toolchain) => {
            let checked = Verdict::of(&run_logged("wasm", &mut toolchain.check())?);
            if checked.tally.failed > 0 { Ok(checked) } else { Ok(checked.and(in_browser(&toolchain)?)) }
        }
    }
}

/// The tests of all workers in wasm, in a worker of a headless Chromium; its GPU is a program.
fn in_browser(toolchain: &setup::WasmToolchain) -> Result<Verdict> {
    let driver = tools::chromium().and_then(|_| tools::chromedriver());
    let driver = match driver {
        Ok(driver) => driver,
        Err(reason) => return Ok(Verdict::missing(reason)),
    };
    let runner =
        tools::wasm_bindgen()?.join(format!("wasm-bindgen-test-runner{}", std::env::consts::EXE_SUFFIX));
    let run = |name, worker: Worker, only| -> Result<Verdict> {
        let build = worker.cargo_arguments();
        let finished = run_logged(name, &mut toolchain.test(&runner, &driver, build, only))?;
        Ok(counted(&finished, summaries(&finished.lines)))
    };
    let mut all = run("wasm-tests", Worker::Cpu, "")?;
    // What the GPU's worker has besides the CPU's.
    for (name, worker, only) in
        [("wasm-tests-relaxed", Worker::Relaxed, ""), ("wasm-tests-gpu", Worker::Gpu, "gpu")]
    {
        if all.tally.failed > 0 {
            return Ok(all);
        }
        all = all.and(run(name, worker, only)?);
    }
    Ok(if all.tally.failed > 0 { all } else { Verdict { said: all.tally.to_string(), ..all } })
}

fn tests(args: &Args) -> Result<Verdict> {
    if args.device.as_deref().is_some_and(setup::needs_graphics_driver)
        && let Err(reason) = setup::graphics_driver()
    {
        return Ok(Verdict::failed(reason));
    }
    let mut command = cargo(["test", "--release", "--workspace", "--locked", "--no-fail-fast"]);
    with_backend(&mut command, args);
    if let Some(device) = &args.device {
        command.env("ATTUNE_TEST_DEVICE", device);
    }
    let smollm2 = smollm2_file()?;
    if let Some(file) = &smollm2 {
        command.env("ATTUNE_SMOLLM2", file);
    }
    let finished = run_logged("tests", &mut command)?;
    let mut verdict = counted(&finished, summaries(&finished.lines));
    if smollm2.is_none() {
        verdict.without_smollm2();
    }
    Ok(verdict)
}

/// The real model, fetched once; `None` where it cannot be had.
fn smollm2_file() -> Result<Option<String>> {
    let mut fetch = cargo(["run", "--quiet", "--release", "--locked", "--package", "attune", "--"]);
    let finished = run_logged("smollm2", fetch.args(["models", "fetch", "smollm2-135m", "--json"]))?;
    let fetched =
        finished.lines.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(fetched.filter_map(|object| Some(object.get("path")?.as_str()?.to_string())).next_back())
}

/// Builds the backend of `--device` in. A device name may carry an index: `cuda:1`.
fn with_backend<'c>(command: &'c mut Command, args: &Args) -> &'c mut Command {
    match args.device.as_deref().and_then(|device| device.split(':').next()) {
        None | Some("cpu") => command,
        Some(backend) => command.arg("--features").arg(format!("attune/{backend}")),
    }
}

/// Scripts `tests/browser/test_*.mjs` drive the page in a real browser and compare it with the command line.
fn browser(_: &Args) -> Result<Verdict> {
    let browser = match Browser::start()? {
        Ok(browser) => browser,
        Err(reason) => return Ok(Verdict::missing(reason)),
    };
    let mut tally = Tally::default();
    let mut said = Vec::new();
    for script in scripts("tests/browser", ".mjs") {
        let name = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let started = Instant::now();
        let verdict = driven(&browser.run(&name, &script)?);
        tally.add(verdict.tally);
        said.push(format!("{name}, {:.0} s: {}", started.elapsed().as_secs_f64(), verdict.said));
    }
    Ok(Verdict { tally, said: said.join("\n") })
}

/// The files `test_*` of a folder, by name.
fn scripts(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = crate::root().join(folder).read_dir().into_iter().flatten().flatten();
    let mut scripts: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("test_") && name.ends_with(ending)
        })
        .collect();
    scripts.sort();
    scripts
}

/// Scripts `tests/reference/test_*.py` compare attune with transformers and PEFT on the machine at hand.
fn reference(_: &Args) -> Result<Verdict> {
    let scripts = scripts("tests/reference", ".py");
    if scripts.is_empty() {
        return Ok(Verdict { tally: Tally::default(), said: "no tests/reference/test_*.py".into() });
    }
    let Some(python) = setup::reference_python() else {
        let tally = Tally { skipped: scripts.len().max(1), ..Tally::default() };
        // PyTorch is 6 GB: it is used where it is, never fetched, in continuous integration too.
        return Ok(Verdict {
            tally,
            said: "no Python with torch, transformers and peft (see ATTUNE_PYTHON)".into(),
        });
    };
    let built = run_logged("reference-build", &mut cargo(["build", "--release", "--locked"]))?;
    if !built.success {
        return Ok(Verdict::of(&built));
    }
    let mut tally = Tally::default();
    let mut said = Vec::new();
    for script in scripts {
        let name = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let attune = crate::cache::target_dir()
            .join("release")
            .join(format!("attune{}", std::env::consts::EXE_SUFFIX));
        let mut command = Command::new(&python);
        command.arg(&script).current_dir(crate::root()).env("ATTUNE_BIN", attune);
        let finished = run_logged(&name, &mut command)?;
        let verdict = counted(&finished, script_summary(&finished.lines));
        tally.add(verdict.tally);
        said.push(format!("{name}: {}", verdict.said));
    }
    Ok(Verdict { tally, said: said.join("\n") })
}

#[cfg(test)]
mod tests {
    use super::scripts;

    #[test]
    fn tests_of_the_page_are_found_by_name() {
        let found = scripts("tests/browser", ".mjs");
        let names = found.iter().filter_map(|path| path.file_stem()?.to_str()).collect::<Vec<_>>();
        assert!(names.contains(&"test_way") && !names.contains(&"page"), "{names:?}");
    }
}
