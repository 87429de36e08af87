//! Rows as tokens with loss weights against TRL's SFTTrainer (`fixtures/making/sft.py`), and the mask
//! under templates that rewrite, trim, drop or close turns in their own ways.
#![allow(clippy::unwrap_used)]

use crate::tokenizer::{ids, json_fixture, messages, tokenizer, tokenizer_with};
use attune::Result;
use attune::config::{DataConfig, LossOn};
use attune::data::encode::{EncodedRow, encode, show};
use attune::data::{Encoded, Message, Place, Row, RowContent};
use attune::store::tokenizer_files::TokenizerFiles;
use attune::tokenizer::Tokenizer;
use proptest::prelude::*;
use serde_json::Value;

fn row(content: RowContent) -> Row {
    Row { place: Place { file: "rows.jsonl".into(), line: 7 }, content }
}

fn pair(prompt: &str, completion: &str) -> Row {
    row(RowContent::PromptCompletion { prompt: prompt.into(), completion: completion.into() })
}

fn config(loss_on: LossOn, max_length: usize) -> DataConfig {
    DataConfig { loss_on, max_length, ..DataConfig::default() }
}

fn chat(turns: &[(&str, &str, f32)]) -> Vec<Message> {
    turns
        .iter()
        .map(|&(role, content, weight)| Message { role: role.into(), content: content.into(), weight })
        .collect()
}

/// Compares a case of sft.json with what becomes of the same rows here.
fn agrees_with_trl(tokenizer: &Tokenizer, case: &Value, config: &DataConfig) {
    let mut encoded = case["encoded"].as_array().unwrap().iter();
    for source in case["rows"].as_array().unwrap() {
        let text = |key: &str| source[key].as_str().unwrap().to_string();
        let content = if source.get("text").is_some() {
            RowContent::Text(text("text"))
        } else if source.get("messages").is_some() {
            RowContent::Chat(messages(&source["messages"]))
        } else {
            RowContent::PromptCompletion { prompt: text("prompt"), completion: text("completion") }
        };
        let Ok(EncodedRow { tokens: found, .. }) = encode(&row(content), tokenizer, config) else {
            continue; // TRL drops the rows that are refused here, so the rest must still line up
        };
        let expected = encoded.next().unwrap();
        assert_eq!(found.ids, ids(&expected["input_ids"]), "{source}");
        let labels = expected["labels"].as_array().unwrap().iter();
        // A label is predicted from the token before it: the first one never counts.
        let carries = labels.enumerate().map(|(i, label)| i > 0 && label.as_i64() != Some(-100));
        let weights: Vec<f32> = carries.map(|c| if c { 1.0 } else { 0.0 }).collect();
        assert_eq!(found.loss_weights, weights, "{source}");
    }
    assert_eq!(encoded.next(), None);
}

#[test]
fn ids_and_labels_equal_trl() {
    let (whole, auto) = (config(LossOn::All, 1024), config(LossOn::Auto, 1024));
    let chatml = tokenizer("tokenizer");
    let sft = json_fixture("tokenizer/sft.json");
    agrees_with_trl(&chatml, &sft["text"], &auto);
    agrees_with_trl(&chatml, &sft["prompt_completion"], &auto);
    agrees_with_trl(&chatml, &sft["prompt_completion"], &config(LossOn::Completions, 1024));
    agrees_with_trl(&chatml, &sft["prompt_completion_whole"], &whole);
    agrees_with_trl(&chatml, &sft["prompt_completion_max_length_16"], &config(LossOn::Auto, 16));
    agrees_with_trl(&chatml, &sft["messages"], &whole);
    // Marked by {% generation %} in the template, and found without marks: the same tokens.
    let marked = tokenizer_with("tokenizer", "tokenizer/chat_template_generation.jinja");
    agrees_with_trl(&marked, &sft["messages_assistant_only"], &auto);
    agrees_with_trl(&chatml, &sft["messages_assistant_only"], &auto);
    let bos = tokenizer("tokenizer-bos");
    let sft = json_fixture("tokenizer-bos/sft.json");
    agrees_with_trl(&bos, &sft["text"], &auto);
    agrees_with_trl(&bos, &sft["prompt_completion"], &auto);
}

/// The runs of tokens with loss, as text with their weight.
fn learned(tokenizer: &Tokenizer, encoded: &Encoded) -> Vec<(String, f32)> {
    let mut runs: Vec<(String, f32)> = Vec::new();
    let mut before = 0.0;
    for shown in show(encoded, tokenizer).unwrap() {
        match runs.last_mut() {
            Some(run) if shown.weight != 0.0 && shown.weight == before => run.0.push_str(&shown.text),
            _ if shown.weight != 0.0 => runs.push((shown.text, shown.weight)),
            _ => {}
        }
        before = shown.weight;
    }
    runs
}

fn with_template(template: &str) -> Tokenizer {
    Tokenizer::from_files(&TokenizerFiles::Json {
        tokenizer_json: std::fs::read(crate::tokenizer::fixture("tokenizer/tokenizer.json")).unwrap(),
        tokenizer_config: json_fixture("tokenizer/tokenizer_config.json"),
        chat_template: Some(template.into()),
        special_tokens_map: Value::Null,
    })
    .unwrap()
}

fn learned_chat(template: &str, turns: &[(&str, &str, f32)]) -> Result<Vec<(String, f32)>> {
    let tokenizer = with_template(template);
    let encoded = encode(&row(RowContent::Chat(chat(turns))), &tokenizer, &DataConfig::default())?;
    Ok(learned(&tokenizer, &encoded.tokens))
}

const TURNS: [(&str, &str, f32); 4] = [
    ("user", "One?", 1.0),
    ("assistant", " Two. ", 0.5),
    ("user", "Three?", 1.0),
    ("assistant", "Four.", 2.0),
];

fn runs(expected: &[(&str, f32)]) -> Vec<(String, f32)> {
    expected.iter().map(|&(text, weight)| (text.to_string(), weight)).collect()
}

#[test]
fn assistant_turns_carry_their_weight_to_the_end_token() {
    let chatml = std::fs::read_to_string(crate::tokenizer::fixture("tokenizer/chat_template.jinja")).unwrap();
    let expected = runs(&[("Two.<|im_end|>", 0.5), ("Four.<|im_end|>", 2.0)]);
    assert_eq!(learned_chat(&chatml, &TURNS).unwrap(), expected);
    // An end token outside of the generation block is learned all the same.
    let outside = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}";
    assert_eq!(learned_chat(outside, &TURNS).unwrap(), expected);
    // A template that knows no generation prompt: the header is context.
    let fixed =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}";
    assert_eq!(learned_chat(fixed, &TURNS).unwrap(), expected);
    // Weight 0 leaves a turn out.
    let mut turns = TURNS;
    turns[1].2 = 0.0;
    assert_eq!(learned_chat(&chatml, &turns).unwrap(), expected[1..]);
}

// The ways of Qwen3's template: thoughts of earlier turns are dropped, the last turn gets an empty one.
const THINKING: &str = r"{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.last == -1 and message.role == 'user' and not message.content.startswith('<tool>') %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last %}
            {{- '<|im_start|>assistant\n<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}";

#[test]
fn rewritten_turns_are_learned_as_they_are_written() {
    let turns = [
        ("user", "One?", 1.0),
        ("assistant", "<think>\nhm\n</think>\n\nTwo.", 1.0),
        ("user", "Three?", 1.0),
        ("assistant", "<think>\nwell\n</think>\n\nFour.", 1.0),
    ];
    let expected = runs(&[("Two.<|im_end|>", 1.0), ("<think>\nwell\n</think>\n\nFour.<|im_end|>", 1.0)]);
    assert_eq!(learned_chat(THINKING, &turns).unwrap(), expected);
    let plain = runs(&[(" Two. <|im_end|>", 0.5), ("<think>\n\n</think>\n\nFour.<|im_end|>", 2.0)]);
    assert_eq!(learned_chat(THINKING, &TURNS).unwrap(), plain);
}

#[test]
fn other_ways_to_end_a_turn() {
    // An end token at the conversation's end only, and no special token at all.
    let last = "{% for m in messages %}{{ '[' + m.role + '] ' + m.content | trim }}{% if loop.last %}<|im_end|>{% else %}\n{% endif %}{% endfor %}{% if add_generation_prompt %}\n[assistant]{% endif %}";
    assert_eq!(learned_chat(last, &TURNS).unwrap()[1].0.trim_start(), "Four.<|im_end|>");
    let text = "{% for m in messages %}{{ m.role + ':' + m.content + '\n\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    assert_eq!(learned_chat(text, &TURNS).unwrap(), runs(&[(" Two. \n\n", 0.5), ("Four.\n\n", 2.0)]));
}

#[test]
fn templates_whose_turns_cannot_be_told_are_refused() {
    for template in [
        "{% for m in messages %}{{ m.content }}|{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content | length }}:{{ m.content }}{% endfor %}{{ messages[-1].content[:2] }}",
    ] {
        let error = learned_chat(template, &TURNS).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(
            text.starts_with("rows.jsonl:7: chat template") && text.contains("{% generation %}"),
            "{text}"
        );
    }
    let roles =
        learned_chat("{{ raise_exception('only user and assistant') }}", &TURNS).unwrap_err().to_string();
    assert!(
        roles.starts_with("rows.jsonl:7: chat template") && roles.contains("only user and assistant"),
        "{roles}"
    );
}

#[test]
fn rows_without_loss_are_refused_by_name() {
    let tokenizer = tokenizer("tokenizer");
    let refused = |row: &Row, config: &DataConfig| {
        let error = encode(row, &tokenizer, config).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    let asked = row(RowContent::Chat(chat(&[("user", "Hi", 1.0)])));
    assert!(refused(&asked, &config(LossOn::Auto, 64)).contains("role `assistant`"));
    let cut = refused(&pair("a long prompt", "x"), &config(LossOn::Auto, 3));
    assert!(cut.contains("max_length 3") && cut.contains("--max-length"), "{cut}");
    let text = row(RowContent::Text("Hi".into()));
    assert!(refused(&text, &config(LossOn::Completions, 64)).contains("plain text"));
    assert!(refused(&row(RowContent::Text(String::new())), &config(LossOn::Auto, 64)).contains("first"));
    for refusal in [refused(&asked, &config(LossOn::Completions, 64)), cut] {
        assert!(refusal.starts_with("rows.jsonl:7: "), "{refusal}");
    }
}

#[test]
fn prompts_that_merge_into_the_completion_are_told() {
    let tokenizer = tokenizer("tokenizer");
    let merges = |prompt: &str, completion: &str, loss_on: LossOn| {
        encode(&pair(prompt, completion), &tokenizer, &config(loss_on, 64)).unwrap().prompt_merges
    };
    for loss_on in [LossOn::Auto, LossOn::All] {
        assert!(merges("Answer: ", "five", loss_on));
        assert!(!merges("Answer:", " five", loss_on));
        assert!(!merges("", "five", loss_on));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn the_mask_is_the_answer(system in "[a-z ]{0,8}", asked in "\\PC{0,12}", said in "[^\\s<]{1,12}", again in "[^\\s<]{1,12}") {
        let tokenizer = tokenizer("tokenizer");
        let turns = chat(&[("system", &system, 1.0), ("user", &asked, 1.0), ("assistant", &said, 1.0),
            ("user", &asked, 1.0), ("assistant", &again, 3.0)]);
        let encoded = encode(&row(RowContent::Chat(turns)), &tokenizer, &DataConfig::default());
        let encoded = encoded.unwrap().tokens;
        prop_assert_eq!(encoded.ids.len(), encoded.loss_weights.len());
        let expected = [(format!("{said}<|im_end|>"), 1.0), (format!("{again}<|im_end|>"), 3.0)];
        prop_assert_eq!(learned(&tokenizer, &encoded), expected);
    }

    #[test]
    fn pairs_keep_their_text_and_their_end(prompt in any::<String>(), completion in any::<String>(), max_length in 1usize..64) {
        let tokenizer = tokenizer("tokenizer");
        let row = pair(&prompt, &completion);
        let whole = encode(&row, &tokenizer, &config(LossOn::Auto, usize::MAX)).map(|encoded| encoded.tokens);
        if let Ok(whole) = &whole {
            prop_assert_eq!(whole.ids.len(), whole.loss_weights.len());
            prop_assert_eq!(whole.ids.last(), tokenizer.eos_ids().first());
            prop_assert_eq!(whole.loss_weights.last(), Some(&1.0));
            let text: String = show(whole, &tokenizer).unwrap().into_iter().map(|s| s.text).collect();
            prop_assert_eq!(text, format!("{prompt}{completion}<|im_end|>"));
        }
        if let Ok(EncodedRow { tokens: cut, .. }) = encode(&row, &tokenizer, &config(LossOn::Auto, max_length)) {
            let whole = whole.unwrap();
            prop_assert_eq!(cut.truncated, whole.ids.len() > max_length);
            prop_assert!(whole.ids.starts_with(&cut.ids) && whole.loss_weights.starts_with(&cut.loss_weights));
        }
    }
}
