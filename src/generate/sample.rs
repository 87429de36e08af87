//! Logits → the next token: transformers' processors in transformers' order.

use super::GenerateConfig;
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cmp::Ordering;

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
        let warm = |(id, &l): (usize, &f32)| (id as u32, f64::from(l) / config.temperature);
        let mut ranked = Ranked::of(logits.iter().enumerate().map(warm).collect(), config.top_k);
        let total = ranked.weigh();
        let (mut n_kept, mut left) = (ranked.tokens.len(), total);
        if config.top_p < 1.0 || config.min_p > 0.0 {
            (n_kept, left) = (0, 0.0);
            // A token stays when those before it have not reached the sum yet. The likeliest has weight 1, so relative
            // and absolute thresholds are the same.
            while n_kept < ranked.tokens.len() && (n_kept == 0 || left < config.top_p * total) {
                let (_, weight) = ranked.at(n_kept);
                if weight < config.min_p {
                    break;
                }
                (n_kept, left) = (n_kept + 1, left + weight);
            }
        }
        left *= self.rng.random::<f64>();
        for rank in 0..n_kept {
            let (id, weight) = ranked.at(rank);
            left -= weight;
            if left <= 0.0 {
                return id;
            }
        }
        n_kept.checked_sub(1).map_or(0, |last| ranked.at(last).0)
    }
}

/// Tokens by their logits, the likeliest first, put in order as far as they are asked for: it is the first few.
struct Ranked {
    tokens: Vec<(u32, f64)>,
    n_sorted: usize,
}

impl Ranked {
    /// Tokens put in order at once, at first.
    const FIRST: usize = 64;

    /// The `top_k` likeliest; all where it is 0.
    fn of(mut tokens: Vec<(u32, f64)>, top_k: usize) -> Self {
        if (1..tokens.len()).contains(&top_k) {
            tokens.select_nth_unstable_by(top_k - 1, Self::order);
            tokens.truncate(top_k);
        }
        Self { tokens, n_sorted: 0 }
    }

    /// Of equals, the first comes first.
    fn order(a: &(u32, f64), b: &(u32, f64)) -> Ordering {
        b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
    }

    /// Logits become weights, the likeliest token's 1; their sum.
    fn weigh(&mut self) -> f64 {
        let best = self.tokens.iter().map(|token| token.1).fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        for (_, weight) in &mut self.tokens {
            *weight = (*weight - best).exp();
            total += *weight;
        }
        total
    }

    /// The token of a rank.
    fn at(&mut self, rank: usize) -> (u32, f64) {
        if rank >= self.n_sorted {
            let end = (4 * rank).max(Self::FIRST).min(self.tokens.len());
            let rest = &mut self.tokens[self.n_sorted..];
            let n = end - self.n_sorted;
            if n < rest.len() {
                rest.select_nth_unstable_by(n - 1, Self::order);
            }
            rest[..n].sort_unstable_by(Self::order);
            self.n_sorted = end;
        }
        self.tokens[rank]
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
    fn tokens_come_in_order_however_many_are_asked_for() {
        let logit = |id: u32| f64::from(id.wrapping_mul(2_654_435_761) >> 20);
        let tokens = || (0..3000).map(|id| (id, logit(id))).collect::<Vec<_>>();
        let mut sorted = tokens();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for top_k in [0, 1, 70, 3000, 5000] {
            let mut ranked = Ranked::of(tokens(), top_k);
            let n = if top_k == 0 { 3000 } else { top_k.min(3000) };
            let found: Vec<_> = (0..ranked.tokens.len()).map(|rank| ranked.at(rank)).collect();
            assert_eq!(found, sorted[..n]);
            let mut ranked = Ranked::of(tokens(), top_k);
            assert_eq!(ranked.at(n - 1), sorted[n - 1]);
        }
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
