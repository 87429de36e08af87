//! Sides that take turns step by step: a machine that slows down for seconds slows all of them.
//!
//! Each is a process that says when it is ready for a step and waits to be told (`--paced`); between steps it holds its
//! model and computes nothing.

use super::cases::Side;
use super::order;
use super::side::{Bench, Sample, timed_itself};
use crate::demo::typed;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

/// For threads that stay awake for a while after their work, as OpenMP's do.
const PAUSE: Duration = Duration::from_millis(300);

/// A sample of each turn of each side, or why a side has none.
pub fn take(bench: &Bench, sides: &[Side], n_turns: u32) -> Vec<Result<Vec<Sample>>> {
    let mut paced: Vec<Result<Paced>> = sides.iter().map(|side| Paced::start(bench, side, n_turns)).collect();
    for turn in 0..n_turns {
        for at in order(paced.len(), turn) {
            if let Ok(process) = &mut paced[at] {
                thread::sleep(PAUSE);
                if let Err(error) = process.step() {
                    paced[at] = Err(error);
                }
            }
        }
    }
    paced.into_iter().map(|process| process?.samples(n_turns)).collect()
}

struct Paced {
    command: String,
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// The last line, once there is no more.
    last: Option<Value>,
}

impl Paced {
    /// Starts a process and waits until it is ready.
    fn start(bench: &Bench, side: &Side, n_turns: u32) -> Result<Self> {
        let mut command = bench.command(side, Some(n_turns))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let command_line = typed(&command);
        eprintln!("$ {command_line}");
        let mut child = command.spawn().with_context(|| format!("could not start {command_line}"))?;
        let input = child.stdin.take().context("the child has no input")?;
        let lines = BufReader::new(child.stdout.take().context("the child has no output")?).lines();
        let mut process = Self { command: command_line, child, input, lines, last: None };
        process.wait()?;
        Ok(process)
    }

    /// Waits until the process is ready for a step, or has told its figures.
    fn wait(&mut self) -> Result<()> {
        for line in self.lines.by_ref() {
            let line = line.context("the child's output")?;
            let Ok(object) = serde_json::from_str::<Value>(&line) else { continue };
            if object["event"] == "ready" {
                return Ok(());
            }
            self.last = Some(object);
        }
        let status = self.child.wait().context("could not wait for the child")?;
        ensure!(status.success(), "`{}` failed ({status})", self.command);
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        self.input
            .write_all(b"\n")
            .and_then(|()| self.input.flush())
            .context("the child takes no more turns")?;
        self.wait()
    }

    fn samples(self, n_turns: u32) -> Result<Vec<Sample>> {
        let Some(last) = &self.last else { bail!("`{}` told no figures", self.command) };
        let whole = timed_itself(last)?;
        let n = whole.tokens_per_sec.len();
        ensure!(n == n_turns as usize, "`{}` timed {n} steps of {n_turns}", self.command);
        let of = |&rate: &f64| Sample { tokens_per_sec: vec![rate], ..whole.clone() };
        Ok(whole.tokens_per_sec.iter().map(of).collect())
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        // Where something failed before its end; it may have ended by itself.
        if self.last.is_none() {
            _ = self.child.kill();
            _ = self.child.wait();
        }
    }
}
