//! A session as the page's worker drives it, over a store in memory.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::support::{device_name, folder};
use attune::config::{DataConfig, GenerateConfig, Run, differences};
use attune::models::Adapter;
use attune::native::block_on;
use attune::protocol::{Command, Control, Event, Parcel, Prompt, RateFrom, Sample, Stored, Update, Voice};
use attune::session::{Session, figures};
use attune::store::Store;
use attune::store::memory::MemoryStore;
use attune::{Error, Result};

pub const ROWS: &str = "data/rows.jsonl";

pub type Page = Session<MemoryStore>;

pub fn session() -> Page {
    let rows: Vec<String> = (0..8).map(|i| format!(r#"{{"prompt":"a{i}","completion":" b{i}"}}"#)).collect();
    let stored = MemoryStore::new()
        .with("data/rows.jsonl", rows.join("\n"))
        .with("data/bad.jsonl", "{\"prompt\":\"a\",\"completion\":\" b\"}\n{\"prompt\":3}\n");
    let stored = ["models/llama", "tokenizer"].iter().fold(stored, |stored, name| {
        let files = folder(name);
        block_on(files.list("")).unwrap().into_iter().fold(stored, |stored, key| {
            let bytes = block_on(files.read_all(&key, 1 << 30)).unwrap();
            stored.with(format!("models/llama/{key}"), bytes)
        })
    });
    Session::new(stored, device_name())
}

/// Everything told until the command ends; `stop_at` asks to stop at that step.
pub fn told(session: &mut Page, command: Command, stop_at: Option<usize>) -> (Vec<Update>, Result<()>) {
    let mut updates = Vec::new();
    let outcome = block_on(session.handle(command, &mut |update| {
        // The page sees what crosses as text, where a float may lose its last bit.
        let update: Update = serde_json::from_str(&serde_json::to_string(&update).unwrap()).unwrap();
        let stop = matches!(&update, Update::Event(Event::Step(step)) if Some(step.step) == stop_at);
        updates.push(update);
        if stop { Control::Stop } else { Control::Continue }
    }));
    (updates, outcome)
}

pub fn ok(session: &mut Page, command: Command) -> Vec<Update> {
    let (updates, outcome) = told(session, command, None);
    outcome.unwrap();
    updates
}

pub fn open() -> Command {
    Command::OpenModel { key: "models/llama".into(), name: "tiny".into() }
}

pub fn read(key: &str) -> Command {
    Command::ReadData {
        key: key.into(),
        name: "rows.jsonl".into(),
        settings: DataConfig::default(),
        seed: 42,
    }
}

pub fn run(out: &str) -> Box<Run> {
    let mut run = Run { out: out.into(), ..Run::default() };
    run.train.max_steps = Some(4);
    run.train.batch_size = 2;
    run.train.learning_rate = Some(1e-2);
    Box::new(run)
}

pub fn say(voice: Voice) -> Command {
    let sampling = GenerateConfig { max_new_tokens: 4, ..GenerateConfig::default() };
    Command::Generate { prompt: Prompt::Text("a1".into()), voice, sampling, seed: 0 }
}

pub fn losses(updates: &[Update]) -> Vec<f64> {
    let loss = |update: &Update| match update {
        Update::Event(Event::Step(step)) => Some(step.loss),
        _ => None,
    };
    updates.iter().filter_map(loss).collect()
}

#[test]
fn the_way_through_from_files_to_an_adapter() {
    let mut session = session();
    let model = ok(&mut session, open());
    let Update::Model(card) = &model[0] else { panic!("{model:?}") };
    assert_eq!((card.name.as_str(), card.architecture.as_str()), ("tiny", "llama"));
    assert!(card.n_params > 1000 && card.n_bytes >= 2 * card.n_params as u64, "{card:?}");

    let data = ok(&mut session, read(ROWS));
    let Some(Update::Data(view)) = data.last() else { panic!("{data:?}") };
    assert_eq!((view.report.n_rows, view.report.n_bad_rows, view.rows.len()), (8, 0, 8));
    let row: String = view.rows[0].tokens.iter().map(|token| token.text.as_str()).collect();
    assert!(row.contains("a0 b0"), "{row}");
    assert!(view.rows[0].tokens.iter().any(|token| token.weight > 0.0));

    let trained = ok(&mut session, Command::Train { run: run("runs/1") });
    assert_eq!(losses(&trained).len(), 4);
    let Some(Update::Trained(result)) = trained.last() else { panic!("{trained:?}") };
    let names: Vec<_> = result.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors", "run.toml", "metrics.jsonl"]);
    assert!(result.is_adapter && result.files.iter().all(|file| file.n_bytes > 0));
    let saved = block_on(session.store().read_all("runs/1/run.toml", 1 << 20)).unwrap();
    let saved = Run::from_toml(std::str::from_utf8(&saved).unwrap(), "run.toml").unwrap();
    assert_eq!((saved.model.as_str(), saved.data.path.as_deref()), ("tiny", Some("rows.jsonl")));

    for voice in [Voice::Tuned, Voice::Base] {
        let said = ok(&mut session, say(voice));
        assert!(matches!(said.last(), Some(Update::Answer(answer)) if answer.n_tokens > 0), "{said:?}");
    }
}

#[test]
fn a_stopped_run_is_resumed_to_the_same_end_or_kept_as_it_is() {
    let mut session = session();
    ok(&mut session, open());
    ok(&mut session, read(ROWS));
    let whole = losses(&ok(&mut session, Command::Train { run: run("runs/whole") }));

    let (first, outcome) = told(&mut session, Command::Train { run: run("runs/parts") }, Some(2));
    assert!(matches!(outcome, Err(Error::Interrupted(_))), "{outcome:?}");
    let kept = ok(&mut session, Command::Keep { run: run("runs/parts") });
    assert!(matches!(kept.last(), Some(Update::Trained(result)) if result.summary.is_none()), "{kept:?}");
    let half = block_on(Adapter::load(session.store(), "runs/parts")).unwrap();
    ok(&mut session, say(Voice::Tuned));

    let rest = ok(&mut session, Command::Resume { run: run("runs/parts") });
    assert_eq!([losses(&first), losses(&rest)].concat(), whole);
    let done = |folder| block_on(Adapter::load(session.store(), folder)).unwrap().tensors;
    assert_eq!(done("runs/parts"), done("runs/whole"));
    assert_ne!(half.tensors, done("runs/whole"));
}

#[test]
fn commands_out_of_order_and_bad_rows_say_what_is_missing() {
    let mut session = session();
    let (_, outcome) = told(&mut session, Command::Train { run: run("runs/1") }, None);
    assert_eq!(outcome.unwrap_err().to_string(), "model: none is opened; expected a model");
    ok(&mut session, open());
    for (command, place) in [
        (Command::Train { run: run("runs/1") }, "data.path"),
        (say(Voice::Tuned), "adapter"),
        (Command::Pack { parcel: Parcel::Run }, "result"),
    ] {
        let (_, outcome) = told(&mut session, command, None);
        let error = outcome.unwrap_err().to_string();
        assert!(error.starts_with(place), "{error}");
    }
    let data = ok(&mut session, read("data/bad.jsonl"));
    let Some(Update::Data(view)) = data.last() else { panic!("{data:?}") };
    assert_eq!((view.report.n_rows, view.report.n_bad_rows), (1, 1));
    assert!(view.report.problems[0].starts_with("rows.jsonl:2"), "{:?}", view.report.problems);
    let (_, outcome) = told(&mut session, Command::Train { run: run("runs/1") }, None);
    assert!(outcome.unwrap_err().to_string().starts_with("rows.jsonl: 1 problem in 1 bad row,"));
}

fn copy(store: &MemoryStore) -> MemoryStore {
    block_on(store.list("")).unwrap().into_iter().fold(MemoryStore::new(), |copied, key| {
        let bytes = block_on(store.read_all(&key, 1 << 30)).unwrap();
        copied.with(key, bytes)
    })
}

/// What a page that was closed in mid-run finds when it comes back.
#[test]
fn a_run_that_was_cut_off_is_found_again_and_ends_as_if_it_had_not_been() {
    let mut session = session();
    ok(&mut session, open());
    ok(&mut session, read(ROWS));
    let whole = losses(&ok(&mut session, Command::Train { run: run("runs/1") }));
    let (first, _) = told(&mut session, Command::Train { run: run("runs/2") }, Some(2));

    // Nothing of the first visit but its store is left.
    let mut later = Session::new(copy(session.store()), device_name());
    let listed = ok(&mut later, Command::List);
    let [Update::Stored(stored)] = &listed[..] else { panic!("{listed:?}") };
    let models: Vec<_> =
        stored.models.iter().map(|model| (model.name.as_str(), model.n_bytes > 1000)).collect();
    assert_eq!(models, [("llama", true)]);
    let states: Vec<_> =
        stored.runs.iter().map(|run| (run.run.out.as_str(), run.is_done, run.has_checkpoint)).collect();
    assert_eq!(states, [("runs/2", false, true), ("runs/1", true, true)]);
    let cut = stored.runs[0].clone();
    assert_eq!(
        cut.last_step.as_ref().map(|step| (step.step, Some(&step.loss))),
        Some((2, losses(&first).last()))
    );
    assert_eq!(stored.runs.iter().map(|run| run.number).collect::<Vec<_>>(), [2, 1]);
    let figures = block_on(figures(later.store(), "runs/2")).unwrap();
    assert_eq!(figures.steps.iter().map(|step| step.loss).collect::<Vec<_>>(), losses(&first));
    assert_eq!((cut.model.as_str(), cut.data.as_str()), ("models/llama", ROWS));

    ok(&mut later, Command::OpenModel { key: cut.model, name: cut.run.model.clone() });
    let settings = cut.run.data.clone();
    let name = settings.path.clone().unwrap();
    ok(&mut later, Command::ReadData { key: cut.data, name, settings, seed: 42 });
    let rest = ok(&mut later, Command::Resume { run: Box::new(cut.run) });
    assert_eq!([losses(&first), losses(&rest)].concat(), whole);

    let done = Box::new(stored.runs[1].run.clone());
    let reopened = ok(&mut later, Command::Reopen { run: done });
    assert!(matches!(&reopened[..], [Update::Trained(result)] if result.files.len() == 4), "{reopened:?}");
    ok(&mut later, say(Voice::Tuned));

    ok(&mut later, Command::Remove { key: "runs/2".into() });
    let listed = ok(&mut later, Command::List);
    let [Update::Stored(stored)] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!(stored.runs.len(), 1);
    let (_, outcome) = told(&mut later, Command::Remove { key: "data/rows.jsonl".into() }, None);
    assert!(outcome.unwrap_err().to_string().starts_with("data/rows.jsonl: it is no model and no run"));
}

fn stored(session: &mut Page) -> Stored {
    let listed = ok(session, Command::List);
    let [Update::Stored(stored)] = &listed[..] else { panic!("{listed:?}") };
    stored.clone()
}

/// Half of the rows held out, two evaluations, three prompts answered.
fn sampled(out: &str) -> Box<Run> {
    let mut run = run(out);
    run.data.eval_fraction = 0.5;
    run.train.eval_steps = 2;
    run.train.sample_rows = 2;
    run.train.sample_prompts = vec!["a, b".into()];
    run.train.sample_tokens = 5;
    run.train.learning_rate = Some(5e-2);
    run
}

#[test]
fn sample_prompts_are_answered_at_every_evaluation_and_change_no_number() {
    let mut session = session();
    ok(&mut session, open());
    ok(&mut session, read(ROWS));
    let with = ok(&mut session, Command::Train { run: sampled("runs/1") });
    let mut plain = sampled("runs/2");
    plain.train.sample_rows = 0;
    plain.train.sample_prompts.clear();
    let without = ok(&mut session, Command::Train { run: plain });
    assert_eq!(losses(&with), losses(&without));
    let done = |folder| block_on(Adapter::load(session.store(), folder)).unwrap().tensors;
    assert_eq!(done("runs/1"), done("runs/2"));

    let samples = |updates: &[Update]| -> Vec<Sample> {
        let sample = |update: &Update| match update {
            Update::Event(Event::Sample(sample)) => Some(sample.clone()),
            _ => None,
        };
        updates.iter().filter_map(sample).collect()
    };
    let told = samples(&with);
    assert_eq!(samples(&without), []);
    assert_eq!(told.iter().map(|sample| sample.step).collect::<Vec<_>>(), [0, 0, 0, 2, 2, 2, 4, 4, 4]);
    assert!(
        told[..2].iter().all(|sample| sample.prompt.starts_with('a') && sample.prompt.len() == 2),
        "{told:?}"
    );
    assert_eq!(told[2].prompt, "a, b");
    assert!(told[..3].iter().zip(&told[3..]).all(|(before, after)| before.prompt == after.prompt));
    assert!((0..3).any(|index| told[index].text != told[6 + index].text), "nothing was learned: {told:?}");
    assert_eq!(block_on(figures(session.store(), "runs/1")).unwrap().samples, told);

    // The last answers are what the result says when it is asked.
    let ask = |text: &str| Command::Generate {
        prompt: Prompt::Text(text.into()),
        voice: Voice::Tuned,
        sampling: GenerateConfig { max_new_tokens: 5, ..GenerateConfig::default() },
        seed: 0,
    };
    ok(&mut session, Command::Reopen { run: sampled("runs/1") });
    let said = ok(&mut session, ask(&told[6].prompt));
    let said: String = said
        .iter()
        .filter_map(|update| if let Update::Text { piece } = update { Some(piece.as_str()) } else { None })
        .collect();
    assert_eq!(said, told[6].text);
}

#[test]
fn a_resumed_run_answers_no_prompt_twice() {
    let mut session = session();
    ok(&mut session, open());
    ok(&mut session, read(ROWS));
    ok(&mut session, Command::Train { run: sampled("runs/whole") });
    for stop_at in [1, 2, 3] {
        let out = format!("runs/{stop_at}");
        told(&mut session, Command::Train { run: sampled(&out) }, Some(stop_at)).1.unwrap_err();
        ok(&mut session, Command::Resume { run: sampled(&out) });
        let of = |key: &str| block_on(figures(session.store(), key)).unwrap();
        let (parts, whole) = (of(&out), of("runs/whole"));
        assert_eq!(parts.samples, whole.samples, "stopped at {stop_at}");
        assert_eq!(parts.evals, whole.evals, "stopped at {stop_at}");
    }
}

#[test]
fn runs_are_numbered_and_can_be_named_and_refused_ones_leave_nothing() {
    let mut session = session();
    ok(&mut session, open());
    ok(&mut session, read(ROWS));
    let mut refused = run("runs/0");
    refused.train.batch_size = 0;
    told(&mut session, Command::Train { run: refused }, None).1.unwrap_err();
    assert_eq!(block_on(session.store().list("runs/0/")).unwrap(), [""; 0]);

    ok(&mut session, Command::Train { run: run("runs/1") });
    told(&mut session, Command::Train { run: sampled("runs/2") }, Some(3)).1.unwrap_err();
    ok(&mut session, Command::Rename { key: "runs/1".into(), name: " first try ".into() });
    let runs = stored(&mut session).runs;
    let facts: Vec<_> = runs.iter().map(|run| (run.number, run.name.as_deref(), run.is_done)).collect();
    assert_eq!(facts, [(2, None, false), (1, Some("first try"), true)]);
    assert_eq!(runs[0].last_eval.as_ref().map(|eval| eval.step), Some(2));
    let differing: Vec<_> = differences(&[&runs[0].run, &runs[1].run]).unwrap();
    let keys: Vec<_> = differing.iter().map(|difference| difference.key.as_str()).collect();
    assert!(keys.contains(&"data.eval_fraction") && !keys.contains(&"out"), "{keys:?}");

    // Going on keeps number and name.
    ok(&mut session, Command::Rename { key: "runs/2".into(), name: "second".into() });
    ok(&mut session, Command::Resume { run: sampled("runs/2") });
    let runs = stored(&mut session).runs;
    assert_eq!((runs[0].number, runs[0].name.as_deref(), runs[0].is_done), (2, Some("second"), true));
    ok(&mut session, Command::Rename { key: "runs/2".into(), name: String::new() });
    assert_eq!(stored(&mut session).runs[0].name, None);
    let (_, outcome) = told(&mut session, Command::Rename { key: "runs/9".into(), name: "x".into() }, None);
    assert!(outcome.unwrap_err().to_string().starts_with("runs/9: it is no run"));
}

#[test]
fn a_run_is_estimated_and_its_settings_judged() {
    let mut session = session();
    let ask = |session: &mut Page, run: Box<Run>| {
        let told = ok(session, Command::Estimate { run, limit_bytes: Some(1000) });
        let [Update::Estimated { problems, estimate }] = told.as_slice() else { panic!("{told:?}") };
        (problems.clone(), estimate.clone())
    };
    assert_eq!(
        ask(&mut session, run("runs/1")),
        (Vec::new(), None),
        "without a model there is nothing to tell"
    );
    ok(&mut session, open());
    let (problems, estimate) = ask(&mut session, run("runs/1"));
    assert!(problems.is_empty() && estimate.unwrap().time.is_none(), "without rows there is no time");
    ok(&mut session, read(ROWS));
    let estimate = ask(&mut session, run("runs/1")).1.unwrap();
    let time = estimate.time.unwrap();
    assert_eq!((time.total_steps, time.rate_from), (4, RateFrom::Product));
    assert!(estimate.peak_bytes > 1000 && !estimate.advice.is_empty(), "{estimate:?}");

    let mut wrong = run("runs/1");
    wrong.train.batch_size = 0;
    wrong.data.eval_fraction = 1.0;
    let (problems, estimate) = ask(&mut session, wrong);
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!((keys.as_slice(), estimate), (["data.eval_fraction", "train.batch_size"].as_slice(), None));
    let mut nothing = run("runs/1");
    nothing.method = serde_json::from_str(r#"{"kind":"lora","target_modules":"w_pack"}"#).unwrap();
    let problems = ask(&mut session, nothing).0;
    assert_eq!(problems[0].key, "method.target_modules");
    assert!(problems[0].expected.contains("q_proj"), "{problems:?}");

    // What the steps took is known at the next visit.
    ok(&mut session, Command::Train { run: run("runs/1") });
    let learned = ask(&mut session, run("runs/2")).1.unwrap().time.unwrap();
    assert_eq!(learned.rate_from, RateFrom::Steps);
    let speeds = block_on(session.store().read_all("speeds.json", 1 << 10)).unwrap();
    assert!(String::from_utf8(speeds).unwrap().contains("cpu") || device_name() != "cpu");
}
