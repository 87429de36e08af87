//! Tokenizer and rows.

use crate::{fixture, in_memory, tiny_llama};
use attune::config::Shape;
use attune::data::RowContent;
use attune::data::read::read_rows;
use attune::session;
use attune::store::model_files::ModelFiles;
use attune::tokenizer::{AddSpecial, SkipSpecial};
use serde_json::Value;
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen_test]
async fn text_becomes_the_tokens_that_transformers_makes() {
    let store = in_memory(&tiny_llama());
    let tokenizer = session::tokenizer_of(&ModelFiles::open(&store, "").await.unwrap()).unwrap();
    let golden: Value = serde_json::from_slice(fixture!("tokenizer/golden.json")).unwrap();
    let strings = golden["strings"].as_array().unwrap();
    for case in strings {
        let text = case["text"].as_str().unwrap();
        for (add, key) in [(AddSpecial::No, "ids"), (AddSpecial::Yes, "ids_with_special")] {
            let expected: Vec<u32> = serde_json::from_value(case[key].clone()).unwrap();
            assert_eq!(tokenizer.encode(text, add).unwrap(), expected, "{text:?}");
        }
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(tokenizer.decode(&ids, SkipSpecial::No).unwrap(), case["decoded"].as_str().unwrap());
    }
    assert!(strings.len() > 10);
}

#[wasm_bindgen_test]
fn rows_are_read_as_everywhere() {
    let pairs = read_rows(fixture!("data/pairs.parquet"), "pairs.parquet", Shape::Auto);
    let second = RowContent::PromptCompletion { prompt: "2+2=".into(), completion: "4".into() };
    assert_eq!(pairs.rows[1].content, second);
    assert_eq!(pairs.problems[0].to_string(), "pairs.parquet:3: prompt: is null; expected a string");

    let lines = b"{\"text\": \"one\"}\n{\"text\": 5}\n";
    let read = read_rows(lines, "x.jsonl", Shape::Auto);
    assert_eq!((read.rows.len(), read.n_bad_rows), (1, 1));
    assert!(read.problems[0].to_string().starts_with("x.jsonl:2: text: "), "{:?}", read.problems);
}
