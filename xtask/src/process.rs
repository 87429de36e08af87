//! Children: their output goes to a log, their progress to the screen, and their failure to the reader.

use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A long silent stage looks hung: without a terminal, one line is printed this often.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// Lines of a failed child that are shown; the log has them all.
const TAIL: usize = 120;

/// What a finished child left behind.
pub struct Finished {
    /// Whether it exited with 0.
    pub success: bool,
    /// Exit code, absent when a signal ended it.
    pub code: Option<i32>,
    /// Both its outputs, line by line as they came.
    pub lines: Vec<String>,
    /// The same on disk.
    pub log: PathBuf,
}

impl Finished {
    /// The last lines, for a failure.
    pub fn tail(&self) -> String {
        self.lines[self.lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

/// `cargo` with the arguments, in the repository's root, building into the shared cache.
pub fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    // CARGO is the cargo that runs this task, so toolchain overrides hold for its children too.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(crate::root()).env("CARGO_TARGET_DIR", crate::cache::target_dir());
    command
}

/// Runs to the end, keeping the output in `<target>/xtask/NAME.log`.
///
/// # Errors
/// Where the child cannot be started or the log not be written; a failing child is no error here.
pub fn run_logged(name: &str, command: &mut Command) -> Result<Finished> {
    let folder = crate::cache::target_dir().join("xtask");
    std::fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    let log_path = folder.join(format!("{name}.log"));
    let mut log = std::fs::File::create(&log_path)
        .with_context(|| format!("could not write {}", log_path.display()))?;

    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {}", command.get_program().to_string_lossy()))?;
    let (sender, receiver) = channel::<String>();
    let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
        child.stdout.take().map(|stream| Box::new(stream) as _),
        child.stderr.take().map(|stream| Box::new(stream) as _),
    ];
    for stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);

    let live = std::io::stderr().is_terminal();
    let mut lines = Vec::new();
    let mut beat = Instant::now();
    loop {
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                writeln!(log, "{line}").with_context(|| format!("could not write {}", log_path.display()))?;
                if live {
                    let shown: String = line.trim().chars().take(90).collect();
                    eprint!("\r\x1b[2K  {:>4} s  {shown}", started.elapsed().as_secs());
                }
                lines.push(line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if !live && beat.elapsed() >= HEARTBEAT {
            beat = Instant::now();
            let last = lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
            eprintln!("  {:>4} s  {}", started.elapsed().as_secs(), last.unwrap_or("…"));
        }
    }
    if live {
        eprint!("\r\x1b[2K");
    }
    let status = child.wait().context("could not wait for the child")?;
    Ok(Finished { success: status.success(), code: status.code(), lines, log: log_path })
}

/// Whether the command can be started and succeeds; its output is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
