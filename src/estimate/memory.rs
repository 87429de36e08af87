//! Memory of a training step, moment by moment; the largest is the peak.
//!
//! What is counted follows the code that allocates it: `models::block` for what autodiff keeps of a layer,
//! `objectives::sft` for the head and for checkpointing, `train::trainer` for gradients, update and the values
//! kept to go back to.

use super::sizes::{Input, Linear, Sizes};
use super::{BatchShape, Kernels};
use crate::config::{Precision, TrainConfig};
use crate::models::{NormKind, Spec};
use crate::objectives::sft::CHUNK;
use crate::ops;
use crate::protocol::Memory;

/// Bytes of an element: everything is computed in f32.
const F32: u64 = 4;

/// Elements that a range of keys takes: two numbers of 64 bits.
const RANGE: u64 = 4;

/// Code, threads and buffers of the process, tokenizer aside: a whole run of a tiny model (measured).
const PROGRAM: u64 = 17_000_000;
/// The tokenizer's tables by entry of the vocabulary: runs of a model with 49,152 of them (measured).
const PROGRAM_PER_TOKEN: u64 = 600;

/// The step's largest batch, its model and its settings.
pub(super) struct Moment<'a> {
    pub spec: &'a Spec,
    pub sizes: &'a Sizes,
    /// Bytes of the model's own weights.
    pub weights: u64,
    pub train: &'a TrainConfig,
    pub batch: BatchShape,
    /// Whether there is a step before this one, whose optimizer state and values are still there.
    pub is_later: bool,
    /// Whether a step has several batches.
    pub accumulates: bool,
    pub kernels: Kernels,
    pub precision: Precision,
}

impl Moment<'_> {
    /// The peak.
    pub fn peak(&self) -> Memory {
        let candidates = [self.at_the_head(), self.in_the_layers(), self.at_the_end(), self.at_the_update()];
        candidates.into_iter().max_by_key(Memory::total).unwrap_or_default()
    }

    /// The largest tensor, in bytes.
    pub fn largest_tensor(&self) -> u64 {
        let logits = self.chunk() * self.spec.vocab_size as u64;
        let scores = self.tokens() * self.scores_per_token();
        let inner = self.tokens() * self.spec.intermediate_size as u64;
        F32 * self.sizes.largest.max(logits).max(scores).max(inner)
    }

    fn standing(&self) -> Memory {
        let Sizes { n_added, n_trained, n_optimizer, .. } = *self.sizes;
        let later = u64::from(self.is_later);
        Memory {
            weights: self.weights,
            adapter: F32 * n_added,
            kept: F32 * n_trained * later,
            optimizer: F32 * n_optimizer * later,
            program: PROGRAM + PROGRAM_PER_TOKEN * self.spec.vocab_size as u64,
            ..Memory::default()
        }
    }

    /// The forward pass is done; loss and gradient of the logits are taken a chunk at a time.
    fn at_the_head(&self) -> Memory {
        let (hidden, targets) = (self.spec.hidden_size as u64, self.batch.targets as u64);
        let copies = match self.kernels {
            Kernels::Cpu => 1,
            Kernels::Gpu | Kernels::Program => 2,
        };
        let chunk = copies * self.chunk() * self.spec.vocab_size as u64;
        // States, normalised states and their gradients.
        let states = 3 * targets * hidden;
        // The head's gradient as a sum, its next part, and the product that hands it to the graph.
        let head = if self.sizes.is_head_trained { 2 * self.sizes.head } else { 0 };
        let standing = self.standing();
        Memory {
            gradients: F32 * (self.earlier_gradients() + if head > 0 { self.sizes.head } else { 0 }),
            activations: F32 * (self.kept_of_all_layers() + self.shared() + states),
            logits: F32 * (chunk + head),
            ..standing
        }
    }

    /// The backward pass is in the last layer.
    fn in_the_layers(&self) -> Memory {
        let kept = if self.train.gradient_checkpointing {
            // The last input is gone, and the layer's own is one of what its graph keeps.
            let counted_twice = 2 * self.tokens() * self.spec.hidden_size as u64;
            (self.kept_of_all_layers() + self.largest_layer()).saturating_sub(counted_twice)
        } else {
            self.kept_of_all_layers()
        };
        Memory {
            gradients: F32
                * (self.earlier_gradients() + if self.sizes.is_head_trained { self.sizes.head } else { 0 }),
            activations: F32 * (kept + self.shared() + self.working()),
            ..self.standing()
        }
    }

    /// The backward pass is in the first layer: all gradients are there.
    fn at_the_end(&self) -> Memory {
        let table = if self.sizes.is_embedding_trained { 2 * self.sizes.head } else { 0 };
        Memory {
            gradients: F32 * (self.earlier_gradients() + self.sizes.n_trained + table),
            activations: F32 * (self.layer(0) + self.shared() + self.working()),
            ..self.standing()
        }
    }

    /// New values and optimizer state take the gradients' place, one tensor after the other.
    fn at_the_update(&self) -> Memory {
        Memory {
            kept: F32 * self.sizes.n_trained,
            gradients: F32 * 4 * self.sizes.largest_trained,
            optimizer: F32 * self.sizes.n_optimizer,
            ..self.standing()
        }
    }

    fn tokens(&self) -> u64 {
        self.batch.sequences as u64 * self.batch.seq_len as u64
    }

    fn chunk(&self) -> u64 {
        self.batch.targets.min(CHUNK) as u64
    }

    /// Sums of the batches before the last one of a step.
    fn earlier_gradients(&self) -> u64 {
        if self.accumulates { self.sizes.n_trained } else { 0 }
    }

    /// Whether attention takes steps, and keeps its probabilities for the backward pass.
    fn keeps_probabilities(&self) -> bool {
        match self.kernels {
            Kernels::Cpu => false,
            Kernels::Gpu => {
                self.precision != Precision::F32
                    || !ops::has_tiled_attention(self.spec.head_dim, self.batch.seq_len)
            }
            Kernels::Program => true,
        }
    }

    /// Attention's weights of one token in all heads, where they are kept at all.
    fn scores_per_token(&self) -> u64 {
        if self.keeps_probabilities() { self.spec.n_heads as u64 * self.batch.seq_len as u64 } else { 0 }
    }

    /// Masks and rotations, which all layers of a kind share.
    fn shared(&self) -> u64 {
        let mut kinds: Vec<_> = Vec::new();
        for layer in &self.spec.layers {
            if !kinds.contains(&layer) {
                kinds.push(layer);
            }
        }
        // A token's keys are a range, or a row of what is added to scores.
        let mask = if self.keeps_probabilities() { self.batch.seq_len as u64 } else { RANGE };
        kinds.len() as u64 * self.tokens() * (mask + self.spec.head_dim as u64)
    }

    /// What the graph keeps of all layers; of checkpointed layers their inputs.
    fn kept_of_all_layers(&self) -> u64 {
        let n_layers = self.sizes.layers.len();
        if self.train.gradient_checkpointing {
            return (n_layers as u64 + 1) * self.tokens() * self.spec.hidden_size as u64;
        }
        (0..n_layers).map(|layer| self.layer(layer)).sum()
    }

    fn is_layer_norm(&self) -> bool {
        matches!(self.spec.norm, NormKind::Layer { .. })
    }

    fn largest_layer(&self) -> u64 {
        (0..self.sizes.layers.len()).map(|layer| self.layer(layer)).max().unwrap_or(0)
    }

    /// What the graph keeps of one layer.
    fn layer(&self, index: usize) -> u64 {
        let Some(linears) = self.sizes.layers.get(index) else { return 0 };
        let spec = self.spec;
        let (hidden, inner) = (spec.hidden_size as u64, spec.intermediate_size as u64);
        let (q, kv) = ((spec.n_heads * spec.head_dim) as u64, (spec.n_kv_heads * spec.head_dim) as u64);
        // Whose input is kept; updates on masked inputs keep those instead.
        let keeps = |linear: &&Linear| linear.is_trained || (linear.is_target && !self.sizes.drops_inputs);
        // Inputs of both normalisations, and those of normalised branches and heads.
        let mut per_token = 2 * hidden;
        per_token += if spec.norm_after { 2 * hidden } else { 0 };
        per_token += if spec.qk_norm { q + kv } else { 0 };
        // Rotated queries and keys, values; a merged projection is kept whole beside its reordered queries.
        per_token += if spec.names.qkv.is_some() { 2 * q + 2 * kv } else { q + 2 * kv };
        per_token += if self.keeps_probabilities() {
            self.scores_per_token()
        } else {
            // Attention's result, which is a trained output projection's input as well, and a sum a head.
            let is_kept = linears.iter().any(|l| l.input == Input::Heads && keeps(&l));
            spec.n_heads as u64 + if is_kept { 0 } else { q }
        };
        // Gate and up, or what an activation without a gate is composed of.
        per_token += inner * if spec.gated { 2 } else { 4 };
        if self.sizes.n_added == 0 && self.is_layer_norm() {
            // Layer normalisations are composed of several operations and keep what their trained weights multiply.
            per_token += 2 * hidden;
        }
        // The input of every map that is trained or has an update, once; gated values are made again.
        let is_remade = |l: &&Linear| spec.gated && l.input == Input::Inner && !l.is_trained;
        let mut inputs: Vec<(Input, u64)> =
            linears.iter().filter(keeps).filter(|l| !is_remade(l)).map(|l| (l.input, l.d_in)).collect();
        inputs.dedup();
        per_token += inputs.iter().map(|(_, d_in)| d_in).sum::<u64>();
        let targets = || linears.iter().filter(|linear| linear.is_target);
        per_token += self.sizes.rank * targets().count() as u64;
        if self.sizes.drops_inputs {
            // Each update draws a mask of its own and keeps what it left.
            per_token += targets().map(|linear| 2 * linear.d_in).sum::<u64>();
        }
        // Scaled second factors.
        let factors = targets().map(|linear| self.sizes.rank * linear.d_out).sum::<u64>();
        self.tokens() * per_token + factors
    }

    /// Gradients on their way through a layer.
    fn working(&self) -> u64 {
        let spec = self.spec;
        let widest = (2 * spec.intermediate_size as u64).max(self.scores_per_token());
        self.tokens() * (2 * spec.hidden_size as u64 + widest)
    }
}
