//! How the stages of `cargo xtask test` ended, read from what their programs print.

use crate::browser::SKIPPED;
use crate::process::Finished;
use crate::setup::in_ci;

/// How a stage, or a test binary, ended.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Tally {
    const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    pub fn add(&mut self, other: Self) {
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
pub struct Verdict {
    pub tally: Tally,
    pub said: String,
}

impl Verdict {
    pub fn passed(said: impl Into<String>) -> Self {
        Self { tally: Tally::PASSED, said: said.into() }
    }

    pub fn failed(said: impl Into<String>) -> Self {
        Self { tally: Tally::FAILED, said: said.into() }
    }

    /// What cannot be set up may be skipped at a desk, never in continuous integration.
    pub fn missing(reason: impl Into<String>) -> Self {
        if in_ci() { Self::failed(reason) } else { Self { tally: Tally::SKIPPED, said: reason.into() } }
    }

    /// Both.
    pub fn and(mut self, other: Self) -> Self {
        self.tally.add(other.tally);
        self.said = other.said;
        self
    }

    /// Takes the test of the real model, which passes where it has none, out of those that passed.
    pub fn without_smollm2(&mut self) {
        let missing = Self::missing("SmolLM2 could not be fetched: its test compared nothing");
        self.tally.passed = self.tally.passed.saturating_sub(1);
        self.tally.add(missing.tally);
        self.said = format!("{}; {}", self.said, missing.said);
    }

    pub fn of(finished: &Finished) -> Self {
        if finished.success {
            return Self::passed("");
        }
        let code = finished.code.map_or("a signal".into(), |code| format!("exit code {code}"));
        Self::failed(format!("{}\n({code}; all of it: {})", finished.tail(), finished.log.display()))
    }
}

/// The verdict on one script that drives the page: its last line is its result.
pub fn driven(finished: &Finished) -> Verdict {
    let last = finished.lines.last().cloned().unwrap_or_default();
    match finished.code {
        Some(0) if last.is_empty() => Verdict::failed("ended without a result"),
        Some(0) => Verdict::passed(last),
        Some(SKIPPED) => Verdict::missing(last),
        _ => Verdict::of(finished),
    }
}

/// Sums lines as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out`.
pub fn summaries(lines: &[String]) -> Tally {
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

/// The count that a script ends with: `16 passed, 0 failed`.
pub fn script_summary(lines: &[String]) -> Tally {
    let count = |line: &String| {
        let (passed, rest) = line.split_once(" passed, ")?;
        let failed = rest.strip_suffix(" failed")?;
        Some(Tally { passed: passed.parse().ok()?, failed: failed.parse().ok()?, skipped: 0 })
    };
    lines.iter().rev().find_map(count).unwrap_or_default()
}

/// The verdict on tests that count themselves. A build that fails, or a program that aborts, counts nothing: it
/// is a failure all the same, and so is a run without a test.
pub fn counted(finished: &Finished, mut tally: Tally) -> Verdict {
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
    use super::{SKIPPED, Tally, Verdict, counted, driven, script_summary, summaries};
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
