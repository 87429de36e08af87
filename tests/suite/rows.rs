//! Data files as a run prepares them: split, refusals, and the report that tells of both.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::tokenizer::{json_fixture, tokenizer};
use attune::config::Run;
use attune::data::check::Report;
use attune::data::{Encoded, Place};
use attune::protocol::{Control, Event};
use attune::session::{self, DataFile, Prepared};
use attune::store::tokenizer_files::TokenizerFiles;
use attune::tokenizer::{SkipSpecial, Tokenizer};
use attune::{Error, Result};
use serde_json::Value;

fn file(name: &str, bytes: impl Into<Vec<u8>>) -> DataFile {
    DataFile { name: name.into(), bytes: bytes.into() }
}

/// What `session::prepare` says and emits.
struct Outcome {
    prepared: Result<Prepared>,
    report: Report,
    /// Done and total of the progress of tokenising.
    progress: Vec<(u64, u64)>,
}

impl Outcome {
    fn refusal(&self) -> String {
        let error = self.prepared.as_ref().unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }
}

fn prepare_with(tokenizer: &Tokenizer, run: &Run, train: DataFile, held_out: Option<DataFile>) -> Outcome {
    let (mut report, mut progress) = (None, Vec::new());
    let prepared = session::prepare(run, &train, held_out.as_ref(), tokenizer, &mut |event| {
        match event {
            Event::Data(found) => report = Some(*found),
            Event::Progress { task, done, total } => {
                assert_eq!(task, "tokenising");
                progress.push((done, total));
            }
            other => panic!("{other:?}"),
        }
        Control::Continue
    });
    Outcome { prepared, report: report.expect("the report comes in any case"), progress }
}

fn prepare(run: &Run, train: DataFile, held_out: Option<DataFile>) -> Outcome {
    prepare_with(&tokenizer("tokenizer"), run, train, held_out)
}

fn splitting() -> Run {
    let mut run = Run::default();
    run.data.eval_fraction = 0.3;
    run
}

fn skipping() -> Run {
    let mut run = Run::default();
    run.data.skip_bad_rows = true;
    run
}

fn texts(rows: &[Encoded]) -> Vec<String> {
    let tokenizer = tokenizer("tokenizer");
    rows.iter().map(|row| tokenizer.decode(&row.ids, SkipSpecial::Yes).unwrap()).collect()
}

#[test]
fn a_rows_tokens_go_to_the_side_of_the_row_whatever_line_it_stands_in() {
    let rows: Vec<String> = (0..10).map(|i| format!(r#"{{"text": "row {i}"}}"#)).collect();
    let by_line = prepare(&splitting(), file("rows.jsonl", rows.join("\n")), None).prepared.unwrap();
    let one_line = prepare(&splitting(), file("rows.json", format!("[{}]", rows.join(","))), None);
    let Outcome { prepared, report, .. } = one_line;
    let prepared = prepared.unwrap();
    // The pinned choice of seed 42.
    assert_eq!(texts(&prepared.held_out), ["row 1", "row 5", "row 7"]);
    assert_eq!((&prepared.train, &prepared.held_out), (&by_line.train, &by_line.held_out));
    assert_eq!((report.n_rows, report.held_out.unwrap().n_rows), (7, 3));
    assert!(report.overlap.is_empty());
}

#[test]
fn a_split_does_not_hide_what_is_wrong_with_the_rows() {
    let empty = prepare(&splitting(), file("rows.jsonl", ""), None).refusal();
    assert_eq!(empty, "rows.jsonl: is empty; expected at least one row");
    let bad = prepare(&splitting(), file("rows.jsonl", "{\n[]\n"), None);
    assert!(bad.refusal().starts_with("rows.jsonl: 2 problems in 2 bad rows"), "{}", bad.refusal());
    let same = prepare(&splitting(), file("rows.jsonl", "{\"text\": \"a\"}\n".repeat(3)), None);
    assert!(same.refusal().contains("at least 2 different rows"), "{}", same.refusal());
    assert_eq!(same.report.duplicates.len(), 2);
}

#[test]
fn skipping_bad_rows_skips_no_fault_of_a_file() {
    let good = || file("good.jsonl", "{\"text\": \"good\"}\n");
    let torn = || file("torn.json", r#"[{"text": "a"}, {"text": "b"}"#);
    assert!(prepare(&skipping(), torn(), None).refusal().contains("torn.json:1: the list is not closed"));
    assert!(prepare(&skipping(), good(), Some(torn())).refusal().contains("the list is not closed"));

    let all_bad = || file("bad.jsonl", "[]\n[]\n");
    let none_left = prepare(&skipping(), all_bad(), None);
    let message = none_left.refusal();
    assert!(message.starts_with("bad.jsonl: no usable row"), "{message}");
    assert!(message.contains("bad.jsonl:1: is a list"), "{message}");
    let nothing_to_evaluate = prepare(&skipping(), good(), Some(all_bad()));
    assert!(nothing_to_evaluate.refusal().starts_with("bad.jsonl: no usable row"));

    let some = prepare(&skipping(), file("some.jsonl", "[]\n{\"text\": \"a\"}\n"), None);
    assert_eq!(texts(&some.prepared.unwrap().train), ["a"]);
    assert_eq!((some.report.n_rows, some.report.n_bad_rows, some.report.problems.len()), (1, 1, 1));
}

#[test]
fn the_report_tells_of_both_files_before_a_refusal() {
    let train = file("train.jsonl", "{\"text\": \"a\"}\n[]\n{\"text\": \"b\", \"id\": 1}\n");
    let held_out = file("test.jsonl", "{\"text\": \"b\", \"source\": 1}\n{\"text\": 3}\n{\"text\": \"c\"}\n");
    let outcome = prepare(&Run::default(), train, Some(held_out));
    let refusal = outcome.refusal();
    assert_eq!(refusal.lines().count(), 2, "{refusal}");
    let report = outcome.report;
    assert_eq!((report.n_rows, report.n_bad_rows, report.held_out.as_ref().unwrap().n_rows), (2, 2, 2));
    assert!(report.problems[0].starts_with("train.jsonl:2: is a list"));
    assert!(report.problems[1].starts_with("test.jsonl:2: text: is a number"));
    assert!(
        report.notes.iter().any(|note| note.contains("test.jsonl: field `source`")),
        "{:?}",
        report.notes
    );
    assert_eq!(report.overlap[0].again, Place { file: "test.jsonl".into(), line: 1 });
    assert!(report.tokens.is_some() && report.held_out.unwrap().tokens.is_some());
}

#[test]
fn tokenising_tells_its_progress() {
    let rows: String = (0..150).map(|i| format!("{{\"text\": \"row {i}\"}}\n")).collect();
    assert_eq!(
        prepare(&Run::default(), file("rows.jsonl", rows), None).progress,
        [(64, 150), (128, 150), (150, 150)]
    );
}

#[test]
fn tokenising_can_be_stopped() {
    let rows = file("rows.jsonl", "{\"text\": \"a\"}\n");
    let stopped =
        session::prepare(&Run::default(), &rows, None, &tokenizer("tokenizer"), &mut |_| Control::Stop);
    assert!(matches!(stopped, Err(Error::Interrupted(_))), "{stopped:?}");
}

#[test]
fn what_a_model_lacks_is_said_once() {
    let lacking = |key: &str| {
        let mut config = json_fixture("tokenizer/tokenizer_config.json");
        config[key] = Value::Null;
        Tokenizer::from_files(&TokenizerFiles::Json {
            tokenizer_json: std::fs::read(crate::tokenizer::fixture("tokenizer/tokenizer.json")).unwrap(),
            tokenizer_config: config,
            chat_template: None,
            special_tokens_map: Value::Null,
        })
        .unwrap()
    };
    let chats = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    let chats = || file("chats.jsonl", format!("{chats}\n").repeat(5));
    let outcome = prepare_with(&lacking("chat_template"), &skipping(), chats(), Some(chats()));
    assert_eq!(outcome.refusal().lines().count(), 1, "{}", outcome.refusal());
    assert!(outcome.refusal().contains("the model has no chat template"));
    assert_eq!(outcome.report.problems.len(), 1);

    let texts = file("texts.jsonl", "{\"text\": \"a\"}\n".repeat(5));
    let outcome = prepare_with(&lacking("eos_token"), &skipping(), texts, None);
    assert_eq!(outcome.refusal().lines().count(), 1, "{}", outcome.refusal());
    assert!(outcome.refusal().contains("no eos_token"));
}
