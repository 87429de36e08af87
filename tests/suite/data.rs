//! Data files → rows: each format and shape, and each way in which a file can be wrong.

use attune::config::Shape;
use attune::data::check::{Part, Report};
use attune::data::read::read_rows;
use attune::data::{Encoded, Message, RowContent, RowsRead};
use proptest::prelude::*;
use std::io::Write;

fn read(name: &str, bytes: impl AsRef<[u8]>) -> RowsRead {
    read_rows(bytes.as_ref(), name, Shape::Auto)
}

/// Faults and problems as the user sees them.
fn problems(name: &str, bytes: impl AsRef<[u8]>) -> Vec<String> {
    let read = read(name, bytes);
    read.faults.iter().chain(&read.problems).map(ToString::to_string).collect()
}

/// Reads a file that must have no problem.
fn contents(name: &str, bytes: impl AsRef<[u8]>) -> Vec<RowContent> {
    let read = read(name, bytes);
    assert!(read.problems.is_empty() && read.faults.is_empty(), "{name}: {read:?}");
    read.rows.into_iter().map(|r| r.content).collect()
}

fn lines(read: &RowsRead) -> Vec<usize> {
    read.rows.iter().map(|r| r.place.line).collect()
}

fn text(text: &str) -> RowContent {
    RowContent::Text(text.into())
}

fn pair(prompt: &str, completion: &str) -> RowContent {
    RowContent::PromptCompletion { prompt: prompt.into(), completion: completion.into() }
}

fn chat(turns: &[(&str, &str, f32)]) -> RowContent {
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

#[test]
fn every_bad_line_is_reported_and_the_others_kept() {
    let read = read(
        "x.jsonl",
        b"{\"text\": \"one\"}\n{\"text\": \n[1]\n{\"text\": 5}\n{\"txt\": \"t\"}\n{\"text\": \" \"}\n{\"text\": \"\xC3\"}\n{\"prompt\": \"p\", \"completion\": \"c\"}\n{\"text\": \"two\", \"id\": 1}\n{\"text\": \"three\", \"id\": 2}",
    );
    let found: Vec<_> = read.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "x.jsonl:2:9: broken JSON: EOF while parsing a value; expected one whole JSON object",
            "x.jsonl:3: is a list; expected a JSON object",
            "x.jsonl:4: text: is a number; expected a string",
            "x.jsonl:5: has the fields `txt`; expected `text`, `prompt` with `completion`, `instruction` with `output`, `conversations`, or `messages`; choose one with `shape` if the names are right",
            "x.jsonl:6: text: is empty; expected some text",
            "x.jsonl:7:11: byte 0xC3 is not UTF-8; expected text encoded as UTF-8",
            "x.jsonl:8: is a row of shape prompt-completion; expected text as in line 1, one shape a file",
        ]
    );
    assert_eq!((lines(&read), read.n_bad_rows), (vec![1, 9, 10], 7));
    assert_eq!(
        read.notes,
        ["x.jsonl: field `id` is not used (first in line 9)"],
        "once, though two rows have it"
    );
    assert_eq!(read.strict().expect_err("it has problems").exit_code(), 2);
}

#[test]
fn turns_are_checked_field_by_field() {
    let row = r#"{"messages": [{"role": "asistant", "content": "a"}, {"content": 1, "role": "user"}, {"role": "user"}, 7, {"role": "user", "content": "", "weight": -1}, {"role": "user", "content": [{"type": "image_url"}]}]}"#;
    assert_eq!(
        problems("x.jsonl", row),
        [
            "x.jsonl:1: messages[0].role: is \"asistant\"; expected one of system, developer, user, assistant, tool, function",
            "x.jsonl:1: messages[1].content: is a number; expected a string or a list of text parts",
            "x.jsonl:1: messages[2]: has no `content`; expected `content` with the text",
            "x.jsonl:1: messages[3]: is a number; expected an object with `role` and `content`",
            "x.jsonl:1: messages[4].weight: is -1; expected a number of 0 or more",
            "x.jsonl:1: messages[5].content[0]: is a part of type \"image_url\"; expected {\"type\": \"text\", \"text\": …}",
        ]
    );
    assert_eq!(read("x.jsonl", row).n_bad_rows, 1);
}

#[test]
fn a_torn_quote_does_not_swallow_the_rows_below() {
    let read_torn =
        read("x.csv", "prompt,completion\na,b\nc,\"d\ne,f\ng,\"h\"i\nj,\"k\"\nl\n\"m\nn\",o\np,q\n");
    let found: Vec<_> = read_torn.problems.iter().map(ToString::to_string).collect();
    let expected = "expected `\"` around the whole cell, and `\"\"` for a quote inside";
    assert_eq!(
        found,
        [
            format!("x.csv:3: column 2: there is text after the closing quote; {expected}"),
            format!("x.csv:5: column 2: there is text after the closing quote; {expected}"),
            "x.csv:7: has 1 cell; expected 2 as in the header".to_string(),
        ]
    );
    assert_eq!(lines(&read_torn), [2, 4, 6, 8, 10]);
    let torn = read("x.csv", "text\n\"a\nb\n");
    assert_eq!(
        torn.problems[0].to_string(),
        format!("x.csv:2: column 1: a quote is opened and never closed; {expected}")
    );
    assert_eq!(lines(&torn), [3]);
    assert_eq!(
        contents("x.csv", "text\n5\" disk\n"),
        [text("5\" disk")],
        "a quote inside a bare cell is a character"
    );
}

#[test]
fn tables_are_checked_by_column() {
    assert!(
        problems("x.csv", "txt,label\na,b\nc,d\n")[0]
            .starts_with("x.csv:1: has the columns `txt`, `label`; expected `text`")
    );
    assert_eq!(problems("x.csv", "txt,label\na,b\nc,d\n").len(), 1, "the header once, not every row");
    assert_eq!(
        problems("x.csv", "text,text\na,b\n"),
        ["x.csv:1: column `text` appears twice; expected a name for each column"]
    );
    assert_eq!(
        problems("x.csv", "prompt,completion\na,\n"),
        ["x.csv:2: column 2 (completion): is empty; expected some text"]
    );
    assert_eq!(
        problems("x.csv", b"prompt,completion\na,b\xFF\nc,d"),
        ["x.csv:2: column 2 (completion): byte 0xFF is not UTF-8; expected text encoded as UTF-8"]
    );
}

#[test]
fn a_broken_document_names_the_row() {
    assert_eq!(
        problems("x.json", "{\"data\": [\n {\"text\": \"a\"},\n {\"text\": },\n {\"text\": \"b\"}\n]}"),
        ["x.json:3:10: broken JSON: expected value; expected one whole JSON object"]
    );
    assert_eq!(
        problems("x.json", "[{\"text\": \"a\"}"),
        ["x.json:1: the list is not closed; expected `]` at the end of the rows"]
    );
    assert_eq!(
        problems("x.json", "[{\"text\": \"a\"}\n{\"text\": \"b\"}]"),
        ["x.json:2: two rows with nothing between them; expected `,` between rows"]
    );
    assert_eq!(
        problems("x.json", "[{\"text\": \"a\"}] x"),
        ["x.json:1: there is text after the end of the list; expected the end of the file"]
    );
    assert_eq!(
        problems("x.json", "{\"a\": [], \"b\": []}"),
        ["x.json:1: has 2 lists: `a`, `b`; expected one list of rows a file"]
    );
    assert_eq!(
        problems("x.json", "{\"a\": 1}"),
        ["x.json:1: has the fields `a`; expected a row, or one field with the list of rows"]
    );
    assert_eq!(
        problems("x.json", "{\"data\": [{\"text\": \"a\"}],\n \"b\": }"),
        ["x.json:2:7: broken JSON: expected value; expected one whole JSON object"]
    );
    assert_eq!(problems("x.json", "7"), ["x.json:1: is no JSON list or object; expected `[` or `{`"]);
    assert_eq!(
        lines(&read("x.json", "{\"text\": \"a\n{\"text\": \"b\"}\n")),
        [2],
        "a torn first line of JSON Lines"
    );
}

#[test]
fn files_without_rows_are_refused() {
    for name in ["x.jsonl", "x.json", "x.csv", "x.tsv", "x.parquet", "x.txt", "x"] {
        assert_eq!(problems(name, ""), [format!("{name}: is empty; expected at least one row")]);
    }
    for (name, bytes) in [("x.jsonl", "\n \n"), ("x.json", "[ ]"), ("x.csv", "text\n"), ("x.txt", "\n\n")] {
        assert_eq!(problems(name, bytes), [format!("{name}: holds no rows; expected at least one row")]);
    }
    assert!(
        problems("x.data", "what is this")[0]
            .starts_with("x.data: has no format that can be told; expected a name ending in")
    );
    assert_eq!(
        problems("x.csv", b"\xFF\xFEt\0"),
        ["x.csv:1: is encoded as UTF-16; expected text encoded as UTF-8"]
    );
    assert!(problems("x.csv", b"\x1F\x8B\x08\0\0\0")[0].starts_with("x.csv: is broken gzip: "));
}

#[test]
fn the_report_counts_what_matters() {
    let train = read("train.txt", "a\nb\na\nc\n");
    let test = read("test.txt", "z\nb\n");
    let row = |n: usize, n_targets: usize, truncated| Encoded {
        ids: vec![1; n],
        loss_weights: (0..n).map(|i| if i + n_targets >= n { 1.0 } else { 0.0 }).collect(),
        truncated,
    };
    // The last row's only weight is on its first token, which nothing predicts.
    let encoded = [row(3, 2, false), row(9, 4, false), row(40, 1, true), row(1, 1, false)];
    let train = Part { read: train, encoded: encoded.to_vec() };
    let test = Part { read: test, encoded: vec![row(2, 1, false), row(5, 1, true)] };
    let report = Report::new(&train, Some(&test)).expect("as many encoded rows as rows");
    let tokens = report.tokens.as_ref().expect("rows were encoded");
    assert_eq!((tokens.n_tokens, tokens.n_target_tokens, tokens.longest, tokens.median), (53, 7, 40, 9));
    let buckets: Vec<_> = tokens.lengths.iter().map(|b| (b.up_to_tokens, b.n_rows)).collect();
    assert_eq!(buckets, [(1, 1), (2, 0), (4, 1), (8, 0), (16, 1), (32, 0), (64, 1)]);
    assert_eq!(
        report.to_string(),
        "4 rows of shape text, 0 bad
notes: 2
  train.txt: plain text: one row for each line
  test.txt: plain text: one row for each line
duplicates: 1
  train.txt:3 repeats train.txt:1
held-out rows that are also trained on: 1
  test.txt:2 repeats train.txt:2
53 tokens, 7 with loss; median row 9, longest 40
  up to      1         1  ########################################
  up to      2         0
  up to      4         1  ########################################
  up to      8         0
  up to     16         1  ########################################
  up to     32         0
  up to     64         1  ########################################
truncated: 1
  train.txt:3
without a token that carries loss: 1
  train.txt:4
held out: 2 rows
7 tokens, 2 with loss; median row 5, longest 5
  up to      2         1  ########################################
  up to      4         0
  up to      8         1  ########################################
truncated: 1
  test.txt:2
"
    );
    let json = serde_json::to_value(&report).expect("plain data");
    assert_eq!(json["tokens"]["truncated"][0], serde_json::json!({"file": "train.txt", "line": 3}));
    let Part { read, .. } = train;
    let torn = Part { read, encoded: encoded[..2].to_vec() };
    assert!(Report::new(&torn, None).is_err());
    let without_tokenizer = Part { encoded: Vec::new(), ..torn };
    assert!(Report::new(&without_tokenizer, None).expect("no tokenizer").tokens.is_none());
}

#[test]
fn every_problem_is_listed() {
    let read = read("x.jsonl", "[]\n".repeat(25));
    let report = Report::new(&Part { read, encoded: Vec::new() }, None).expect("no tokens");
    let text = report.to_string();
    assert!((1..=25).all(|line| text.contains(&format!("  x.jsonl:{line}: is a list;"))), "{text}");
}

#[test]
fn what_is_wrong_with_a_file_is_told_apart_from_bad_rows() {
    for (name, bytes) in [
        ("x.json", &br#"[{"text": "a"}, {"text": "b"}"#[..]),
        ("x.csv", b"prompt,answer\na,b\n"),
        ("x.csv", b"text\rone\rtwo\r"),
        ("x.jsonl", b"\x1F\x8B\x08\0\0\0"),
        ("x.parquet", b"PAR1 no more"),
        ("x.jsonl", b""),
    ] {
        let read = read(name, bytes);
        assert!(read.problems.is_empty() && read.faults.len() == 1, "{name}: {read:?}");
    }
    let read = read("x.jsonl", "{\"text\": \"a\"}\n{\n");
    assert_eq!((read.faults.len(), read.problems.len(), read.rows.len()), (0, 1, 1));
    let cr_only = problems("x.csv", "text\rone\rtwo\r");
    assert_eq!(
        cr_only,
        ["x.csv: its lines end in CR alone, as on old Macs; expected lines that end in LF or CRLF"]
    );
}

#[test]
fn names_from_a_file_are_shown_safely_and_in_part() {
    let wild = "\u{1b}]0;owned\u{7}";
    let long = "n".repeat(5000);
    let row = serde_json::json!({ wild: 1, "long": { long.as_str(): 1 } }).to_string();
    let many: Vec<String> = (0..300).map(|i| format!("\"field{i}\": {i}")).collect();
    let used = |fields: &str| format!("{{\"text\": \"t\", {fields}}}");
    let role = serde_json::json!({"messages": [{"role": long, "content": "c"}]}).to_string();
    let said = [
        problems("x.jsonl", &row),
        problems("x.jsonl", format!("{{{}}}", many.join(","))),
        problems("x.jsonl", role),
        problems("x.csv", format!("{wild},{wild}\na,b\n")),
        problems("x.csv", format!("text,{wild}\na,\u{1b}\n").replace("a,\u{1b}", "\"a\"b,c")),
        read("x.jsonl", used(&format!("\"\\u001b[2J\": 1, \"{long}\": 2"))).notes,
        read("x.jsonl", used(&many.join(","))).notes,
    ];
    for messages in said {
        assert!(!messages.is_empty());
        let text = messages.join("|");
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.len() < 2500, "{} bytes: {text}", text.len());
    }
    let notes = read("x.jsonl", used(&many.join(","))).notes;
    assert_eq!(notes.last().map(String::as_str), Some("x.jsonl: 280 more fields are not used"));
}

/// Names that choose each reader.
const NAMES: [&str; 6] = ["x.jsonl", "x.json", "x.csv", "x.tsv", "x.txt", "x.parquet"];

/// Text with the characters that steer the parsers, more often than chance would.
fn tricky() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            "\"",
            "\\",
            ",",
            ":",
            "\n",
            "\r\n",
            "\t",
            " ",
            "text",
            "messages",
            "\"text\":",
            "1",
            "PAR1",
            "é"
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..3),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in tricky()) {
        for name in NAMES {
            let read = read(name, &bytes);
            let says = read.rows.len() + read.faults.len() + read.problems.len();
            prop_assert!(says > 0, "{name}: neither row nor problem");
        }
    }

    #[test]
    fn no_damage_to_parquet_makes_it_panic(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        for file in [&include_bytes!("../fixtures/data/chat.parquet")[..], include_bytes!("../fixtures/data/pairs.parquet")] {
            let mut bytes = file.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = read("x.parquet", &bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = read("x.parquet", &bytes);
        }
    }
}
