//! Each way in which a data file can be wrong.

use crate::data::{contents, lines, problems, read, text};
use proptest::prelude::*;

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
            "x.jsonl:5: has the fields `txt`; expected `text`, `prompt` with `completion`, `instruction` with `output`, `conversations`, or `messages`; choose one with `shape` if the names are right, or say with `columns` which column is which",
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
