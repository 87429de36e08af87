//! One decoder layer: attention and feed-forward, each behind a normalisation and added to the stream.

use super::layers::{Linear, Norm, Pass};
use super::params::ParamMut;
use super::spec::{LayerSpec, Spec};
use crate::ops::{self, Activation, Mask};
use burn::tensor::{Int, Tensor, TensorData};

/// What the layers of one kind see of a batch: rotation and mask.
#[derive(Clone)]
pub struct View {
    /// The kind.
    pub spec: LayerSpec,
    /// Cosines and sines, `[batch, seq, head_dim / 2]`.
    pub rotation: Option<[Tensor<3>; 2]>,
    /// Which keys each token sees.
    pub mask: Mask,
}

/// Keys and values of the tokens seen so far, `[batch, kv_heads, tokens, head_dim]` each, with room for more behind them.
#[derive(Clone, Default)]
pub struct LayerCache {
    room: Option<[Tensor<4>; 2]>,
    n_tokens: usize,
}

impl LayerCache {
    /// Keys and values of all tokens, the new ones last.
    fn extend(&mut self, k: Tensor<4>, v: Tensor<4>) -> [Tensor<4>; 2] {
        let start = self.n_tokens;
        self.n_tokens += k.dims()[2];
        let (past_k, past_v) = self.room.take().map_or((None, None), |[k, v]| (Some(k), Some(v)));
        let room = self.room.insert([written(past_k, k, start), written(past_v, v, start)]);
        room.each_ref().map(|room| room.clone().narrow(2, 0, self.n_tokens))
    }

    /// Keeps some sequences only.
    pub fn keep(&mut self, sequences: &[usize]) {
        let Some(room) = &mut self.room else { return };
        let data: Vec<i32> = sequences.iter().map(|&i| i as i32).collect();
        let indices =
            Tensor::<1, Int>::from_data(TensorData::new(data, [sequences.len()]), &room[0].device());
        *room = room.each_ref().map(|room| room.clone().select(0, indices.clone()));
    }
}

/// Tokens by which a cache's room grows, at least.
const ROOM_STEP: usize = 64;

/// The room with more tokens written from `start` on; it grows where it is full.
fn written(room: Option<Tensor<4>>, new: Tensor<4>, start: usize) -> Tensor<4> {
    let [batch, heads, n_new, d] = new.dims();
    let end = start + n_new;
    let capacity = room.as_ref().map_or(0, |room| room.dims()[2]);
    // Half as much again: to copy all tokens for each new one would take as long as to attend to them.
    let grown = (end + end / 2).next_multiple_of(ROOM_STEP);
    let more = |n: usize| Tensor::zeros([batch, heads, n, d], &new.device());
    let room = match room {
        Some(room) if end <= capacity => room,
        Some(room) => Tensor::cat(vec![room, more(grown - capacity)], 2),
        None => more(grown),
    };
    room.slice_assign([0..batch, 0..heads, start..end, 0..d], new)
}

/// The projections into queries, keys and values.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one a layer
pub enum Qkv {
    /// Three layers.
    Split([Linear; 3]),
    /// One layer whose output holds the three side by side (GPT-2).
    Merged(Linear),
}

/// Grouped-query attention (2305.13245) with causal mask.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Input projections.
    pub qkv: Qkv,
    /// Output projection.
    pub o: Linear,
    /// Normalisation of query and key heads.
    pub qk_norm: Option<[Norm; 2]>,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    scale: f32,
}

impl Attention {
    /// Attention of the shape `spec` states.
    pub fn new(spec: &Spec, qkv: Qkv, o: Linear, qk_norm: Option<[Norm; 2]>) -> Self {
        let (n_heads, n_kv_heads, head_dim) = (spec.n_heads, spec.n_kv_heads, spec.head_dim);
        Self { qkv, o, qk_norm, n_heads, n_kv_heads, head_dim, scale: spec.attention_scale }
    }

    /// # Shapes
    /// `x` and the result: `[batch · seq, hidden]`
    fn forward(&self, x: Tensor<2>, view: &View, pass: Pass, cache: Option<&mut LayerCache>) -> Tensor<2> {
        let [batch, seq, _] = view.mask.dims();
        let (h, kv, d) = (self.n_heads, self.n_kv_heads, self.head_dim);
        let [q, k, v] = match &self.qkv {
            Qkv::Split([q, k, v]) => {
                [q.forward(x.clone(), pass), k.forward(x.clone(), pass), v.forward(x, pass)]
            }
            Qkv::Merged(qkv) => {
                let all = qkv.forward(x, pass); // [tokens, (h + 2·kv)·d]
                [
                    all.clone().narrow(1, 0, h * d),
                    all.clone().narrow(1, h * d, kv * d),
                    all.narrow(1, (h + kv) * d, kv * d),
                ]
            }
        };
        let mut q: Tensor<4> = q.reshape([batch, seq, h, d]);
        let mut k: Tensor<4> = k.reshape([batch, seq, kv, d]);
        let v: Tensor<4> = v.reshape([batch, seq, kv, d]).swap_dims(1, 2); // [batch, kv, seq, d]
        if let Some([q_norm, k_norm]) = &self.qk_norm {
            (q, k) = (q_norm.forward(q, pass), k_norm.forward(k, pass));
        }
        (q, k) = match &view.rotation {
            Some([cos, sin]) => (ops::rotate_half(q, cos, sin), ops::rotate_half(k, cos, sin)),
            None => (q.swap_dims(1, 2), k.swap_dims(1, 2)),
        };
        let [k, v] = match cache {
            Some(cache) => cache.extend(k, v),
            None => [k, v],
        };
        // The query heads that share a key head become rows of one matrix: no copies of keys and values.
        let q = q.reshape([batch, kv, h / kv * seq, d]);
        let y = ops::attention(q, k, v, &view.mask, self.scale);
        self.o.forward(y, pass)
    }

    fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut linears: Vec<&mut Linear> = match &mut self.qkv {
            Qkv::Split(qkv) => qkv.iter_mut().collect(),
            Qkv::Merged(qkv) => vec![qkv],
        };
        linears.push(&mut self.o);
        linears
    }
}

/// Feed-forward layer, gated or plain.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// The gate, where there is one.
    pub gate: Option<Linear>,
    /// Into the wide layer.
    pub up: Linear,
    /// Back to the stream.
    pub down: Linear,
    /// Between them.
    pub activation: Activation,
}

impl Mlp {
    fn forward(&self, x: Tensor<2>, pass: Pass) -> Tensor<2> {
        let Some(gate) = &self.gate else {
            return self.down.forward(self.activation.apply(self.up.forward(x, pass)), pass);
        };
        let inputs = [gate.forward(x.clone(), pass), self.up.forward(x, pass)];
        self.down.forward_gated(inputs, self.activation, pass)
    }
}

/// A decoder layer.
#[derive(Clone, Debug)]
pub struct Block {
    /// Before attention.
    pub norm_attention: Norm,
    /// Attention.
    pub attention: Attention,
    /// Before the feed-forward layer.
    pub norm_mlp: Norm,
    /// Feed-forward layer.
    pub mlp: Mlp,
    /// After each branch (Gemma).
    pub norms_after: Option<[Norm; 2]>,
}

impl Block {
    /// # Shapes
    /// `x` and the result: `[batch · seq, hidden]`
    pub fn forward(
        &self,
        x: Tensor<2>,
        view: &View,
        pass: Pass,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<2> {
        let mut attended =
            self.attention.forward(self.norm_attention.forward(x.clone(), pass), view, pass, cache);
        if let Some([after, _]) = &self.norms_after {
            attended = after.forward(attended, pass);
        }
        let x = x + attended;
        let mut fed = self.mlp.forward(self.norm_mlp.forward(x.clone(), pass), pass);
        if let Some([_, after]) = &self.norms_after {
            fed = after.forward(fed, pass);
        }
        x + fed
    }

    /// The linear layers, in the model's order.
    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut linears = self.attention.linears_mut();
        linears.extend(self.mlp.gate.as_mut());
        linears.push(&mut self.mlp.up);
        linears.push(&mut self.mlp.down);
        linears
    }

    /// Every parameter.
    pub fn params_mut(&mut self) -> Vec<ParamMut<'_>> {
        let Self { norm_attention, attention, norm_mlp, mlp, norms_after } = self;
        let mut params = norm_attention.params_mut();
        params.extend(attention.qk_norm.iter_mut().flatten().flat_map(Norm::params_mut));
        match &mut attention.qkv {
            Qkv::Split(qkv) => params.extend(qkv.iter_mut().flat_map(Linear::params_mut)),
            Qkv::Merged(qkv) => params.extend(qkv.params_mut()),
        }
        params.extend(attention.o.params_mut());
        params.extend(norm_mlp.params_mut());
        params.extend(mlp.gate.iter_mut().flat_map(Linear::params_mut));
        params.extend(mlp.up.params_mut());
        params.extend(mlp.down.params_mut());
        params.extend(norms_after.iter_mut().flatten().flat_map(Norm::params_mut));
        params
    }
}
