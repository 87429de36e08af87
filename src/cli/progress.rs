//! Events for the reader at hand: JSON lines for a program, bars on a terminal, plain lines in a log.

use super::paint;
use attune::protocol::{Estimate, Event, Sample, StepMetrics, TrainSummary};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Without a terminal, steps are printed this far apart.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// A program wants to know that a download moves, not every block of it.
const JSON_EVERY: Duration = Duration::from_millis(500);

/// Shows events as they come. Standard output carries JSON only; everything for people goes to standard error.
pub struct Progress {
    audience: Audience,
    bar: Option<Bar>,
    /// When a line, or an event of progress, was last printed.
    shown: Instant,
    first_step: Option<(usize, Instant)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Audience {
    Nobody,
    Program,
    Terminal,
    Log,
}

struct Bar {
    task: String,
    bar: ProgressBar,
}

impl Progress {
    /// `json` as given by `--json`.
    pub fn new(json: Json) -> Self {
        let audience = match json {
            Json::Yes => Audience::Program,
            Json::No if std::io::stderr().is_terminal() => Audience::Terminal,
            Json::No => Audience::Log,
        };
        // What is over at once needs no line but its last.
        Self { audience, bar: None, shown: Instant::now(), first_step: None }
    }

    /// For a command that prints one object: people see its progress, a program only the object.
    pub fn for_people(json: Json) -> Self {
        let audience = match json {
            Json::Yes => Audience::Nobody,
            Json::No => return Self::new(json),
        };
        Self { audience, ..Self::new(json) }
    }

    /// Shows one event.
    pub fn event(&mut self, event: &Event) {
        match self.audience {
            Audience::Nobody => return Self::left_out(event),
            Audience::Program => return self.json(event),
            Audience::Terminal | Audience::Log => {}
        }
        match event {
            Event::Progress { task, done, total } => self.progress(task, *done, *total),
            Event::Note { message } => self.say(message),
            Event::Data(report) => self.say(report.to_string().trim_end()),
            Event::Estimate(estimate) => self.say(&estimate_text(estimate)),
            Event::Step(step) => self.step(step),
            Event::Eval(eval) => self.say(&eval.to_string()),
            Event::Sample(sample) => self.say(&sample_text(sample)),
            Event::Sign(sign) => self.say(&format!("note: {sign}")),
            Event::Checkpoint { step, path, best } => {
                let best = if *best { ", the best so far" } else { "" };
                self.say(&format!("step {step}: saved {path}{best}"));
            }
            Event::Done(summary) => {
                self.finish();
                self.say(&summary_text(summary));
            }
        }
    }

    /// Ends the bar; later lines start on a fresh one.
    pub fn finish(&mut self) {
        if let Some(Bar { bar, .. }) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Bad rows are told in any case: the one object of the command cannot tell them.
    fn left_out(event: &Event) {
        if let Event::Data(report) = event {
            report.problems.iter().for_each(|problem| eprintln!("{problem}"));
        }
    }

    fn json(&mut self, event: &Event) {
        if let Event::Progress { done, total, .. } = event {
            let ends = done >= total && *total > 0;
            if !ends && self.shown.elapsed() < JSON_EVERY {
                return;
            }
            self.shown = Instant::now();
        }
        match serde_json::to_string(event) {
            Ok(text) => paint::line(&text),
            Err(error) => eprintln!("could not write an event: {error}"),
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(Bar { bar, .. }) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn progress(&mut self, task: &str, done: u64, total: u64) {
        if self.audience == Audience::Terminal {
            let bar = self.bar_for(task, total, "{msg:24!} {wide_bar} {percent:>3} %  {eta:>4} left");
            bar.set_position(done);
            bar.set_message(task.to_string());
            if total > 0 && done >= total {
                self.finish();
            }
            return;
        }
        let begins = self.bar.is_none() && self.due();
        if begins || (total > 0 && done >= total) {
            eprintln!("{}", progress_line(task, done, total));
        }
    }

    fn step(&mut self, step: &StepMetrics) {
        let (first, since) = *self.first_step.get_or_insert_with(|| (step.step, Instant::now()));
        let ends = step.step >= step.total_steps;
        let left = time_left(
            step.step - first.min(step.step),
            step.total_steps - step.step.min(step.total_steps),
            since.elapsed(),
        );
        if self.audience == Audience::Terminal {
            let bar = self.bar_for("training", step.total_steps as u64, "{wide_bar} {pos}/{len}  {msg}");
            bar.set_position(step.step as u64);
            bar.set_message(format!("loss {:.4}  {:.0} tokens/s  {left}", step.loss, step.tokens_per_sec));
        } else if ends || self.due() {
            eprintln!("{step}  {left}");
        }
    }

    /// Whether enough time has passed since the last line; counts as one printed when it has.
    fn due(&mut self) -> bool {
        if self.shown.elapsed() < LINE_EVERY {
            return false;
        }
        self.shown = Instant::now();
        true
    }

    /// The bar of this task; another task's bar is ended.
    fn bar_for(&mut self, task: &str, total: u64, template: &str) -> &ProgressBar {
        if self.bar.as_ref().is_some_and(|bar| bar.task != task) {
            self.finish();
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(total);
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸ "));
            }
            Bar { task: task.to_string(), bar }
        });
        bar.bar.set_length(total);
        &bar.bar
    }
}

/// Whether `--json` was given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Json {
    /// Standard output carries JSON and nothing else.
    Yes,
    /// Output for people.
    No,
}

/// Time until the last step at the speed so far; unknown after the first step.
fn time_left(n_timed: usize, n_left: usize, elapsed: Duration) -> String {
    if n_left == 0 {
        return String::new();
    }
    if n_timed == 0 {
        return "time left unknown yet".into();
    }
    let left = elapsed.as_secs_f64() / n_timed as f64 * n_left as f64;
    format!("{} left", clock(left))
}

/// `1:02:03`, `2:03`
fn clock(secs: f64) -> String {
    let secs = secs.round().max(0.0) as u64;
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{secs:02}") } else { format!("{minutes}:{secs:02}") }
}

fn progress_line(task: &str, done: u64, total: u64) -> String {
    match total {
        // Only downloads do not know their end.
        0 => format!("{task}: {:.1} MB so far", done as f64 / 1e6),
        total => format!("{task}: {} %", 100 * done.min(total) / total),
    }
}

/// Prompt and answer, each shortened to what a terminal has room for.
fn sample_text(sample: &Sample) -> String {
    let line = |text: &str| {
        let text = text.trim().replace(char::is_control, " ");
        let short: String = text.chars().take(300).collect();
        if short.len() < text.len() { format!("{short}…") } else { short }
    };
    format!("step {}: to \"{}\" it says \"{}\"", sample.step, line(&sample.prompt), line(&sample.text))
}

fn summary_text(summary: &TrainSummary) -> String {
    let best = match summary.best_eval {
        Some((step, loss)) => format!(", lowest held-out loss {loss:.4} at step {step}"),
        None => String::new(),
    };
    let stopped = if summary.stopped_early { ", stopped early" } else { "" };
    format!(
        "{} steps in {}, mean loss {:.4}{best}{stopped}; trained {} of {} parameters",
        summary.steps,
        HumanDuration(Duration::from_secs_f64(summary.duration_secs.max(0.0))),
        summary.train_loss,
        grouped(summary.trainable_params),
        grouped(summary.total_params)
    )
}

/// `needs about 1.85 GB at its peak (weights 538 MB, …); about 4:09 for 100 steps`
fn estimate_text(estimate: &Estimate) -> String {
    let mut parts = estimate.memory.parts();
    parts.sort_by_key(|(_, n_bytes)| std::cmp::Reverse(*n_bytes));
    let shown = parts.iter().filter(|(_, n_bytes)| *n_bytes >= estimate.peak_bytes / 50);
    let shown: Vec<String> = shown.map(|(name, n_bytes)| format!("{name} {}", bytes(*n_bytes))).collect();
    let memory = format!("needs about {} of memory ({})", bytes(estimate.peak_bytes), shown.join(", "));
    match &estimate.time {
        Some(time) => format!("{memory}; about {} for {} steps", clock(time.secs), grouped(time.total_steps)),
        None => memory,
    }
}

/// `1.85 GB`, `98 MB`
fn bytes(n: u64) -> String {
    if n >= 1_000_000_000 { format!("{:.2} GB", n as f64 / 1e9) } else { format!("{:.0} MB", n as f64 / 1e6) }
}

/// `1,234,567`
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_read_well() {
        assert_eq!([59.6, 61.0, 3723.0].map(clock), ["1:00", "1:01", "1:02:03"]);
        assert_eq!([7, 999, 1000, 1_234_567].map(grouped), ["7", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn progress_without_a_known_end_is_told_too() {
        assert_eq!(progress_line("fetching", 12_345_678, 0), "fetching: 12.3 MB so far");
        assert_eq!(progress_line("fetching", 5, 4), "fetching: 100 %");
    }

    #[test]
    fn time_left_follows_the_speed_so_far() {
        assert_eq!(time_left(0, 5, Duration::ZERO), "time left unknown yet");
        assert_eq!(time_left(10, 20, Duration::from_secs(30)), "1:00 left");
        assert_eq!(time_left(10, 0, Duration::from_secs(30)), "");
    }
}
