//! Logits → the next token: transformers' processors in transformers' order.

use super::GenerateConfig;
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Draws tokens and remembers them for the repetition penalty.
pub struct Sampler<'c> {
    config: &'c GenerateConfig,
    rng: ChaCha8Rng,
    seen: Vec<u32>,
}

impl<'c> Sampler<'c> {
    /// A sampler whose penalty counts the prompt, as transformers' does.
    pub fn new(config: &'c GenerateConfig, seed: u64, prompt: &[u32]) -> Self {
        let mut seen = prompt.to_vec();
        seen.sort_unstable();
        seen.dedup();
        Self { config, rng: ChaCha8Rng::seed_from_u64(seed), seen }
    }

    /// The next token from the logits of all.
    pub fn next(&mut self, mut logits: Vec<f32>) -> Result<u32> {
        if let Some(bad) = logits.iter().find(|l| l.is_nan()) {
            let advice =
                "the model's weights are damaged, or the adapter diverged: use an earlier checkpoint";
            return Err(Error::NotFinite {
                step: 0,
                quantity: "logit",
                value: f64::from(*bad),
                advice: advice.into(),
            });
        }
        let penalty = self.config.repetition_penalty as f32;
        if penalty != 1.0 {
            for &id in &self.seen {
                if let Some(l) = logits.get_mut(id as usize) {
                    *l = if *l > 0.0 { *l / penalty } else { *l * penalty };
                }
            }
        }
        let id = if self.config.temperature == 0.0 { likeliest(&logits) } else { self.draw(&logits) };
        if let Err(place) = self.seen.binary_search(&id) {
            self.seen.insert(place, id);
        }
        Ok(id)
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let config = self.config;
        let mut ranked: Vec<(u32, f64)> = logits
            .iter()
            .enumerate()
            .map(|(id, &l)| (id as u32, f64::from(l) / config.temperature))
            .collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if config.top_k > 0 {
            ranked.truncate(config.top_k);
        }
        let best = ranked.first().map_or(0.0, |r| r.1);
        for (_, weight) in &mut ranked {
            *weight = (*weight - best).exp();
        }
        if config.top_p < 1.0 {
            let limit = config.top_p * ranked.iter().map(|r| r.1).sum::<f64>();
            let mut sum = 0.0;
            // A token stays when those before it have not reached the sum yet.
            let reached = |weight: f64| {
                let before: f64 = sum;
                sum += weight;
                before >= limit
            };
            let keep = ranked.iter().map(|r| r.1).map(reached).take_while(|reached| !reached).count();
            ranked.truncate(keep.max(1));
        }
        // The likeliest token has weight 1, so relative and absolute thresholds are the same.
        ranked.retain(|r| r.1 >= config.min_p);
        let mut left = self.rng.random::<f64>() * ranked.iter().map(|r| r.1).sum::<f64>();
        for (id, weight) in &ranked {
            left -= weight;
            if left <= 0.0 {
                return *id;
            }
        }
        ranked.last().map_or(0, |r| r.0)
    }
}

fn likeliest(logits: &[f32]) -> u32 {
    // The first of equals, as argmax in PyTorch.
    let better = |best: (usize, f32), (i, &l): (usize, &f32)| if l > best.1 { (i, l) } else { best };
    logits.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(config: GenerateConfig, logits: &[f32]) -> Vec<u32> {
        let mut sampler = Sampler::new(&config, 3, &[]);
        let mut ids: Vec<u32> = (0..2000).map(|_| sampler.draw(logits)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    #[test]
    fn filters_keep_what_transformers_keeps() {
        let logits = [0.5f32, 0.25, 0.15, 0.1].map(f32::ln);
        let warm = || GenerateConfig { temperature: 1.0, ..GenerateConfig::default() };
        assert_eq!(drawn(warm(), &logits), [0, 1, 2, 3]);
        assert_eq!(drawn(GenerateConfig { top_k: 2, ..warm() }, &logits), [0, 1]);
        assert_eq!(drawn(GenerateConfig { top_p: 0.7, ..warm() }, &logits), [0, 1]);
        assert_eq!(drawn(GenerateConfig { top_p: 0.01, ..warm() }, &logits), [0]);
        assert_eq!(drawn(GenerateConfig { min_p: 0.25, ..warm() }, &logits), [0, 1, 2]);
    }

    #[test]
    fn frequencies_follow_the_temperature() {
        let config = GenerateConfig { temperature: 2.0, ..GenerateConfig::default() };
        let mut sampler = Sampler::new(&config, 3, &[]);
        let ones = (0..20_000).filter(|_| sampler.draw(&[0.0, 2.0]) == 1).count() as f64 / 20_000.0;
        let expected = 1.0 / (1.0 + (-1.0f64).exp());
        assert!((ones - expected).abs() < 0.02, "{ones}, not {expected}");
    }

    #[test]
    fn the_penalty_counts_prompt_and_continuation() {
        let config = GenerateConfig { repetition_penalty: 2.0, ..GenerateConfig::default() };
        let mut sampler = Sampler::new(&config, 0, &[1]);
        assert_eq!(sampler.next(vec![1.0, 1.5, -1.0]).expect("finite"), 0);
        assert_eq!(sampler.next(vec![1.0, 1.5, 0.6]).expect("finite"), 1);
        assert_eq!(sampler.next(vec![-1.0, -1.5, -1.9]).expect("finite"), 2);
        assert!(sampler.next(vec![f32::NAN]).is_err());
    }
}
