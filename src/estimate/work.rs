//! Floating-point operations of a step: a product of `[m, k]` and `[k, n]` takes 2·m·k·n.

use super::BatchShape;
use super::sizes::Sizes;
use crate::config::TrainConfig;
use crate::models::Spec;

/// Operations of one batch's forward pass through the layers, frozen products and the trained ones apart.
struct Forward {
    /// By weights that need no gradient.
    frozen: f64,
    /// By weights that need one.
    trained: f64,
    /// Attention's two products, of which both factors need gradients.
    attention: f64,
}

impl Forward {
    fn total(&self) -> f64 {
        self.frozen + self.trained + self.attention
    }
}

fn forward(spec: &Spec, sizes: &Sizes, batch: &BatchShape) -> Forward {
    let tokens = (batch.sequences * batch.seq_len) as f64;
    let (mut frozen, mut trained) = (0.0, 0.0);
    for linear in sizes.layers.iter().flatten() {
        let product = 2.0 * tokens * (linear.d_in * linear.d_out) as f64;
        if linear.is_trained {
            trained += product;
        } else {
            frozen += product;
        }
        if linear.is_target {
            trained += 2.0 * tokens * (sizes.rank * (linear.d_in + linear.d_out)) as f64;
        }
    }
    let scores = 2.0 * tokens * (batch.seq_len * spec.n_heads * spec.head_dim) as f64;
    Forward { frozen, trained, attention: 2.0 * scores * sizes.layers.len() as f64 }
}

fn head(sizes: &Sizes, batch: &BatchShape) -> f64 {
    2.0 * batch.targets as f64 * sizes.head as f64
}

/// Operations to learn from a batch: forward, back through the inputs, and the trained weights' gradients.
pub(super) fn training(spec: &Spec, sizes: &Sizes, train: &TrainConfig, batch: &BatchShape) -> f64 {
    let forward = forward(spec, sizes, batch);
    let head = head(sizes, batch);
    let again = if train.gradient_checkpointing { forward.total() } else { 0.0 };
    let backward = forward.frozen + 2.0 * (forward.trained + forward.attention);
    forward.total() + again + backward + head * if sizes.is_head_trained { 3.0 } else { 2.0 }
}

/// Operations to evaluate a batch.
pub(super) fn evaluation(spec: &Spec, sizes: &Sizes, batch: &BatchShape) -> f64 {
    forward(spec, sizes, batch).total() + head(sizes, batch)
}
