//! `attune bench-step` and `attune bench-generate`: what `cargo xtask bench` measures, one process a case.

use super::progress::{Json, Progress};
use super::{args, open, paint, required, run_file};
use attune::config::{self, Run, Setting};
use attune::data::Encoded;
use attune::models::Pass;
use attune::protocol::{Control, Estimate, Event};
use attune::session::{self, Place, Prepared, Work};
use attune::store::memory::MemoryStore;
use attune::train::Start;
use attune::{Error, Result, native};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Kernel interface that forgets the peak of resident memory when `5` is written to it (Linux, proc(5)).
const CLEAR_REFS: &str = "/proc/self/clear_refs";

/// The arguments of `bench-step`.
pub fn step_command(command: Command) -> Result<Command> {
    let command = command.about("Time training steps on random tokens").hide(true);
    let command = command.arg(count("batch", "1")).arg(count("seq", "128"));
    let command = command.arg(count("steps", "5")).arg(count("warmup", "1")).arg(paced());
    let command = command.arg(args::method_flag());
    Ok(args::add_flags(command, &step_settings(), &run_file::defaults()?))
}

/// The arguments of `bench-generate`.
pub fn generate_command(command: Command) -> Result<Command> {
    let command = command.about("Time greedy generation after a random prompt").hide(true);
    let command = command.arg(count("batch", "1")).arg(count("prompt-tokens", "32"));
    let command = command.arg(count("new-tokens", "64"));
    common(command.arg(count("steps", "3")).arg(count("warmup", "1")))
}

fn common(command: Command) -> Result<Command> {
    Ok(args::add_flags(command.arg(paced()), &settings(), &run_file::defaults()?))
}

fn paced() -> Arg {
    let help = "Before each step that counts, print a line and wait for one";
    Arg::new("paced").long("paced").action(ArgAction::SetTrue).help(help)
}

fn count(name: &'static str, default: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u16)).default_value(default)
}

fn settings() -> Vec<&'static Setting> {
    config::table()
        .filter(|setting| ["model", "device", "precision", "weights"].contains(&setting.key().as_str()))
        .collect()
}

/// What changes a step's time and memory.
fn step_settings() -> Vec<&'static Setting> {
    let keys = [
        "model",
        "device",
        "precision",
        "weights",
        "method.rank",
        "method.dropout",
        "method.target_modules",
        "train.optimizer",
        "train.gradient_accumulation_steps",
        "train.gradient_checkpointing",
    ];
    config::table().filter(|setting| keys.contains(&setting.key().as_str())).collect()
}

fn number(matches: &ArgMatches, name: &str) -> Result<usize> {
    required::<u16>(matches, name).map(|&n| usize::from(n))
}

fn run_of(matches: &ArgMatches, settings: &[&'static Setting]) -> Result<Run> {
    let flags = args::given(matches, settings);
    let method = matches.try_get_one::<String>("method").ok().flatten().map(String::as_str);
    run_file::assemble(&run_file::Sources { flags, method, ..run_file::Sources::default() })
}

/// Runs `attune bench-step`: the real training loop on rows of random tokens without padding.
pub fn run_step(matches: &ArgMatches) -> Result<()> {
    let (batch, seq) = (number(matches, "batch")?, number(matches, "seq")?);
    let (steps, warmup) = (number(matches, "steps")?, number(matches, "warmup")?);
    let mut run = run_of(matches, &step_settings())?;
    run.data.path = Some("random".into());
    run.data.max_length = seq;
    run.train.batch_size = batch;
    run.train.max_steps = Some(warmup + steps);
    let opened = open::model(&run.model, &mut Progress::for_people(Json::Yes))?;
    let files = opened.files()?;
    let tokenizer = session::tokenizer_of(&files)?;
    let row = |seed: u64| Encoded {
        ids: random_ids(seed, seq, tokenizer.vocab_size()),
        loss_weights: std::iter::once(0.0).chain(std::iter::repeat(1.0)).take(seq).collect(),
        truncated: false,
    };
    let n_rows = batch * (warmup + steps) * run.train.gradient_accumulation_steps;
    let train = (0..n_rows as u64).map(row).collect();
    let rows = Prepared { train, held_out: Vec::new(), choices: None, prompts: Vec::new() };
    let is_paced = matches.get_flag("paced");
    let (mut rates, mut losses, mut work) = (Vec::new(), Vec::new(), Measured::default());
    let store = MemoryStore::new();
    let job = Work { run: &run, files: &files, tokenizer: &tokenizer, adapter: None, store: &store };
    native::block_on(session::train(job, rows, Start::Fresh, &mut |event| {
        match event {
            // Loading is all that has progress: what comes after it is the work.
            Event::Progress { .. } => forget_peak(),
            Event::Estimate(estimate) => work.estimate = Some(estimate),
            Event::Step(step) => {
                losses.push(step.loss);
                // Saving comes after the last step: here it would be into memory.
                work.peak_rss_mib = peak_rss_mib();
                if step.step > warmup {
                    rates.push(step.tokens_per_sec);
                }
                if is_paced && (warmup..warmup + steps).contains(&step.step) {
                    wait_for_turn();
                }
            }
            _ => {}
        }
        Control::Continue
    }))?;
    print("train", &rates, Some(&losses), &work);
    Ok(())
}

/// Runs `attune bench-generate`.
pub fn run_generate(matches: &ArgMatches) -> Result<()> {
    let (n_prompt, n_new) = (number(matches, "prompt-tokens")?.max(1), number(matches, "new-tokens")?.max(1));
    let (steps, warmup) = (number(matches, "steps")?, number(matches, "warmup")?);
    let n_rows = number(matches, "batch")?.max(1);
    let run = run_of(matches, &settings())?;
    let opened = open::model(&run.model, &mut Progress::for_people(Json::Yes))?;
    let files = opened.files()?;
    let tokenizer = session::tokenizer_of(&files)?;
    let prompt = |row: usize| -> Vec<i32> {
        random_ids(row as u64, n_prompt, tokenizer.vocab_size()).iter().map(|&id| id as i32).collect()
    };
    let prompts: Vec<Vec<i32>> = (0..n_rows).map(prompt).collect();
    let model =
        native::block_on(session::load_model(Place::of(&run), &files, None, &mut |_| Control::Continue))?;
    forget_peak();
    let mut rates = Vec::new();
    for round in 0..warmup + steps {
        if round >= warmup && matches.get_flag("paced") {
            wait_for_turn();
        }
        let began = Instant::now();
        let mut cache = model.cache(n_rows);
        let mut next = prompts.clone();
        for _ in 0..n_new {
            let rows: Vec<&[i32]> = next.iter().map(Vec::as_slice).collect();
            let logits = model.extend(&rows, &mut cache, Pass::INFERENCE)?; // [batch, vocab]
            let best = native::block_on(logits.argmax(1).into_data_async());
            let best = best.map_err(|error| Error::Internal(format!("reading a token: {error}")))?;
            next = best.iter::<i32>().map(|id| vec![id]).collect();
        }
        if round >= warmup {
            rates.push((n_rows * n_new) as f64 / began.elapsed().as_secs_f64());
        }
    }
    print("generate", &rates, None, &Measured { peak_rss_mib: peak_rss_mib(), estimate: None });
    Ok(())
}

/// Says that the next step can begin and waits for a line, or for the end of the input.
fn wait_for_turn() {
    paint::line(r#"{"event":"ready"}"#);
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn random_ids(seed: u64, n: usize, vocab_size: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(0..vocab_size as u32)).collect()
}

/// Memory of the work itself, and what was foretold.
#[derive(Default)]
struct Measured {
    peak_rss_mib: Option<f64>,
    estimate: Option<Box<Estimate>>,
}

fn print(case: &str, rates: &[f64], losses: Option<&[f64]>, work: &Measured) {
    paint::line(
        &serde_json::json!({
            "case": case,
            "tokens_per_sec": rates,
            "peak_rss_mib": larger(*earlier_peak(), peak_rss_mib()),
            "work_peak_rss_mib": work.peak_rss_mib,
            "loss": losses,
            "estimate": work.estimate,
        })
        .to_string(),
    );
}

/// The largest peak that was forgotten, in MiB.
static EARLIER_PEAK: Mutex<Option<f64>> = Mutex::new(None);

fn earlier_peak() -> MutexGuard<'static, Option<f64>> {
    EARLIER_PEAK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins a new peak; the old one is remembered.
fn forget_peak() {
    let mut earlier = earlier_peak();
    *earlier = larger(*earlier, peak_rss_mib());
    // Where it cannot be forgotten, the work's peak is that of the whole process: too large, never too small.
    let _ = std::fs::write(CLEAR_REFS, "5");
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::max)
}

/// Peak resident memory since it was last forgotten, in MiB; `None` where the system does not tell.
fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
