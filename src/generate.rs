//! Text from a model: one token at a time through the KV cache, streamed.

mod sample;
mod stop;

pub use crate::config::GenerateConfig;

use crate::models::{AnyTensor, CausalLm, Pass};
use crate::protocol::Control;
use crate::tokenizer::{DecodeStream, SkipSpecial, Tokenizer};
use crate::{Error, Result};
use sample::Sampler;
use serde::Serialize;
use std::task::Poll;
use stop::StopStrings;

impl GenerateConfig {
    /// Settings out of range, all of them.
    pub fn validate(&self) -> Result<()> {
        let mut errors = Vec::new();
        let mut check = |holds: bool, name: &str, value: String, expected: &str| {
            if !holds {
                errors.push(Error::input(format!("generate.{name}"), value, expected));
            }
        };
        let penalty = self.repetition_penalty;
        check(
            self.max_new_tokens >= 1,
            "max_new_tokens",
            self.max_new_tokens.to_string(),
            "a whole number from 1",
        );
        check(
            (0.0..=1e6).contains(&self.temperature),
            "temperature",
            self.temperature.to_string(),
            "a number from 0",
        );
        check(
            self.top_p > 0.0 && self.top_p <= 1.0,
            "top_p",
            self.top_p.to_string(),
            "a number above 0 up to 1",
        );
        check((0.0..=1.0).contains(&self.min_p), "min_p", self.min_p.to_string(), "a number from 0 to 1");
        check(
            penalty > 0.0 && penalty.is_finite(),
            "repetition_penalty",
            penalty.to_string(),
            "a number above 0",
        );
        check(
            self.stop.iter().all(|s| !s.is_empty()),
            "stop",
            "an empty text".into(),
            "texts that are not empty",
        );
        Error::all(errors)
    }
}

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model said so.
    Eos,
    /// A stop text appeared.
    Stop,
    /// `max_new_tokens`, or the model's last position.
    Length,
    /// The caller asked to.
    Interrupted,
}

/// A continuation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generated {
    /// Token ids, the end token included.
    pub ids: Vec<u32>,
    /// Their text without special tokens and without the stop text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the prompt.
    pub n_prompt_tokens: usize,
}

/// Continues `prompt`. `on_text` receives the text as it becomes certain and may ask to stop.
///
/// The draw is a pure function of `seed`, prompt and settings. `pass` chooses the tuned or the base model.
///
/// # Errors
/// An empty prompt; one longer than the model's learned positions; settings out of range.
pub async fn generate(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    config: &GenerateConfig,
    seed: u64,
    pass: Pass<'static>,
    on_text: &mut dyn FnMut(&str) -> Control,
) -> Result<Generated> {
    config.validate()?;
    if prompt.is_empty() {
        return Err(Error::input("prompt", "no tokens", "at least one token"));
    }
    let mut sampler = Sampler::new(config, seed, prompt);
    let mut stops = StopStrings::new(&config.stop);
    let mut decoder = DecodeStream::new(tokenizer, SkipSpecial::Yes);
    let mut cache = model.cache();
    let mut next: Vec<i32> = prompt.iter().map(|&id| id as i32).collect();
    let (mut ids, mut text) = (Vec::new(), String::new());
    let finish_reason = loop {
        let logits = AnyTensor::Matrix(model.extend(&next, &mut cache, pass)?).to_host().await?;
        let id = sampler.next(logits.values)?;
        ids.push(id);
        if tokenizer.eos_ids().contains(&id) {
            break FinishReason::Eos;
        }
        let piece = stops.push(&decoder.push(id)?);
        text.push_str(&piece);
        if !piece.is_empty() && on_text(&piece) == Control::Stop {
            break FinishReason::Interrupted;
        }
        if stops.found() {
            break FinishReason::Stop;
        }
        let full = model.spec.learned_positions && cache.n_tokens() >= model.spec.max_positions;
        if ids.len() == config.max_new_tokens || full {
            break FinishReason::Length;
        }
        next = vec![id as i32];
        give_way().await;
    };
    if finish_reason != FinishReason::Stop {
        let mut rest = stops.push(&decoder.finish()?);
        rest.push_str(&stops.finish());
        if !rest.is_empty() {
            _ = on_text(&rest);
            text.push_str(&rest);
        }
    }
    Ok(Generated { ids, text, finish_reason, n_prompt_tokens: prompt.len() })
}

/// Lets others have a turn. A device that answers at once would otherwise keep a browser's worker from hearing
/// that it should stop.
async fn give_way() {
    let mut is_first = true;
    std::future::poll_fn(|context| {
        if !std::mem::take(&mut is_first) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
