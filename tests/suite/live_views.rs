//! What a session tells a page about files: models whole and half, licences, rows as read, bad rows, the split.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::live::{Page, ROWS, ok, open, read, run, say, session, told};
use crate::support::device_name;
use attune::config::{Columns, DataConfig, Field};
use attune::hub::Kept;
use attune::native::block_on;
use attune::protocol::{Command, DataView, Stored, Update, Voice};
use attune::session::{Session, sweep};
use attune::store::Store;
use attune::store::memory::MemoryStore;

fn stored(session: &mut Page) -> Stored {
    match ok(session, Command::List).pop() {
        Some(Update::Stored(stored)) => stored,
        other => panic!("{other:?}"),
    }
}

fn data(session: &mut Page, command: Command) -> DataView {
    match ok(session, command).pop() {
        Some(Update::Data(view)) => *view,
        other => panic!("{other:?}"),
    }
}

fn kept(id: &str) -> Vec<u8> {
    let license = Some("apache-2.0".to_string());
    serde_json::to_vec(&Kept { id: id.into(), commit: "c".into(), license, files: Vec::new() }).unwrap()
}

#[test]
fn models_of_the_hub_have_their_names_and_halves_are_told_apart() {
    let store = MemoryStore::new()
        .with("models/o--n/config.json", *b"{}")
        .with("models/o--n/.attune.json", kept("o/n"))
        .with("models/o--n--q4.gguf", *b"GGUF")
        .with("models/o--n--q4.gguf.attune.json", kept("o/n:q4.gguf"))
        .with("models/o--big/config.json", *b"{}")
        .with("models/o--big/.attune.partial", kept("o/big"))
        .with("models/o--big/model.safetensors.partial", *b"12345")
        .with("models/copied.gguf.partial", *b"123")
        .with("models/o--half.gguf.attune.partial", kept("o/half:x.gguf"))
        .with("models/plain/config.json", *b"{}");
    let mut session = Session::new(store, device_name());
    let listed = stored(&mut session);
    let names: Vec<_> = listed.models.iter().map(|model| (model.key.as_str(), model.name.as_str())).collect();
    assert_eq!(
        names,
        [("models/o--n", "o/n"), ("models/o--n--q4.gguf", "o/n:q4.gguf"), ("models/plain", "plain")]
    );
    let halves: Vec<_> =
        listed.unfinished.iter().map(|half| (half.key.as_str(), half.hub_id.as_deref())).collect();
    assert_eq!(
        halves,
        [
            ("models/copied.gguf", None),
            ("models/o--big", Some("o/big")),
            ("models/o--half.gguf", Some("o/half:x.gguf"))
        ]
    );
    for half in listed.unfinished {
        ok(&mut session, Command::Remove { key: half.key });
    }
    ok(&mut session, Command::Remove { key: "models/o--n--q4.gguf".into() });
    let left = block_on(session.store().list("models/")).unwrap();
    assert_eq!(left, ["models/o--n/.attune.json", "models/o--n/config.json", "models/plain/config.json"]);
}

#[test]
fn a_licence_is_that_of_the_hub_or_of_the_model_card_or_not_stated() {
    let mut session = session();
    let card = |session: &mut Page| match ok(session, open()).pop() {
        Some(Update::Model(card)) => card,
        other => panic!("{other:?}"),
    };
    assert_eq!(card(&mut session).license, None);
    let readme = b"---\nlanguage: en\nlicense: 'mit'\n---\n# A model\nlicense: none\n";
    block_on(session.store().write("models/llama/README.md", readme)).unwrap();
    assert_eq!(card(&mut session).license.as_deref(), Some("mit"));
    block_on(session.store().write("models/llama/.attune.json", &kept("o/n"))).unwrap();
    assert_eq!(card(&mut session).license.as_deref(), Some("apache-2.0"));
    block_on(session.store().write("models/llama/README.md", b"license: x")).unwrap();
    block_on(session.store().remove("models/llama/.attune.json")).unwrap();
    assert_eq!(card(&mut session).license, None, "a card without front matter");
}

#[test]
fn a_refused_model_is_named_by_its_files() {
    let mut session = session();
    let weights = block_on(session.store().read_all("models/llama/model.safetensors", 1 << 30)).unwrap();
    block_on(session.store().write("models/llama/model.safetensors", &weights[..40_000])).unwrap();
    let (_, outcome) = told(&mut session, open(), None);
    let text = outcome.unwrap_err().to_string();
    assert!(!text.contains("models/") && text.starts_with("model.safetensors"), "{text}");
    assert!(text.lines().count() <= 4 && text.contains("more tensors are as wrong"), "{text}");
}

#[test]
fn after_a_refused_model_nothing_is_open() {
    let mut session = session();
    ok(&mut session, open());
    ok(&mut session, read(ROWS));
    let other = Command::OpenModel { key: "models/none".into(), name: "none".into() };
    told(&mut session, other, None).1.unwrap_err();
    // What was asked for along with it is not done with the model before.
    for next in [
        read(ROWS),
        Command::Train { run: run("runs/1") },
        Command::Reopen { run: run("runs/1") },
        say(Voice::Base),
    ] {
        let (updates, outcome) = told(&mut session, next.clone(), None);
        let text = outcome.expect_err(&format!("{next:?}")).to_string();
        assert!(text.starts_with("model: none is opened") && updates.is_empty(), "{next:?}: {text}");
    }
}

#[test]
fn what_nothing_leads_to_is_swept_and_nothing_else() {
    let mut session = session();
    let rows = block_on(session.store().read_all(ROWS, 1 << 20)).unwrap();
    block_on(session.store().write("data/1/rows.jsonl", &rows)).unwrap();
    ok(&mut session, open());
    ok(&mut session, read("data/1/rows.jsonl"));
    told(&mut session, Command::Train { run: run("runs/5") }, Some(2)).1.unwrap_err();
    let kept = [
        "data/samples/train.jsonl",
        "data/2x/mine.jsonl",
        "models/half/model.safetensors.partial",
        "runs/5/anything",
    ];
    let left =
        ["data/2/rows.jsonl", "data/3/rows.jsonl.partial", "data/samples/a.partial", "runs/6/adapter.zip"];
    kept.iter().for_each(|key| block_on(session.store().write(key, b"x")).unwrap());
    let before = block_on(session.store().list("")).unwrap();
    left.iter().for_each(|key| block_on(session.store().write(key, b"x")).unwrap());
    block_on(sweep(session.store())).unwrap();
    assert_eq!(block_on(session.store().list("")).unwrap(), before);
    // A run that does not say what it learned from may have learned from any rows.
    block_on(session.store().write("data/2/rows.jsonl", b"x")).unwrap();
    block_on(session.store().write("runs/5/sources.json", b"{")).unwrap();
    block_on(sweep(session.store())).unwrap();
    assert!(block_on(session.store().size("data/2/rows.jsonl")).unwrap().is_some());
}

#[test]
fn rows_are_shown_as_read_bad_ones_as_they_stand_and_split() {
    let mut session = session();
    ok(&mut session, open());
    let view = data(&mut session, read("data/bad.jsonl"));
    let fields: Vec<_> = view.rows[0].fields.iter().map(|field| (&*field.name, &*field.text)).collect();
    assert_eq!((view.rows[0].line, fields), (1, vec![("prompt", "a"), ("completion", " b")]));
    let [bad] = &view.bad_rows[..] else { panic!("{:?}", view.bad_rows) };
    assert_eq!((bad.line, bad.text.as_deref()), (2, Some(r#"{"prompt":3}"#)));
    assert!(bad.problems[0].starts_with("has the fields `prompt`; expected"), "{:?}", bad.problems);
    assert_eq!(view.split, Some((1, 0)), "nothing is held out unless asked for");
    let names: Vec<_> = view.report.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["prompt", "completion"]);

    let settings = DataConfig { eval_fraction: 0.25, ..DataConfig::default() };
    let split = |settings: &DataConfig, key: &str| Command::ReadData {
        key: key.into(),
        name: "rows.jsonl".into(),
        settings: settings.clone(),
        seed: 1,
    };
    assert_eq!(data(&mut session, split(&settings, "data/rows.jsonl")).split, Some((6, 2)));
    let one = data(&mut session, split(&settings, "data/bad.jsonl"));
    assert!(
        one.split.is_none() && one.report.notes.iter().any(|note| note.contains("eval_fraction")),
        "{one:?}"
    );
    let columns =
        Columns([(Field::Prompt, "completion".into()), (Field::Completion, "prompt".into())].into());
    let turned = DataConfig { columns: Some(columns), ..settings };
    let turned = data(&mut session, split(&turned, "data/rows.jsonl"));
    assert_eq!(turned.rows[0].fields[0].text, " b0");
}
