//! What the report says of rows and tokens.

use crate::data::read;
use attune::data::Encoded;
use attune::data::check::{Part, Report};

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
