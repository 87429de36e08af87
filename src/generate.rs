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
    let mut on_text = |_, piece: &str| on_text(piece);
    let all = generate_all(model, tokenizer, &[prompt], config, seed, pass, &mut on_text).await?;
    all.into_iter().next().ok_or_else(|| Error::Internal("a prompt has no continuation".into()))
}

/// Continues several prompts together: the weights are read once for a token of each. `on_text` receives the prompt's
/// number and its text as that becomes certain; where it asks to stop, all end.
///
/// # Errors
/// As [`generate`]'s.
pub async fn generate_all(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    prompts: &[&[u32]],
    config: &GenerateConfig,
    seed: u64,
    pass: Pass<'static>,
    on_text: &mut dyn FnMut(usize, &str) -> Control,
) -> Result<Vec<Generated>> {
    config.validate()?;
    if prompts.iter().any(|prompt| prompt.is_empty()) {
        return Err(Error::input("prompt", "no tokens", "at least one token"));
    }
    let mut texts: Vec<Text> =
        prompts.iter().map(|prompt| Text::new(tokenizer, config, seed, prompt)).collect();
    let mut is_stopped = false;
    // Those that go on, with what comes next: their prompts, then a token each.
    for first in (0..prompts.len()).step_by(MOST_TOGETHER) {
        let together = first..(first + MOST_TOGETHER).min(prompts.len());
        let mut cache = model.cache(together.len());
        let mut going: Vec<(usize, Vec<i32>)> =
            together.map(|i| (i, prompts[i].iter().map(|&id| id as i32).collect())).collect();
        while !going.is_empty() && !is_stopped {
            let rows: Vec<&[i32]> = going.iter().map(|(_, next)| next.as_slice()).collect();
            let logits = AnyTensor::Matrix(model.extend(&rows, &mut cache, pass)?).to_host().await?.values;
            let (mut kept, mut next) = (Vec::new(), Vec::new());
            for (row, (&(i, _), logits)) in
                going.iter().zip(logits.chunks_exact(logits.len() / going.len())).enumerate()
            {
                let is_full =
                    model.spec.learned_positions && cache.lengths()[row] >= model.spec.max_positions;
                let mut on_text = |piece: &str| on_text(i, piece);
                let id = texts[i].push(logits.to_vec(), is_full, &mut on_text)?;
                if texts[i].finish_reason.is_none() {
                    kept.push(row);
                    next.push((i, vec![id as i32]));
                }
                is_stopped |= texts[i].finish_reason == Some(FinishReason::Interrupted);
            }
            if kept.len() < going.len() && !kept.is_empty() {
                cache.keep(&kept);
            }
            going = next;
            give_way().await;
        }
    }
    let finished = texts.into_iter().enumerate();
    finished.map(|(i, text)| text.finish(&mut |piece: &str| on_text(i, piece))).collect()
}

/// Prompts that are continued together, at most: their keys and values are in memory at once.
const MOST_TOGETHER: usize = 16;

/// A continuation under way.
struct Text<'a> {
    tokenizer: &'a Tokenizer,
    max_new_tokens: usize,
    sampler: Sampler<'a>,
    stops: StopStrings<'a>,
    decoder: DecodeStream<'a>,
    ids: Vec<u32>,
    text: String,
    n_prompt_tokens: usize,
    finish_reason: Option<FinishReason>,
}

impl<'a> Text<'a> {
    fn new(tokenizer: &'a Tokenizer, config: &'a GenerateConfig, seed: u64, prompt: &[u32]) -> Self {
        Self {
            tokenizer,
            max_new_tokens: config.max_new_tokens,
            sampler: Sampler::new(config, seed, prompt),
            stops: StopStrings::new(&config.stop),
            decoder: DecodeStream::new(tokenizer, SkipSpecial::Yes),
            ids: Vec::new(),
            text: String::new(),
            n_prompt_tokens: prompt.len(),
            finish_reason: None,
        }
    }

    /// Draws the next token, and notes where it is the last; `is_full`: the model has no position for another.
    fn push(
        &mut self,
        logits: Vec<f32>,
        is_full: bool,
        on_text: &mut dyn FnMut(&str) -> Control,
    ) -> Result<u32> {
        let id = self.sampler.next(logits)?;
        self.ids.push(id);
        if self.tokenizer.eos_ids().contains(&id) {
            self.finish_reason = Some(FinishReason::Eos);
            return Ok(id);
        }
        let piece = self.stops.push(&self.decoder.push(id)?);
        self.text.push_str(&piece);
        self.finish_reason = if !piece.is_empty() && on_text(&piece) == Control::Stop {
            Some(FinishReason::Interrupted)
        } else if self.stops.found() {
            Some(FinishReason::Stop)
        } else {
            (self.ids.len() == self.max_new_tokens || is_full).then_some(FinishReason::Length)
        };
        Ok(id)
    }

    /// The whole, after what was held back.
    fn finish(mut self, on_text: &mut dyn FnMut(&str) -> Control) -> Result<Generated> {
        // Where another was interrupted, so was this one.
        let finish_reason = self.finish_reason.unwrap_or(FinishReason::Interrupted);
        if finish_reason != FinishReason::Stop {
            let mut rest = self.stops.push(&self.decoder.finish()?);
            rest.push_str(&self.stops.finish());
            if !rest.is_empty() {
                _ = on_text(&rest);
                self.text.push_str(&rest);
            }
        }
        Ok(Generated { ids: self.ids, text: self.text, finish_reason, n_prompt_tokens: self.n_prompt_tokens })
    }
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
