//! Data files → rows: each format and shape.

use attune::config::Shape;
use attune::data::read::read_rows;
use attune::data::{Message, RowContent, RowsRead};
use std::io::Write;

pub fn read(name: &str, bytes: impl AsRef<[u8]>) -> RowsRead {
    read_rows(bytes.as_ref(), name, Shape::Auto)
}

/// Faults and problems as the user sees them.
pub fn problems(name: &str, bytes: impl AsRef<[u8]>) -> Vec<String> {
    let read = read(name, bytes);
    read.faults.iter().chain(&read.problems).map(ToString::to_string).collect()
}

/// Reads a file that must have no problem.
pub fn contents(name: &str, bytes: impl AsRef<[u8]>) -> Vec<RowContent> {
    let read = read(name, bytes);
    assert!(read.problems.is_empty() && read.faults.is_empty(), "{name}: {read:?}");
    read.rows.into_iter().map(|r| r.content).collect()
}

pub fn lines(read: &RowsRead) -> Vec<usize> {
    read.rows.iter().map(|r| r.place.line).collect()
}

pub fn text(text: &str) -> RowContent {
    RowContent::Text(text.into())
}

pub fn pair(prompt: &str, completion: &str) -> RowContent {
    RowContent::PromptCompletion { prompt: prompt.into(), completion: completion.into() }
}

pub fn chat(turns: &[(&str, &str, f32)]) -> RowContent {
    let message = |&(role, content, weight): &(&str, &str, f32)| Message {
        role: role.into(),
        content: content.into(),
        weight,
    };
    RowContent::Chat(turns.iter().map(message).collect())
}

#[test]
fn the_same_rows_in_every_format() {
    let rows = [pair("a", "b"), pair("c, \"d\"", "e\nf")];
    let jsonl =
        "{\"prompt\":\"a\",\"completion\":\"b\"}\n\n{\"prompt\":\"c, \\\"d\\\"\",\"completion\":\"e\\nf\"}";
    let list = format!("[{}]", jsonl.replace("\n\n", ",\n"));
    let csv = "prompt,completion\r\na,b\r\n\"c, \"\"d\"\"\",\"e\nf\"\r\n";
    assert_eq!(contents("x.jsonl", jsonl), rows);
    assert_eq!(contents("x.jsonl", format!("\u{FEFF}{jsonl}")), rows, "byte order mark");
    assert_eq!(contents("x.json", &list), rows);
    assert_eq!(contents("x.json", jsonl), rows, "JSON Lines under another name");
    assert_eq!(contents("x.json", format!("{{\"version\": 1, \"data\": {list}}}")), rows);
    assert_eq!(contents("x", &list), rows, "told by its first character");
    assert_eq!(contents("x.csv", csv), rows);
    assert_eq!(
        contents(
            "x.tsv",
            csv.replace("prompt,", "prompt\t").replace("a,b", "a\tb").replace("\",\"", "\"\t\"")
        ),
        rows
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(csv.as_bytes()).expect("in memory");
    let gzip = gzip.finish().expect("in memory");
    assert_eq!(contents("x.csv.gz", &gzip), rows);
    assert_eq!(contents("x.csv", &gzip), rows, "gzip told by its magic bytes");
}

#[test]
fn shapes_are_told_by_their_fields() {
    let alpaca = contents(
        "x.json",
        r#"[{"instruction": "Add.", "input": "1 2", "output": "3", "text": "all of it"}, {"instruction": "Sing.", "input": "", "output": "La."}]"#,
    );
    assert_eq!(
        alpaca,
        [
            pair(
                "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:",
                "3"
            ),
            pair(
                "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nSing.\n\n### Response:",
                "La."
            ),
        ]
    );
    let sharegpt = r#"{"id": "q", "conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "H"}, {"from": "gpt", "value": "G"}]}"#;
    assert_eq!(
        contents("x.jsonl", sharegpt),
        [chat(&[("system", "S", 1.0), ("user", "H", 1.0), ("assistant", "G", 1.0)])]
    );
    assert_eq!(contents("x.json", sharegpt).len(), 1, "one row as a document, though it holds a list");
    let messages = r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, {"role": "assistant", "content": "c", "weight": 0}]}"#;
    assert_eq!(contents("x.jsonl", messages), [chat(&[("user", "ab", 1.0), ("assistant", "c", 0.0)])]);
    let in_a_cell = "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"a\"\"}]\"\n";
    assert_eq!(contents("x.csv", in_a_cell), [chat(&[("user", "a", 1.0)])]);
    assert_eq!(contents("x.jsonl", r#"{"text": "t"}"#), [text("t")]);
}

#[test]
fn a_shape_can_be_insisted_on() {
    let row = r#"{"text": "t", "prompt": "p", "completion": "c"}"#;
    assert_eq!(read("x.jsonl", row).shape, Some(Shape::PromptCompletion));
    assert_eq!(read_rows(row.as_bytes(), "x.jsonl", Shape::Text).rows[0].content, text("t"));
    let missing = read_rows(row.as_bytes(), "x.jsonl", Shape::Chat);
    assert_eq!(
        missing.problems[0].to_string(),
        "x.jsonl:1: has no field `messages`; expected `messages`, a list of turns with `role` and `content`"
    );
    let missing = read_rows(b"text\na\n", "x.csv", Shape::Alpaca);
    assert_eq!(
        missing.faults[0].to_string(),
        "x.csv:1: has no column `instruction`; it has the columns `text`; expected a column `instruction`"
    );
}

#[test]
fn plain_text_is_lines_or_documents() {
    let by_line = read("x.txt", "one\r\ntwo\n");
    assert_eq!((by_line.rows[1].content.clone(), lines(&by_line)), (text("two"), vec![1, 2]));
    let by_document = read("x.md", "\n# One\nstill one\n \n\ntwo\n");
    assert_eq!(by_document.rows[0].content, text("# One\nstill one"));
    assert_eq!(lines(&by_document), [2, 6]);
    assert_eq!(by_document.notes, ["x.md: plain text: one row for each document between blank lines"]);
    assert_eq!(
        problems("x.txt", b"fine\nb\xFFd\n"),
        ["x.txt:2:2: byte 0xFF is not UTF-8; expected text encoded as UTF-8"]
    );
}

#[test]
fn parquet_columns_become_rows() {
    let read_chat = read("chat.parquet", include_bytes!("../fixtures/data/chat.parquet"));
    assert_eq!(read_chat.rows[0].content, chat(&[("user", "Hi", 1.0), ("assistant", "Hello, wörld", 1.0)]));
    assert_eq!(read_chat.rows[1].content, chat(&[("system", "", 1.0), ("assistant", "B", 1.0)]));
    assert_eq!(
        read_chat.problems[0].to_string(),
        "chat.parquet:3: messages: is an empty list; expected a list of turns with `role` and `content`"
    );
    assert_eq!(read_chat.notes, ["chat.parquet: column `id` is not used"]);

    // Told by its magic bytes, over two row groups.
    let read_pairs = read("pairs", include_bytes!("../fixtures/data/pairs.parquet"));
    assert_eq!(read_pairs.rows[1].content, pair("2+2=", "4"));
    assert_eq!(read_pairs.problems[0].to_string(), "pairs:3: prompt: is null; expected a string");
    assert_eq!(read_pairs.n_bad_rows, 1);

    let dates = problems("dates.parquet", include_bytes!("../fixtures/data/dates.parquet"));
    assert_eq!(
        dates,
        [
            "dates.parquet: column `text`: holds INT32 (DATE); expected strings, numbers, and lists and groups of them"
        ]
    );
    assert!(problems("x.parquet", "PAR1 no more")[0].starts_with("x.parquet: is broken Parquet: "));
}
