//! Sampling of a continuation.

use super::settings;

settings! {
    /// Sampling; names follow transformers' `GenerationConfig`.
    pub struct GenerateConfig in "generate" {
        /// Longest continuation in tokens.
        max_new_tokens: usize = 128,
        /// Divides the logits; 0 always takes the likeliest token.
        temperature: f64 = 0.0,
        /// Sample among this many likeliest tokens; 0 among all.
        top_k: usize = 0,
        /// Sample among the fewest tokens whose probabilities reach this sum.
        top_p: f64 = 1.0,
        /// Sample among tokens at least this likely, relative to the likeliest.
        min_p: f64 = 0.0,
        /// Divides positive logits of tokens seen so far, multiplies negative ones (1909.05858).
        repetition_penalty: f64 = 1.0,
        /// Texts that end the continuation; they are not part of it.
        stop: Vec<String> = Vec::new(),
    }
}
