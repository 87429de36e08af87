//! One process of one side, and what it showed: from its own figures, or from outside by the clock on the wall.

use super::cases::{Kind, Program, Side};
use super::median;
use crate::{cache, demo, setup};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Reviews of the first batch, and of the packed run: some ten thousand tokens.
const FIRST_ROWS: usize = 8;
const PACKED_ROWS: usize = 320;
/// How often a process is asked for its peak of memory; the system keeps the peak, so only the last one counts.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What one process showed.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Of each step; of a run measured as a whole, of all its steps together.
    pub tokens_per_sec: Vec<f64>,
    /// From its start, where that is what counts.
    pub secs: Option<f64>,
    /// Optimizer steps and tokens, where the process tells of each step.
    pub steps: Option<(usize, usize)>,
    /// From the process's start.
    pub peak_rss_mib: Option<f64>,
    /// From the moment that the model is loaded, where the process can tell.
    pub work_peak_rss_mib: Option<f64>,
    /// The last object that it printed.
    pub last: Value,
}

impl Sample {
    /// Larger is faster: runs a second where whole processes are timed, else tokens a second.
    pub fn speed(&self) -> f64 {
        self.secs.map_or_else(|| median(&self.tokens_per_sec), |secs| 1.0 / secs)
    }

    /// The work's own peak where it is known: loading makes copies that a short run is not about.
    pub fn memory_mib(&self) -> Option<f64> {
        self.work_peak_rss_mib.or(self.peak_rss_mib)
    }
}

/// What every process of a benchmark is given.
pub struct Bench {
    attune: PathBuf,
    model: String,
    device: String,
    threads: usize,
    python: Option<PathBuf>,
    folder: PathBuf,
}

impl Bench {
    /// Fetches the reviews, too.
    pub fn new(
        attune: PathBuf,
        model: String,
        device: String,
        threads: usize,
        python: Option<PathBuf>,
    ) -> Result<Self> {
        let folder = cache::target_dir().join("xtask").join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
        let bench = Self { attune, model, device, threads, python, folder };
        let data = cache::dir().join("data");
        demo::fetch_reviews(&bench.attune, &data)?;
        let path = data.join("train.jsonl");
        let rows = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        for (name, n_rows) in [("first", FIRST_ROWS), ("packed", PACKED_ROWS)] {
            let text: String = rows.split_inclusive('\n').take(n_rows).collect();
            let path = bench.rows(name);
            fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
        }
        Ok(bench)
    }

    fn rows(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.jsonl"))
    }

    fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    /// Why a side cannot run here.
    pub fn lacks(&self, side: &Side) -> Option<String> {
        match (side.program, &self.python) {
            (Program::Attune, _) => None,
            (Program::Script(_), None) => {
                Some("no Python with torch, transformers and peft (see ATTUNE_PYTHON)".into())
            }
            (Program::Script(_), Some(python)) => {
                let has = setup::has_modules(python, side.needs);
                (!has).then(|| format!("{} has no {}", python.display(), side.needs.join(" and ")))
            }
        }
    }

    /// Versions of what attune is compared with, as the packages tell them.
    pub fn versions(&self) -> Value {
        let Some(python) = &self.python else { return Value::Null };
        let names = "['torch', 'transformers', 'peft', 'trl', 'llama_cpp_python']";
        let code = format!(
            "import json, importlib.metadata as m\nfound = {{}}\nfor n in {names}:\n  try: found[n] = m.version(n)\n  \
             except m.PackageNotFoundError: pass\nprint(json.dumps(found))"
        );
        let output = Command::new(python).args(["-c", &code]).output();
        output.ok().and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default()
    }

    /// Runs a side that times its own steps, alone.
    pub fn timed(&self, side: &Side) -> Result<Sample> {
        timed_itself(&demo::last_object(&mut self.command(side, None)?)?)
    }

    /// Runs a side once, timed from outside.
    pub fn watched(&self, kind: Kind, side: &Side) -> Result<Sample> {
        let out = self.out();
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("could not remove {}", out.display()))?;
        }
        watched(kind, &mut self.command(side, None)?)
    }

    /// The process of a side; with so many turns, it waits to be told before each.
    pub fn command(&self, side: &Side, n_turns: Option<u32>) -> Result<Command> {
        let mut command = match side.program {
            Program::Attune => Command::new(&self.attune),
            Program::Script(file) => {
                let mut command = Command::new(self.python.as_deref().context("no Python")?);
                command.arg(crate::root().join("tests/reference").join(file));
                command
            }
        };
        let paced = n_turns.map(|_| "--paced");
        // A script's subcommands come after what all of them have; attune's flags after the subcommand.
        if side.program != Program::Attune {
            command.args(paced);
        }
        command.args(side.args.iter().map(|text| self.filled_in(text, n_turns.unwrap_or(1))));
        if side.program == Program::Attune {
            command.args(paced);
        }
        let threads = self.threads.to_string();
        command.env("RAYON_NUM_THREADS", &threads).env("OMP_NUM_THREADS", threads);
        Ok(command)
    }

    /// An argument with what only the run knows.
    fn filled_in(&self, text: &str, steps: u32) -> String {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        match text {
            "{model}" => self.model.clone(),
            "{alias}" => demo::MODEL.into(),
            "{device}" => self.device.clone(),
            "{steps}" => steps.to_string(),
            "{threads}" => self.threads.to_string(),
            "{first}" => path(self.rows("first")),
            "{packed}" => path(self.rows("packed")),
            "{out}" => path(self.out()),
            other => other.into(),
        }
    }
}

/// The figures of a process that times its own steps.
pub fn timed_itself(object: &Value) -> Result<Sample> {
    let steps = object["tokens_per_sec"].as_array().context("no list `tokens_per_sec`")?;
    let tokens_per_sec: Vec<f64> = steps.iter().filter_map(Value::as_f64).collect();
    ensure!(!tokens_per_sec.is_empty(), "no step was measured");
    Ok(Sample {
        tokens_per_sec,
        peak_rss_mib: object["peak_rss_mib"].as_f64(),
        // Only Linux can tell.
        work_peak_rss_mib: object["work_peak_rss_mib"].as_f64(),
        last: object.clone(),
        ..Sample::default()
    })
}

/// Starts a process and reads the optimizer steps it tells of, each when it is told.
fn watched(kind: Kind, command: &mut Command) -> Result<Sample> {
    eprintln!("$ {}", demo::typed(command));
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {}", demo::typed(command)))?;
    let is_over = AtomicBool::new(false);
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let (read, peak_rss_mib) = thread::scope(|scope| {
        let peak = scope.spawn(|| last_peak(&status, &is_over));
        let read = read_steps(began, &mut child);
        let ended = child.wait().context("could not wait for the child");
        is_over.store(true, Ordering::Relaxed);
        let read = read.and_then(|read| Ok((read, ended?)));
        (read, peak.join().ok().flatten())
    });
    let (told, status) = read?;
    ensure!(status.success(), "`{}` failed ({status})", demo::typed(command));
    let whole = began.elapsed().as_secs_f64();
    let last = told.steps.last().context("it told of no optimizer step")?;
    let n_tokens: usize =
        told.steps.iter().filter_map(|step| step["n_tokens"].as_u64()).sum::<u64>() as usize;
    let training = last["elapsed_secs"].as_f64().context("its last step has no `elapsed_secs`")?;
    Ok(Sample {
        tokens_per_sec: vec![n_tokens as f64 / training.max(1e-9)],
        secs: Some(if kind == Kind::FirstStep { told.first_secs } else { whole }),
        steps: Some((told.steps.len(), n_tokens)),
        peak_rss_mib,
        last: json!(last),
        ..Sample::default()
    })
}

/// What a process told while it ran.
struct Told {
    steps: Vec<Value>,
    /// From its start to the first step's line.
    first_secs: f64,
}

fn read_steps(began: Instant, child: &mut Child) -> Result<Told> {
    let output = child.stdout.take().context("the child has no output")?;
    let mut told = Told { steps: Vec::new(), first_secs: f64::NAN };
    for line in BufReader::new(output).lines() {
        let at = began.elapsed();
        let line = line.context("the child's output")?;
        let Some(object) = serde_json::from_str::<Value>(&line).ok() else { continue };
        if object["event"] == "step" {
            if told.steps.is_empty() {
                told.first_secs = at.as_secs_f64();
            }
            told.steps.push(object);
        }
    }
    Ok(told)
}

/// The peak of a process's resident memory in MiB, asked for until it is over; `None` where the system cannot tell.
fn last_peak(status: &Path, is_over: &AtomicBool) -> Option<f64> {
    let mut peak = None;
    while !is_over.load(Ordering::Relaxed) {
        let now = fs::read_to_string(status).ok().and_then(|text| peak_of(&text));
        peak = now.or(peak);
        thread::sleep(ASK_EVERY);
    }
    peak
}

fn peak_of(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::{Sample, peak_of, timed_itself};
    use serde_json::json;

    #[test]
    fn a_process_that_timed_no_step_measured_nothing() {
        assert!(timed_itself(&json!({ "tokens_per_sec": [] })).is_err());
        assert!(timed_itself(&json!({})).is_err());
        let sample = timed_itself(&json!({ "tokens_per_sec": [1.0, 9.0, 2.0], "peak_rss_mib": 7.0 }))
            .expect("figures");
        assert_eq!((sample.speed(), sample.memory_mib()), (2.0, Some(7.0)));
    }

    #[test]
    fn whole_processes_are_judged_by_their_time() {
        let sample = Sample { secs: Some(4.0), tokens_per_sec: vec![100.0], ..Sample::default() };
        assert_eq!(sample.speed(), 0.25);
    }

    #[test]
    fn the_peak_is_read_as_the_system_writes_it() {
        assert_eq!(peak_of("VmPeak:\t  9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2.0));
        assert_eq!(peak_of("VmRSS:\t 1 kB\n"), None);
    }
}
