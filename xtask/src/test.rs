//! `cargo xtask test`: every check and every test, from nothing. Continuous integration runs exactly this.

use crate::browser::{Browser, SKIPPED};
use crate::process::{Finished, cargo, run_logged};
use crate::setup::{self, in_ci};
use crate::tools;
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

/// How a stage, or a test binary, ended.
#[derive(Clone, Copy, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// What a stage says about itself: its count, and a sentence or the reason of its failure.
struct Verdict {
    tally: Tally,
    said: String,
}

impl Verdict {
    fn passed(said: impl Into<String>) -> Self {
        Self { tally: Tally::PASSED, said: said.into() }
    }

    fn failed(said: impl Into<String>) -> Self {
        Self { tally: Tally::FAILED, said: said.into() }
    }

    /// What cannot be set up may be skipped at a desk, never in continuous integration.
    fn missing(reason: impl Into<String>) -> Self {
        if in_ci() { Self::failed(reason) } else { Self { tally: Tally::SKIPPED, said: reason.into() } }
    }

    /// Both.
    fn and(mut self, other: Self) -> Self {
        self.tally.add(other.tally);
        self.said = other.said;
        self
    }

    /// Takes the test of the real model, which passes where it has none, out of those that passed.
    fn without_smollm2(&mut self) {
        let missing = Self::missing("SmolLM2 could not be fetched: its test compared nothing");
        self.tally.passed = self.tally.passed.saturating_sub(1);
        self.tally.add(missing.tally);
        self.said = format!("{}; {}", self.said, missing.said);
    }

    fn of(finished: &Finished) -> Self {
        if finished.success {
            return Self::passed("");
        }
        let code = finished.code.map_or("a signal".into(), |code| format!("exit code {code}"));
        Self::failed(format!("{}\n({code}; all of it: {})", finished.tail(), finished.log.display()))
    }
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
        println!("{name:<10} {word:<8} {:>6.1} s  {}", started.elapsed().as_secs_f64(), verdict.said);
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

/// The worker's tests in wasm, in a worker of a headless Chromium.
fn in_browser(toolchain: &setup::WasmToolchain) -> Result<Verdict> {
    let driver = tools::chromium().and_then(|_| tools::chromedriver());
    let driver = match driver {
        Ok(driver) => driver,
        Err(reason) => return Ok(Verdict::missing(reason)),
    };
    let runner =
        tools::wasm_bindgen()?.join(format!("wasm-bindgen-test-runner{}", std::env::consts::EXE_SUFFIX));
    let finished = run_logged("wasm-tests", &mut toolchain.test(&runner, &driver))?;
    Ok(counted(&finished, summaries(&finished.lines)))
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

/// Sums lines as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out`.
fn summaries(lines: &[String]) -> Tally {
    let mut total = Tally::default();
    for line in lines.iter().filter(|line| line.starts_with("test result: ")) {
        let count = |word: &str| -> usize {
            let before = line.split(word).next().unwrap_or_default().trim_end();
            before.rsplit([' ', ';']).next().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        total.add(Tally { passed: count("passed"), failed: count("failed"), skipped: count("ignored") });
    }
    total
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

/// The verdict on one script that drives the page: its last line is its result.
fn driven(finished: &Finished) -> Verdict {
    let last = finished.lines.last().cloned().unwrap_or_default();
    match finished.code {
        Some(0) if last.is_empty() => Verdict::failed("ended without a result"),
        Some(0) => Verdict::passed(last),
        Some(SKIPPED) => Verdict::missing(last),
        _ => Verdict::of(finished),
    }
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

/// The count that a script ends with: `16 passed, 0 failed`.
fn script_summary(lines: &[String]) -> Tally {
    let count = |line: &String| {
        let (passed, rest) = line.split_once(" passed, ")?;
        let failed = rest.strip_suffix(" failed")?;
        Some(Tally { passed: passed.parse().ok()?, failed: failed.parse().ok()?, skipped: 0 })
    };
    lines.iter().rev().find_map(count).unwrap_or_default()
}

/// The verdict on tests that count themselves. A build that fails, or a program that aborts, counts nothing: it
/// is a failure all the same, and so is a run without a test.
fn counted(finished: &Finished, mut tally: Tally) -> Verdict {
    if !finished.success && tally.failed == 0 {
        tally.failed = 1;
    }
    if tally.failed > 0 {
        return Verdict { tally, ..Verdict::of(finished) };
    }
    if tally.passed == 0 {
        return Verdict::failed("no test ran");
    }
    Verdict { tally, said: tally.to_string() }
}

#[cfg(test)]
mod tests {
    use super::{SKIPPED, Tally, Verdict, counted, driven, script_summary, scripts, summaries};
    use crate::process::Finished;
    use crate::setup::in_ci;

    #[test]
    fn the_summaries_of_all_binaries_are_added() {
        let lines = [
            "running 3 tests",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.03s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.00s",
        ];
        let total = summaries(&lines.map(String::from));
        assert_eq!(total.to_string(), "15 passed, 2 failed, 1 skipped");
    }
    #[test]
    fn what_compared_nothing_is_no_pass() {
        let tally = Tally { passed: 5, failed: 0, skipped: 0 };
        let mut verdict = Verdict { tally, said: tally.to_string() };
        verdict.without_smollm2();
        let expected =
            if in_ci() { "4 passed, 1 failed, 0 skipped" } else { "4 passed, 0 failed, 1 skipped" };
        assert_eq!(verdict.tally.to_string(), expected);
    }

    #[test]
    fn a_driven_page_passes_only_with_a_result() {
        let run = |code, lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            let finished = Finished { success: code == Some(0), code, lines, log: "log".into() };
            driven(&finished).tally.to_string()
        };
        let failed = "0 passed, 1 failed, 0 skipped";
        assert_eq!(run(Some(0), &["a note", "loss 2 to 1"]), "1 passed, 0 failed, 0 skipped");
        assert_eq!(run(Some(0), &[]), failed);
        assert_eq!(run(Some(1), &["AssertionError"]), failed);
        assert_eq!(run(None, &["loss 2 to 1"]), failed);
        let skipped = if in_ci() { failed } else { "0 passed, 0 failed, 1 skipped" };
        assert_eq!(run(Some(SKIPPED), &["no model"]), skipped);
    }

    #[test]
    fn tests_of_the_page_are_found_by_name() {
        let found = scripts("tests/browser", ".mjs");
        let names = found.iter().filter_map(|path| path.file_stem()?.to_str()).collect::<Vec<_>>();
        assert!(names.contains(&"test_way") && !names.contains(&"page"), "{names:?}");
    }

    #[test]
    fn scripts_that_do_not_reach_their_count_fail() {
        let run = |success, lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            let finished = Finished { success, code: Some(i32::from(!success)), lines, log: "log".into() };
            counted(&finished, script_summary(&finished.lines)).tally.to_string()
        };
        assert_eq!(run(true, &["a: ok", "16 passed, 0 failed"]), "16 passed, 0 failed, 0 skipped");
        assert_eq!(run(false, &["15 passed, 1 failed", "a warning"]), "15 passed, 1 failed, 0 skipped");
        assert_eq!(run(false, &["Traceback"]), "0 passed, 1 failed, 0 skipped");
        assert_eq!(run(false, &["3 passed, 0 failed"]), "3 passed, 1 failed, 0 skipped");
        assert_eq!(run(true, &["nothing to do"]), "0 passed, 1 failed, 0 skipped");
    }
}
