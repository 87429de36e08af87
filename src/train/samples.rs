//! The same prompts answered again and again while a run goes on, so that people see what the figures mean.

use crate::config::GenerateConfig;
use crate::generate::{Generated, generate_all};
use crate::models::{CausalLm, Pass};
use crate::protocol::{Control, Event, Sample};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// What is answered at every evaluation.
pub struct Samples<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Prompts in order.
    pub prompts: &'a [SamplePrompt],
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
}

/// A prompt as people read it and as the model does.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplePrompt {
    /// Plain text; of a conversation its last message.
    pub text: String,
    /// Its tokens, with the chat template's where it is a conversation.
    pub ids: Vec<u32>,
}

impl Samples<'_> {
    /// Answers every prompt with the likeliest tokens, which draws no random number, or returns `None` where `emit`
    /// asked to stop.
    ///
    /// # Errors
    /// What [`generate_all`] reports.
    pub async fn answer(
        &self,
        model: &CausalLm,
        step: usize,
        emit: &mut dyn FnMut(Event) -> Control,
    ) -> Result<Option<Vec<Sample>>> {
        let config = GenerateConfig { max_new_tokens: self.max_new_tokens, ..GenerateConfig::default() };
        let prompts: Vec<&[u32]> = self.prompts.iter().map(|prompt| prompt.ids.as_slice()).collect();
        // Pieces, not prompts: all are answered together.
        let (mut done, total) = (0, (self.prompts.len() * self.max_new_tokens) as u64);
        let mut sign = |_, _: &str| {
            done = total.min(done + 1);
            emit(Event::Progress { task: "answering sample prompts".into(), done, total })
        };
        let answers =
            generate_all(model, self.tokenizer, &prompts, &config, 0, Pass::INFERENCE, &mut sign).await?;
        // The last piece may come with the end, where nobody asks.
        if sign(0, "") == Control::Stop {
            return Ok(None);
        }
        let pairs = self.prompts.iter().zip(answers);
        let sample = |(prompt, answer): (&SamplePrompt, Generated)| Sample {
            step,
            prompt: prompt.text.clone(),
            text: answer.text,
        };
        Ok(Some(pairs.map(sample).collect()))
    }
}

/// Why there are no samples; a run goes on without them.
pub fn note(problem: &Error) -> Event {
    Event::Note { message: format!("sample prompts are not answered any more: {problem}") }
}
