//! What a page takes home and brings back, over a store in memory.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::live::{Page, ROWS, losses, ok, open, read, run, say, session, told};
use crate::support::{device_name, folder};
use attune::config::Run;
use attune::export::{ExportFormat, Origin};
use attune::models::Adapter;
use attune::native::block_on;
use attune::protocol::{Command, Control, Example, Parcel, Prompt, Returned, Update, Voice};
use attune::session::{self, ExportWork};
use attune::store::Store;
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;

/// A session with a run that left a result.
fn trained() -> Page {
    let mut session = session();
    ok(&mut session, open());
    ok(&mut session, read(ROWS));
    ok(&mut session, Command::Train { run: run("runs/1") });
    session
}

fn bytes(session: &Page, key: &str) -> Vec<u8> {
    block_on(session.store().read_all(key, 1 << 30)).unwrap()
}

/// The file's bytes as the page is told of it.
fn packed(session: &mut Page, parcel: Parcel) -> Vec<u8> {
    let updates = ok(session, Command::Pack { parcel });
    let Some(Update::Packed(file)) = updates.last() else { panic!("{updates:?}") };
    assert_eq!(file.name, parcel.file_name());
    let bytes = bytes(session, &file.key);
    assert_eq!(bytes.len() as u64, file.n_bytes);
    bytes
}

fn unpacked(archive: Vec<u8>) -> MemoryStore {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    (0..archive.len()).fold(MemoryStore::new(), |store, index| {
        let mut member = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        // Reading to the end checks the checksum.
        std::io::copy(&mut member, &mut bytes).unwrap();
        store.with(member.name().to_string(), bytes)
    })
}

fn content(store: &MemoryStore) -> Vec<(String, Vec<u8>)> {
    let keys = block_on(store.list("")).unwrap();
    keys.into_iter().map(|key| (key.clone(), block_on(store.read_all(&key, 1 << 30)).unwrap())).collect()
}

fn returned(updates: &[Update]) -> Returned {
    let found = updates.iter().find_map(|update| match update {
        Update::Returned(returned) => Some(returned.as_ref().clone()),
        _ => None,
    });
    found.unwrap()
}

/// Brings these files back into `runs/back`.
fn back(session: &mut Page, files: &[(&str, Vec<u8>)]) -> Result<Vec<Update>, String> {
    for (name, bytes) in files {
        block_on(session.store().write(&format!("runs/back/{name}"), bytes)).unwrap();
    }
    let (updates, outcome) = told(session, Command::BringBack { folder: "runs/back".into() }, None);
    outcome.map(|()| updates).map_err(|error| {
        assert_eq!(error.exit_code(), 2, "{error}");
        assert_eq!(block_on(session.store().list("runs/back/")).unwrap(), Vec::<String>::new());
        error.to_string()
    })
}

fn text(session: &mut Page) -> String {
    let updates = ok(session, say(Voice::Tuned));
    let piece = |update: &Update| match update {
        Update::Text { piece } => Some(piece.clone()),
        _ => None,
    };
    updates.iter().filter_map(piece).collect()
}

#[test]
fn the_merged_model_is_what_the_command_line_exports() {
    let mut session = trained();
    let merged = unpacked(packed(&mut session, Parcel::Merged));
    let exported = MemoryStore::new();
    block_on(async {
        let files = ModelFiles::open(session.store(), "models/llama").await?;
        let tokenizer = session::tokenizer_of(&files)?;
        let adapter = Some(Adapter::load(session.store(), "runs/1").await?);
        let origin = Origin { files: &files, tokenizer: &tokenizer, name: "tiny" };
        let work = ExportWork { origin, adapter, format: ExportFormat::Merged, device: &device_name() };
        session::export(work, &exported, "", &mut |_| Control::Continue).await
    })
    .unwrap();
    assert!(content(&merged) == content(&exported));
    assert!(content(&merged).len() >= 5);
    // Nothing but the archive is left of the work, and the next one makes it anew.
    assert_eq!(block_on(session.store().list("runs/1/merged")).unwrap(), ["runs/1/merged.zip"]);
    assert!(content(&unpacked(packed(&mut session, Parcel::Merged))) == content(&merged));
    text(&mut session);
}

#[test]
fn a_whole_model_is_packed_as_it_is() {
    let mut session = session();
    ok(&mut session, open());
    ok(&mut session, read(ROWS));
    let method = serde_json::from_str(r#"{"kind":"full"}"#).unwrap();
    ok(&mut session, Command::Train { run: Box::new(Run { method, ..*run("runs/1") }) });
    let merged = unpacked(packed(&mut session, Parcel::Merged));
    block_on(ModelFiles::open(&merged, "")).unwrap();
    let (_, outcome) = told(&mut session, Command::Pack { parcel: Parcel::Adapter }, None);
    assert!(outcome.unwrap_err().to_string().starts_with("adapter: there is none"));
}

#[test]
fn figures_leave_as_a_table_and_as_a_log() {
    let mut session = trained();
    let table = String::from_utf8(packed(&mut session, Parcel::Csv)).unwrap();
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(table.starts_with("step,total_steps,epoch,loss,"), "{table}");
    let log = String::from_utf8(packed(&mut session, Parcel::Log)).unwrap();
    assert!(log.contains("tiny, LoRA of rank 8, rows.jsonl\nstep 1/4  epoch "), "{log}");
}

#[test]
fn an_adapter_and_a_run_come_back_in_another_visit() {
    let mut first = trained();
    let answer = text(&mut first);
    let files = |names: &[&'static str]| -> Vec<(&'static str, Vec<u8>)> {
        names.iter().map(|name| (*name, bytes(&first, &format!("runs/1/{name}")))).collect()
    };
    let folder = files(&["adapter_config.json", "adapter_model.safetensors"]);
    let adapter = packed(&mut first, Parcel::Adapter);
    let whole = packed(&mut first, Parcel::Run);
    for (files, n_steps) in [(folder, 0), (vec![("adapter.zip", adapter)], 0), (vec![("Run.ZIP", whole)], 4)]
    {
        let mut later = session();
        ok(&mut later, open());
        let updates = back(&mut later, &files).unwrap();
        let Returned { settings, run, differences } = returned(&updates);
        let run = run.unwrap();
        assert_eq!((run.last_step.map_or(0, |step| step.step), run.is_done), (n_steps, true));
        assert_eq!(run.data, "");
        let curve = updates.iter().find_map(|update| match update {
            Update::Figures(figures) => Some((figures.key.as_str(), figures.steps.len())),
            _ => None,
        });
        assert_eq!(curve, Some(("runs/back", n_steps)));
        assert_eq!((run.run.out.as_str(), run.run.model.as_str()), ("runs/back", "tiny"));
        assert_eq!(settings.is_some(), n_steps > 0);
        let named: Vec<_> = differences.iter().map(|one| (one.what.as_str(), one.now.as_deref())).collect();
        assert_eq!(named, if n_steps > 0 { vec![("data.path", None)] } else { vec![] });
        assert!(matches!(updates.last(), Some(Update::Trained(result)) if result.is_adapter), "{updates:?}");
        assert_eq!(text(&mut later), answer);
        assert!(!block_on(later.store().list("runs/back/")).unwrap().iter().any(|key| key.ends_with("zip")));

        // A visit after that finds it among the runs.
        let listed = ok(&mut later, Command::List);
        let [Update::Stored(stored)] = &listed[..] else { panic!("{listed:?}") };
        ok(&mut later, Command::Reopen { run: Box::new(stored.runs[0].run.clone()) });
        assert_eq!(text(&mut later), answer);
    }
}

#[test]
fn an_adapter_that_came_back_is_trained_further_like_the_command_lines() {
    let mut session = trained();
    let further = Run { adapter: Some("runs/1".into()), ..*run("runs/2") };
    let first = bytes(&session, "runs/1/adapter_model.safetensors");
    let updates = ok(&mut session, Command::Train { run: Box::new(further.clone()) });
    let again = losses(&ok(&mut session, Command::Train { run: run("runs/3") }));
    assert_ne!(losses(&updates), again, "a continued adapter does not begin anew");
    assert!(bytes(&session, "runs/1/adapter_model.safetensors") == first);

    // Stopped, kept and resumed, as any run.
    let parts = Run { out: "runs/4".into(), ..further };
    let (begun, _) = told(&mut session, Command::Train { run: Box::new(parts.clone()) }, Some(2));
    ok(&mut session, Command::Keep { run: Box::new(parts.clone()) });
    text(&mut session);
    let rest = ok(&mut session, Command::Resume { run: Box::new(parts) });
    assert_eq!([losses(&begun), losses(&rest)].concat(), losses(&updates));
    let result = |out: &str| bytes(&session, &format!("runs/{out}/adapter_model.safetensors"));
    assert!(result("4") == result("2"));

    // The command line's `--adapter`: the same core with the adapter read from a folder.
    let native = MemoryStore::new();
    let losses_natively = block_on(async {
        let mut run = Run {
            model: "tiny".into(),
            adapter: Some("runs/1".into()),
            device: device_name(),
            ..*run("runs/2")
        };
        run.data.path = Some("rows.jsonl".into());
        let files = ModelFiles::open(session.store(), "models/llama").await?;
        let tokenizer = session::tokenizer_of(&files)?;
        let file = session::DataFile { name: "rows.jsonl".into(), bytes: bytes(&session, ROWS) };
        let rows = session::prepare(&run, &file, None, &tokenizer, &mut |_| Control::Continue)?;
        let adapter = Some(Adapter::load(session.store(), "runs/1").await?);
        let work = session::Work { run: &run, files: &files, tokenizer: &tokenizer, adapter, store: &native };
        let mut events = Vec::new();
        session::train(work, rows, attune::train::Start::Fresh, &mut |event| {
            events.push(Update::Event(event));
            Control::Continue
        })
        .await
        .map(|_| losses(&events))
    });
    assert_eq!(losses_natively.unwrap(), losses(&updates));
}

#[test]
fn a_run_file_restores_its_settings_and_says_what_is_not_open() {
    let mut session = session();
    let mut settings = *run("/home/somebody/run");
    settings.model = "/models/other".into();
    settings.device = "cuda".into();
    settings.data.path = Some("C:\\data\\rows.jsonl".into());
    settings.train.learning_rate = Some(0.125);
    let toml = settings.to_toml().unwrap().into_bytes();
    // Without a model, a file can be read all the same.
    let updates = back(&mut session, &[("run (1).toml", toml.clone())]).unwrap();
    let Returned { settings: found, run, differences } = returned(&updates);
    assert_eq!(run, None);
    let found = found.unwrap();
    assert_eq!((found.train.clone(), found.seed), (settings.train.clone(), settings.seed));
    assert_eq!((found.out, found.device), (Run::default().out, Run::default().device));
    let named: Vec<_> = differences.iter().map(|one| (one.what.as_str(), one.now.as_deref())).collect();
    assert_eq!(named, [("model", None), ("data.path", None)]);
    assert_eq!(block_on(session.store().list("runs/")).unwrap(), Vec::<String>::new());

    ok(&mut session, open());
    ok(&mut session, read(ROWS));
    let differences = returned(&back(&mut session, &[("run.toml", toml)]).unwrap()).differences;
    let [only] = &differences[..] else { panic!("{differences:?}") };
    assert_eq!(
        (only.what.as_str(), only.then.as_str(), only.now.as_deref()),
        ("model", "/models/other", Some("tiny"))
    );
}

#[test]
fn what_does_not_fit_is_refused_and_removed() {
    let mut session = trained();
    let answer = text(&mut session);
    let fixture = |name: &str| -> Vec<(&'static str, Vec<u8>)> {
        let files = folder(&format!("adapters/{name}"));
        let bytes = |name: &'static str| (name, block_on(files.read_all(name, 1 << 20)).unwrap());
        vec![bytes("adapter_config.json"), bytes("adapter_model.safetensors")]
    };
    let error = back(&mut session, &fixture("gpt2-lora")).unwrap_err();
    assert!(error.contains("tiny: the adapter") && error.contains("does not fit it"), "{error}");
    assert!(error.lines().count() < 12, "{error}");
    let error = back(&mut session, &fixture("llama-lora")[..1]).unwrap_err();
    assert!(error.contains("adapter_model.safetensors"), "{error}");
    let error = back(&mut session, &fixture("llama-lora")[1..]).unwrap_err();
    assert!(error.contains("adapter_config.json: no such file"), "{error}");
    let error = back(&mut session, &[("adapter_config.json", vec![b' '; (1 << 20) + 1])]).unwrap_err();
    assert_eq!(error, "adapter_config.json: has 1048577 bytes; expected at most 1048576 bytes");
    let error = back(&mut session, &[("notes.txt", b"hello".to_vec())]).unwrap_err();
    assert!(error.contains("neither an adapter nor a run file"), "{error}");
    let error = back(&mut session, &[("adapter.zip", b"PK no more".to_vec())]).unwrap_err();
    assert!(error.contains("runs/back/adapter.zip: is no zip archive"), "{error}");
    let error =
        back(&mut session, &[("run.toml", b"[train]\nbatch_size = \"many\"\n".to_vec())]).unwrap_err();
    assert!(error.contains("run.toml:2"), "{error}");
    // The result of before is still the tuned voice.
    assert_eq!(text(&mut session), answer);
    back(&mut session, &fixture("llama-lora")).unwrap();
}

#[test]
fn rows_are_shown_as_questions_held_out_ones_where_there_are_any() {
    let mut session = session();
    ok(&mut session, open());
    let (_, outcome) = told(&mut session, Command::Examples { run: run("x") }, None);
    assert!(outcome.unwrap_err().to_string().starts_with("data.path"));
    ok(&mut session, read(ROWS));
    let shown = |session: &mut Page, fraction: f64| {
        let mut run = run("x");
        run.data.eval_fraction = fraction;
        let updates = ok(session, Command::Examples { run });
        let Some(Update::Examples(examples)) = updates.last() else { panic!("{updates:?}") };
        examples.clone()
    };
    let all = shown(&mut session, 0.0);
    assert_eq!((all.rows.len(), all.is_held_out), (8, false));
    let first = Example { line: 1, prompt: Prompt::Text("a0".into()), expected: " b0".into() };
    assert_eq!(all.rows[0], first);
    let held_out = shown(&mut session, 0.25);
    assert_eq!((held_out.rows.len(), held_out.is_held_out), (2, true));
    assert!(held_out.rows.iter().all(|row| all.rows.contains(row)));
}
