//! Columns with other names than those of a shape, and what a report says of a file's columns.

use crate::data::{chat, pair, text};
use attune::config::{Columns, DataConfig, Field, Run, Shape};
use attune::data::RowsRead;
use attune::data::read::{raw_lines, read_columns};
use std::collections::BTreeSet;

fn named(columns: &[(Field, &str)]) -> Columns {
    Columns(columns.iter().map(|(field, column)| (*field, column.to_string())).collect())
}

fn read(name: &str, bytes: &[u8], columns: &[(Field, &str)]) -> RowsRead {
    read_columns(bytes, name, Shape::Auto, Some(&named(columns)))
}

fn said(read: &RowsRead) -> Vec<String> {
    read.faults.iter().chain(&read.problems).map(ToString::to_string).collect()
}

const PAIRS: &[(Field, &str)] = &[(Field::Prompt, "question"), (Field::Completion, "answer")];

#[test]
fn columns_are_read_under_the_names_that_are_said() {
    let csv = read("x.csv", b"id,question,answer\n1,a,b\n", PAIRS);
    assert_eq!((csv.rows[0].content.clone(), csv.shape), (pair("a", "b"), Some(Shape::PromptCompletion)));
    let jsonl = read("x.jsonl", br#"{"question": "a", "answer": "b", "messages": []}"#, PAIRS);
    assert_eq!(jsonl.rows[0].content, pair("a", "b"), "what is said wins over a more structured shape");
    let json = read("x.json", br#"{"question": "a", "answer": "b"}"#, PAIRS);
    assert_eq!(json.rows[0].content, pair("a", "b"), "a document that is one row");
    let parquet = include_bytes!("../fixtures/data/pairs.parquet");
    let turned = read("x.parquet", parquet, &[(Field::Prompt, "completion"), (Field::Completion, "prompt")]);
    assert_eq!(turned.rows[1].content, pair("4", "2+2="));
    let one = read("x.jsonl", br#"{"prompt": "not read", "question": "a", "completion": "b"}"#, &PAIRS[..1]);
    assert_eq!(one.rows[0].content, pair("a", "b"), "the other field has its own name");
    let both = read("x.csv", b"body\na\n", &[(Field::Text, "body")]);
    assert_eq!(both.rows[0].content, text("a"));
    let turns = br#"{"talk": [{"role": "user", "content": "a"}]}"#;
    let talk = read("x.jsonl", turns, &[(Field::Messages, "talk")]);
    assert_eq!(talk.rows[0].content, chat(&[("user", "a", 1.0)]));
}

#[test]
fn problems_name_the_files_own_columns() {
    assert_eq!(
        said(&read("x.csv", b"id,question,answer\n1,a,\n", PAIRS)),
        ["x.csv:2: column 3 (answer): is empty; expected some text"]
    );
    assert_eq!(
        said(&read("x.csv", b"question,reply\na,b\n", PAIRS)),
        [
            "x.csv:1: has no column `answer`; it has the columns `question`, `reply`; expected a column `answer`"
        ]
    );
    assert_eq!(
        said(&read("x.jsonl", br#"{"question": "a"}"#, PAIRS)),
        ["x.jsonl:1: has no field `answer`; expected `answer` with a string"]
    );
    let turns =
        read("x.jsonl", br#"{"talk": [{"role": "usr", "content": "a"}]}"#, &[(Field::Messages, "talk")]);
    assert!(said(&turns)[0].starts_with("x.jsonl:1: talk[0].role: is \"usr\""), "{:?}", said(&turns));
}

#[test]
fn a_file_that_fits_no_shape_still_shows_its_columns() {
    let columns = |name: &str, bytes: &[u8]| {
        let read = read_columns(bytes, name, Shape::Auto, None);
        assert!(read.rows.is_empty() && !said(&read).is_empty(), "{name}");
        read.columns.into_iter().map(|column| (column.name, column.values)).collect::<Vec<_>>()
    };
    let expected = |name: &str, values: &[&str]| {
        (name.to_string(), values.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let table = [expected("q", &["a", "c", "e"]), expected("n", &["1", "2", "3"])];
    assert_eq!(columns("x.csv", b"q,n\na,1\nc,2\ne,3\ng,4\n"), table);
    let jsonl = b"{\"q\": \"a\", \"n\": 1}\n{\"q\": \"c\", \"n\": 2}\n{\"q\": \"e\", \"n\": 3}\n{\"q\": 1}\n";
    assert_eq!(columns("x.jsonl", jsonl), table);
    let pairs = include_bytes!("../fixtures/data/pairs.parquet");
    let read = read_columns(pairs, "x.parquet", Shape::Chat, None);
    let names: Vec<_> = read.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["prompt", "completion", "when"]);
    assert!(!read.columns[0].values.is_empty() && read.rows.is_empty(), "{:?}", read.columns);
    let long = format!("{{\"q\": \"{}\"}}", "x".repeat(5000));
    assert_eq!(columns("x.jsonl", long.as_bytes())[0].1[0].len(), 80);
}

#[test]
fn the_setting_is_one_of_the_run_file() {
    let run =
        Run::from_toml("[data]\ncolumns = { prompt = \"question\", completion = \"answer\" }\n", "run.toml");
    let run = run.expect("as documented");
    assert_eq!(run.data.columns, Some(named(PAIRS)));
    let again = Run::from_toml(&run.to_toml().expect("plain data"), "run.toml").expect("its own text");
    assert_eq!(again, run);
    let wrong =
        Run::from_toml("[data]\ncolumns = { question = \"prompt\" }\n", "run.toml").expect_err("no field");
    assert!(wrong.to_string().contains("expected one of `text`, `prompt`"), "{wrong}");
    assert_eq!(DataConfig::default().columns, None);
}

#[test]
fn single_lines_are_shown_as_they_are() {
    let wanted = BTreeSet::from([2, 9]);
    let lines = raw_lines(b"a\r\nb\xFFc\r\nd", "x.jsonl", &wanted);
    assert_eq!(lines.into_iter().collect::<Vec<_>>(), [(2, "b\u{FFFD}c".to_string())]);
    let parquet = include_bytes!("../fixtures/data/pairs.parquet");
    assert!(raw_lines(parquet, "x.parquet", &wanted).is_empty(), "its rows are no lines");
}
