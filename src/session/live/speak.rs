//! Continuations from the base model and from the last run's result.

use super::super::{Place, load_model, prompts};
use super::{Session, Tell};
use crate::config::{GenerateConfig, Run};
use crate::generate::{FinishReason, generate};
use crate::methods::MethodConfig;
use crate::models::{Adapter, CausalLm, Pass};
use crate::protocol::{Answer, Prompt, Update, Voice};
use crate::store::Store;
use crate::store::model_files::ModelFiles;
use crate::{Error, Result};
use web_time::Instant;

/// A loaded model and what it can say.
pub(super) struct Speaker {
    model: CausalLm,
    /// Key of its weights.
    key: String,
    /// Folder of the attached adapter.
    adapter: Option<String>,
}

impl<S: Store> Session<S> {
    /// Continues `prompt`, telling the text as it becomes certain.
    pub(super) async fn generate(
        &mut self,
        prompt: Prompt,
        voice: Voice,
        sampling: &GenerateConfig,
        seed: u64,
        tell: Tell<'_>,
    ) -> Result<()> {
        sampling.validate()?;
        let ids = prompts::encode(prompt, &self.opened()?.tokenizer)?;
        let (key, adapter) = self.weights_of(voice)?;
        // An adapter is switched, not unloaded: whoever compares both voices loads the model once.
        let is_loaded =
            |speaker: &Speaker| speaker.key == key && (voice == Voice::Base || speaker.adapter == adapter);
        let speaker = match self.speaker.take().filter(is_loaded) {
            Some(speaker) => speaker,
            None => self.load(key, adapter, tell).await?,
        };
        let pass = match voice {
            Voice::Base => Pass::BASE,
            Voice::Tuned => Pass::INFERENCE,
        };
        let began = Instant::now();
        let mut show = |piece: &str| tell(Update::Text { piece: piece.into() });
        let tokenizer = &self.opened()?.tokenizer;
        let generated = generate(&speaker.model, tokenizer, &ids, sampling, seed, pass, &mut show).await;
        self.speaker = Some(speaker);
        let generated = generated?;
        let finish_reason = match generated.finish_reason {
            FinishReason::Eos => "eos",
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Interrupted => "interrupted",
        };
        tell(Update::Answer(Answer {
            finish_reason: finish_reason.into(),
            n_tokens: generated.ids.len(),
            duration_secs: began.elapsed().as_secs_f64(),
        }));
        Ok(())
    }

    /// Key of the weights and folder of the adapter that `voice` needs.
    fn weights_of(&self, voice: Voice) -> Result<(String, Option<String>)> {
        let base = self.opened()?.key.clone();
        match (&self.tuned, voice) {
            (None, Voice::Tuned) => Err(Error::input("adapter", "there is none", "a run that left a result")),
            (None, Voice::Base) => Ok((base, None)),
            (Some(Run { method: MethodConfig::Lora(_), out, .. }), _) => Ok((base, Some(out.clone()))),
            (Some(Run { method: MethodConfig::Full(_), .. }), Voice::Base) => Ok((base, None)),
            (Some(Run { method: MethodConfig::Full(_), out, .. }), Voice::Tuned) => Ok((out.clone(), None)),
        }
    }

    /// Loads the weights `key` with the adapter of that folder.
    pub(super) async fn load(&self, key: String, adapter: Option<String>, tell: Tell<'_>) -> Result<Speaker> {
        let files = ModelFiles::open(&self.store, &key).await?;
        let attached = match &adapter {
            Some(folder) => Some(Adapter::load(&self.store, folder).await?),
            None => None,
        };
        let model =
            load_model(Place::plain(&self.device), &files, attached, &mut |event| tell(Update::Event(event)))
                .await?;
        Ok(Speaker { model, key, adapter })
    }
}
