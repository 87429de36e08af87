//! Tokenizers and chat templates against transformers' (`fixtures/making/tokenizer.py`), what cannot be
//! read, and what must hold for any text.
#![allow(clippy::unwrap_used)]

use crate::support::ready;
use attune::Error;
use attune::data::Message;
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
use attune::store::tokenizer_files::{GgufVocabulary, TokenizerFiles};
use attune::tokenizer::{AddSpecial, DecodeStream, GenerationPrompt, SkipSpecial, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;

pub fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

pub fn json_fixture(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(path)).unwrap()).unwrap()
}

/// The tokenizer of a fixture folder, with the chat template in `template`.
pub fn tokenizer_with(folder: &str, template: &str) -> Tokenizer {
    Tokenizer::from_files(&TokenizerFiles::Json {
        tokenizer_json: std::fs::read(fixture(folder).join("tokenizer.json")).unwrap(),
        tokenizer_config: json_fixture(&format!("{folder}/tokenizer_config.json")),
        chat_template: Some(std::fs::read_to_string(fixture(template)).unwrap()),
        special_tokens_map: Value::Null,
    })
    .unwrap()
}

pub fn tokenizer(folder: &str) -> Tokenizer {
    tokenizer_with(folder, &format!("{folder}/chat_template.jinja"))
}

pub fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

pub fn messages(value: &Value) -> Vec<Message> {
    let text = |m: &Value, key: &str| m[key].as_str().unwrap().to_string();
    let of = |m| Message { role: text(m, "role"), content: text(m, "content"), weight: 1.0 };
    value.as_array().unwrap().iter().map(of).collect()
}

/// The vocabulary of `fixtures/tokenizer` as a GGUF file holds it.
fn gguf_vocabulary() -> GgufVocabulary {
    let source = json_fixture("tokenizer/tokenizer.json");
    let vocab = source["model"]["vocab"].as_object().unwrap();
    let mut tokens: Vec<(u64, String)> =
        vocab.iter().map(|(t, id)| (id.as_u64().unwrap(), t.clone())).collect();
    tokens.sort();
    let merges = source["model"]["merges"].as_array().unwrap().iter();
    let merge = |m: &Value| match m.as_str() {
        Some(pair) => pair.to_string(),
        None => format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap()),
    };
    GgufVocabulary {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        token_types: (0..tokens.len()).map(|id| if id < 3 { 3 } else { 1 }).collect(),
        tokens: tokens.into_iter().map(|(_, t)| t).collect(),
        merges: merges.map(merge).collect(),
        bos_id: Some(1),
        eos_id: Some(2),
        pad_id: Some(0),
        add_bos: Some(false),
        chat_template: Some(std::fs::read_to_string(fixture("tokenizer/chat_template.jinja")).unwrap()),
        ..GgufVocabulary::default()
    }
}

fn agrees_with_golden(tokenizer: &Tokenizer, golden: &Value) {
    for case in golden["strings"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, AddSpecial::No).unwrap(), ids(&case["ids"]), "{text:?}");
        let special = tokenizer.encode(text, AddSpecial::Yes).unwrap();
        assert_eq!(special, ids(&case["ids_with_special"]), "{text:?}");
        assert_eq!(tokenizer.decode(&special, SkipSpecial::No).unwrap(), case["decoded"], "{text:?}");
        let skipped = tokenizer.decode(&special, SkipSpecial::Yes).unwrap();
        assert_eq!(skipped, case["decoded_skip_special"], "{text:?}");
    }
    for case in golden["chats"].as_array().unwrap() {
        let prompt =
            if case["add_generation_prompt"] == true { GenerationPrompt::Yes } else { GenerationPrompt::No };
        let text = tokenizer.render_chat(&messages(&case["messages"]), prompt).unwrap();
        assert_eq!(text, case["text"]);
        assert_eq!(tokenizer.encode(&text, AddSpecial::No).unwrap(), ids(&case["ids"]));
    }
}

#[test]
fn ids_text_and_chats_equal_transformers() {
    for folder in ["tokenizer", "tokenizer-bos"] {
        agrees_with_golden(&tokenizer(folder), &json_fixture(&format!("{folder}/golden.json")));
    }
    // The same conversations by a template with {% generation %} blocks.
    let marked = tokenizer_with("tokenizer", "tokenizer/chat_template_generation.jinja");
    agrees_with_golden(&marked, &json_fixture("tokenizer/golden.json"));
}

#[test]
fn a_gguf_vocabulary_gives_the_same_ids() {
    let file = std::fs::read(fixture("gguf/llama3-rope-F32.gguf")).unwrap();
    let store = MemoryStore::new().with("m.gguf", file);
    let files = ready(ModelFiles::open(&store, "m.gguf")).unwrap();
    let read = Tokenizer::from_files(files.tokenizer().unwrap()).unwrap();
    agrees_with_golden(&read, &json_fixture("tokenizer/golden.json"));
    let built = Tokenizer::from_files(&TokenizerFiles::Gguf(gguf_vocabulary())).unwrap();
    agrees_with_golden(&built, &json_fixture("tokenizer/golden.json"));
    assert_eq!((built.bos_id(), built.eos_ids(), built.pad_id()), (Some(1), &[2][..], 0));
    let bos =
        GgufVocabulary { add_bos: Some(true), add_eos: Some(true), eot_id: Some(0), ..gguf_vocabulary() };
    let bos = Tokenizer::from_files(&TokenizerFiles::Gguf(bos)).unwrap();
    assert_eq!(bos.encode("Hi", AddSpecial::Yes).unwrap(), [1, 42, 75, 2]);
    assert_eq!(bos.eos_ids(), [2, 0]);
}

#[test]
fn special_tokens_are_never_doubled() {
    let bos = tokenizer("tokenizer-bos");
    let text = "<|begin_of_text|>Hi";
    assert_eq!(bos.encode(text, AddSpecial::Yes).unwrap(), bos.encode("Hi", AddSpecial::Yes).unwrap());
}

/// A SentencePiece vocabulary of 256 bytes and a few tokens.
fn sentencepiece(add_space_prefix: bool) -> GgufVocabulary {
    let learned = ["▁a", "ab", "▁ab", "abc", "▁", "a", "b", "c", "▁▁"];
    let mut tokens = vec!["<unk>".to_string(), "<s>".into(), "</s>".into()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(learned.map(String::from));
    tokens.push("<think>".into());
    let types = [2, 3, 3].into_iter().chain([6; 256]).chain([1; 9]).chain([4]);
    let scores = std::iter::repeat_n(0.0, 259).chain((0..9).map(|n| -(n as f32))).chain([0.0]);
    GgufVocabulary {
        model: "llama".into(),
        tokens,
        scores: scores.collect(),
        token_types: types.collect(),
        unk_id: Some(0),
        bos_id: Some(1),
        eos_id: Some(2),
        add_space_prefix: Some(add_space_prefix),
        ..GgufVocabulary::default()
    }
}

// Expected values: transformers 5.23, `convert_gguf_tokenizer` with architecture llama and gemma3 on the
// same lists, `encode(text, add_special_tokens=False)` and `decode`.
#[test]
fn sentencepiece_vocabularies_give_the_ids_of_transformers() {
    let cases: [(bool, &str, &[u32], &str); 10] = [
        (true, "abc", &[261, 266], "abc"),
        (true, "  abc a", &[263, 261, 266, 259], " abc a"),
        (true, "é<think>abc", &[263, 198, 172, 268, 262], "é<think>abc"),
        (true, " a b</s>", &[259, 263, 265, 2], "a b</s>"),
        (true, "ab abab", &[261, 261, 260], "ab abab"),
        (false, "abc", &[262], "abc"),
        (false, "  abc a", &[263, 261, 266, 259], "  abc a"),
        (false, "é<think>abc", &[198, 172, 268, 262], "é<think>abc"),
        (false, " a b</s>", &[259, 263, 265, 2], " a b</s>"),
        (false, "ab abab", &[260, 261, 260], "ab abab"),
    ];
    for (prefix, text, expected, decoded) in cases {
        let built = Tokenizer::from_files(&TokenizerFiles::Gguf(sentencepiece(prefix))).unwrap();
        let ids = built.encode(text, AddSpecial::No).unwrap();
        assert_eq!(ids, expected, "{prefix} {text:?}");
        assert_eq!(built.decode(&ids, SkipSpecial::No).unwrap(), decoded);
        let with_bos = [&[1], expected].concat();
        assert_eq!(built.encode(text, AddSpecial::Yes).unwrap(), with_bos);
    }
}

#[test]
fn exported_files_give_the_same_tokenizer() {
    let bos = GgufVocabulary { add_bos: Some(true), ..gguf_vocabulary() };
    for built in [
        Tokenizer::from_files(&TokenizerFiles::Gguf(bos)).unwrap(),
        Tokenizer::from_files(&TokenizerFiles::Gguf(sentencepiece(true))).unwrap(),
        tokenizer("tokenizer-bos"),
    ] {
        let files = built.to_files().unwrap();
        let file = |name: &str| files.iter().find(|f| f.name == name).map(|f| f.bytes.clone());
        let again = Tokenizer::from_files(&TokenizerFiles::Json {
            tokenizer_json: file("tokenizer.json").unwrap(),
            tokenizer_config: serde_json::from_slice(&file("tokenizer_config.json").unwrap()).unwrap(),
            chat_template: file("chat_template.jinja").map(|bytes| String::from_utf8(bytes).unwrap()),
            special_tokens_map: Value::Null,
        })
        .unwrap();
        let text = "They're <|im_end|> abc 12";
        assert_eq!(
            again.encode(text, AddSpecial::Yes).unwrap(),
            built.encode(text, AddSpecial::Yes).unwrap()
        );
        assert_eq!(
            (again.bos_id(), again.eos_ids(), again.pad_id()),
            (built.bos_id(), built.eos_ids(), built.pad_id())
        );
        assert_eq!(again.has_chat_template(), built.has_chat_template());
    }
}

fn refused(files: &TokenizerFiles) -> String {
    let error = Tokenizer::from_files(files).err().expect("a broken tokenizer was accepted");
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

#[test]
fn broken_files_are_refused_by_name() {
    let whole = std::fs::read(fixture("tokenizer/tokenizer.json")).unwrap();
    let files = |tokenizer_json: Vec<u8>, tokenizer_config: Value| TokenizerFiles::Json {
        tokenizer_json,
        tokenizer_config,
        chat_template: None,
        special_tokens_map: Value::Null,
    };
    for cut in [0, 1, 100, 600, whole.len() / 2, whole.len() - 3] {
        assert!(
            refused(&files(whole[..cut].to_vec(), json!({}))).starts_with("tokenizer.json: "),
            "cut at {cut}"
        );
    }
    for broken in
        ["[]", "{}", "{\"version\":\"2.0\"}", "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\"}}", "\u{0}"]
    {
        assert!(refused(&files(broken.into(), json!({}))).starts_with("tokenizer.json: "), "{broken}");
    }
    assert!(refused(&files(vec![0xFF, 0xFE], json!({}))).starts_with("tokenizer.json: "));
    let missing = refused(&files(whole.clone(), json!({"eos_token": "</s>"})));
    assert!(missing.contains("eos_token `</s>` is not in the vocabulary"), "{missing}");
    assert!(refused(&files(whole.clone(), json!([]))).starts_with("tokenizer_config.json: "));
    let unfinished = TokenizerFiles::Json {
        tokenizer_json: whole,
        tokenizer_config: Value::Null,
        chat_template: Some("{% if %}".into()),
        special_tokens_map: Value::Null,
    };
    assert!(refused(&unfinished).starts_with("chat template, line 1"));
}

#[test]
fn broken_gguf_vocabularies_are_refused_by_key() {
    let refused = |v: GgufVocabulary| refused(&TokenizerFiles::Gguf(v));
    let base = gguf_vocabulary;
    assert!(refused(GgufVocabulary { tokens: vec![], ..base() }).contains("tokenizer.ggml.tokens"));
    assert!(
        refused(GgufVocabulary { token_types: vec![1; 2], ..base() }).contains("tokenizer.ggml.token_type")
    );
    let ids = refused(GgufVocabulary { bos_id: Some(999), eos_id: Some(u32::MAX), ..base() });
    assert!(ids.contains("bos_token_id: 999") && ids.contains("eos_token_id: 4294967295"), "{ids}");
    for merge in ["", "a", " ", "ab ", "a zzz"] {
        let message = refused(GgufVocabulary { merges: vec![merge.into()], ..base() });
        assert!(message.starts_with("tokenizer"), "{message}");
    }
    assert!(refused(GgufVocabulary { model: "rwkv".into(), ..base() }).contains("SentencePiece"));
    assert!(refused(GgufVocabulary { pre: Some("viking".into()), ..base() }).contains("smollm"));
    assert!(refused(GgufVocabulary { scores: vec![], ..sentencepiece(true) }).contains("scores"));
}

#[test]
fn a_chat_without_a_template_is_refused() {
    let plain = GgufVocabulary { chat_template: None, ..gguf_vocabulary() };
    let plain = Tokenizer::from_files(&TokenizerFiles::Gguf(plain)).unwrap();
    assert!(!plain.has_chat_template());
    let error = plain.render_chat(&[], GenerationPrompt::No).unwrap_err();
    assert!(matches!(error, Error::Input { .. }) && error.to_string().contains("no chat template"));
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32], skip: SkipSpecial) -> String {
    let mut stream = DecodeStream::new(tokenizer, skip);
    let mut text: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    text.push_str(&stream.finish().unwrap());
    text
}

#[test]
fn a_stream_shows_whole_characters() {
    let tokenizer = tokenizer("tokenizer");
    let ids = tokenizer.encode("é😀!", AddSpecial::No).unwrap();
    let mut stream = DecodeStream::new(&tokenizer, SkipSpecial::No);
    let shown: Vec<String> =
        ids.iter().map(|&id| stream.push(id).unwrap()).filter(|s| !s.is_empty()).collect();
    assert_eq!(shown, ["é", "😀", "!"]);
    assert_eq!(streamed(&tokenizer, &ids[..3], SkipSpecial::No), "é\u{FFFD}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn byte_level_text_survives(text in any::<String>()) {
        for tokenizer in [tokenizer("tokenizer"), tokenizer("tokenizer-bos")] {
            let ids = tokenizer.encode(&text, AddSpecial::No).unwrap();
            prop_assert_eq!(&tokenizer.decode(&ids, SkipSpecial::No).unwrap(), &text);
            let pieces = tokenizer.encode_pieces(&text).unwrap();
            prop_assert_eq!(pieces.iter().map(|p| p.id).collect::<Vec<_>>(), ids);
            // Every byte belongs to a token.
            let mut covered = 0;
            for piece in pieces {
                prop_assert!(piece.bytes.start <= covered && piece.bytes.end >= covered);
                covered = piece.bytes.end;
            }
            prop_assert_eq!(covered, text.len());
        }
    }

    #[test]
    fn streams_join_to_the_whole(ids in prop::collection::vec(0u32..269, 0..40), prefix: bool) {
        let built = Tokenizer::from_files(&TokenizerFiles::Gguf(sentencepiece(prefix))).unwrap();
        for tokenizer in [tokenizer("tokenizer"), built] {
            for skip in [SkipSpecial::No, SkipSpecial::Yes] {
                prop_assert_eq!(streamed(&tokenizer, &ids, skip), tokenizer.decode(&ids, skip).unwrap());
            }
        }
    }
}
