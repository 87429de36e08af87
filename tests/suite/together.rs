//! Prompts continued together: each as if it were alone.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::adapter::{load, model_folder};
use attune::generate::{FinishReason, GenerateConfig, Generated, generate, generate_all};
use attune::models::Pass;
use attune::native::block_on;
use attune::protocol::Control;
use attune::session;
use attune::store::model_files::ModelFiles;
use attune::tokenizer::AddSpecial;

#[test]
fn each_prompt_is_continued_as_if_it_were_alone() {
    let base = model_folder("llama");
    let tokenizer = session::tokenizer_of(&block_on(ModelFiles::open(&base, "")).unwrap()).unwrap();
    let model = load(&base);
    let texts: Vec<String> = (0..19).map(|i| "a b c d e f g h i j".chars().take(i + 1).collect()).collect();
    let prompts: Vec<Vec<u32>> =
        texts.iter().map(|text| tokenizer.encode(text, AddSpecial::Yes).unwrap()).collect();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let alone = |config: &GenerateConfig| -> Vec<Generated> {
        let one = |prompt: &&[u32]| {
            let mut go_on = |_: &str| Control::Continue;
            block_on(generate(&model, &tokenizer, prompt, config, 7, Pass::INFERENCE, &mut go_on)).unwrap()
        };
        prompts.iter().map(one).collect()
    };
    let mut config = GenerateConfig { max_new_tokens: 12, ..GenerateConfig::default() };
    // A text that ends some of them early, so that the others go on without them.
    let first = alone(&config).swap_remove(0).text;
    let stop: String = first.chars().skip(first.chars().count() / 2).take(2).collect();
    for (temperature, stop) in [(0.0, vec![]), (0.0, vec![stop]), (1.0, vec![])] {
        (config.temperature, config.stop) = (temperature, stop);
        let mut told = vec![String::new(); prompts.len()];
        let mut tell = |i: usize, piece: &str| {
            told[i].push_str(piece);
            Control::Continue
        };
        let all = generate_all(&model, &tokenizer, &prompts, &config, 7, Pass::INFERENCE, &mut tell);
        let all = block_on(all).unwrap();
        assert_eq!(all, alone(&config), "temperature {temperature}, stop {:?}", config.stop);
        let texts: Vec<&String> = all.iter().map(|generated| &generated.text).collect();
        assert_eq!(told.iter().collect::<Vec<_>>(), texts);
        let n_stopped = all.iter().filter(|generated| generated.finish_reason == FinishReason::Stop).count();
        assert_eq!(n_stopped > 0, !config.stop.is_empty(), "{n_stopped} stopped");
    }
}

#[test]
fn who_asks_to_stop_ends_all() {
    let base = model_folder("llama");
    let tokenizer = session::tokenizer_of(&block_on(ModelFiles::open(&base, "")).unwrap()).unwrap();
    let prompts: [&[u32]; 2] = [&[1, 2, 3], &[4]];
    let config = GenerateConfig { max_new_tokens: 500, ..GenerateConfig::default() };
    let mut stop = |_: usize, _: &str| Control::Stop;
    let model = load(&base);
    let all = generate_all(&model, &tokenizer, &prompts, &config, 0, Pass::INFERENCE, &mut stop);
    for generated in block_on(all).unwrap() {
        assert_eq!(generated.finish_reason, FinishReason::Interrupted);
        assert!(generated.ids.len() < 100, "{} tokens", generated.ids.len());
    }
}
