//! The layers every decoder is built from, with the slots that methods fill.

use super::params::{Param, ParamMut, Tape};
use super::weight::Weight;
use crate::ops::{self, Activation, WeightMatrix};
use burn::tensor::{Int, Tensor, TensorData};

/// How one forward pass is made.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// Records the trained parameters as leaves; `None` computes without a graph.
    pub tape: Option<&'a Tape>,
    /// Whether adapters take part; off gives the base model.
    pub adapters: Adapters,
    /// Seed of this pass's dropout; `None` drops nothing.
    pub dropout_seed: Option<u64>,
    /// Noise on the embeddings.
    pub noise: Option<EmbeddingNoise>,
}

/// NEFTune's uniform noise on embeddings (2310.05914), as transformers adds it.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingNoise {
    /// Its strength α.
    pub alpha: f64,
    /// Seed of this pass.
    pub seed: u64,
}

impl EmbeddingNoise {
    /// Adds noise of magnitude α / √(seq · hidden).
    ///
    /// # Shapes
    /// `x` and the result: `[batch · seq, hidden]`
    pub fn add_to(self, x: Tensor<2>, seq: usize) -> Tensor<2> {
        let shape = x.dims();
        let magnitude = (self.alpha / ((seq * shape[1]) as f64).sqrt()) as f32;
        let noise = TensorData::new(ops::uniform_noise(shape[0] * shape[1], magnitude, self.seed), shape);
        let noise = Tensor::from_data(noise, &x.device().without_autodiff());
        x + noise
    }
}

/// Whether what a method attached takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapters {
    /// The tuned model.
    On,
    /// The base model.
    Off,
}

impl Pass<'static> {
    /// Evaluation and generation: no graph, no dropout.
    pub const INFERENCE: Self = Self { tape: None, adapters: Adapters::On, dropout_seed: None, noise: None };
    /// The same with everything attached switched off.
    pub const BASE: Self = Self { tape: None, adapters: Adapters::Off, dropout_seed: None, noise: None };
}

/// Which axis of a stored weight is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orientation {
    /// `[d_out, d_in]`, PyTorch's `Linear`.
    OutIn,
    /// `[d_in, d_out]`, transformers' `Conv1D` (GPT-2).
    InOut,
}

/// A linear layer with a slot for a low-rank update and one for a trained copy.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Dotted module name, as methods address it.
    pub name: String,
    /// The base weight.
    pub weight: Weight,
    /// The bias, where the layer has one.
    pub bias: Option<Param<1>>,
    /// Axes of `weight`.
    pub orientation: Orientation,
    /// LoRA's update.
    pub low_rank: Option<LowRank>,
    /// Trained copy that takes the base weight's place (PEFT's `modules_to_save`).
    pub copy: Option<Param<2>>,
}

/// `scale · (dropout(x)·Aᵀ)·Bᵀ`
#[derive(Clone, Debug)]
pub struct LowRank {
    /// Down-projection `[rank, d_in]`.
    pub a: Param<2>,
    /// Up-projection `[d_out, rank]`.
    pub b: Param<2>,
    /// alpha / rank, or alpha / √rank with rsLoRA.
    pub scale: f64,
    /// Share of the input's elements dropped in training.
    pub dropout: f64,
}

impl Linear {
    /// `[d_in, d_out]` of the map.
    pub fn d_in_out(&self) -> [usize; 2] {
        let [rows, columns] = self.weight.dims();
        match self.orientation {
            Orientation::OutIn => [columns, rows],
            Orientation::InOut => [rows, columns],
        }
    }

    /// # Shapes
    /// `x`: `[tokens, d_in]` · result: `[tokens, d_out]`
    pub fn forward(&self, x: Tensor<2>, pass: Pass) -> Tensor<2> {
        if let Some((weight, a, b, scale)) = self.fused(pass) {
            return self.add_bias(ops::low_rank_linear(x, &weight, a, b, scale), pass);
        }
        let y = self.add_bias(self.times(&self.base(pass), x.clone()), pass);
        match self.update(pass) {
            Some(low_rank) => y + low_rank.forward(x, pass),
            None => y,
        }
    }

    /// [`Linear::forward`] of `activation(gate) · up`.
    ///
    /// # Shapes
    /// `gate`, `up`: `[tokens, d_in]` · result: `[tokens, d_out]`
    pub fn forward_gated(&self, inputs: [Tensor<2>; 2], activation: Activation, pass: Pass) -> Tensor<2> {
        if let Some((weight, a, b, scale)) = self.fused(pass) {
            let y = ops::gated_low_rank_linear(inputs, activation, &weight, a, b, scale);
            return self.add_bias(y, pass);
        }
        let [gate, up] = inputs;
        self.forward(ops::gated_activation(gate, up, activation), pass)
    }

    /// Base weight `[d_out, d_in]`, factors and scale, where base and update are one operation: the base is frozen, and
    /// both have the same input.
    fn fused(&self, pass: Pass) -> Option<(WeightMatrix, Tensor<2>, Tensor<2>, f32)> {
        let low_rank = self.update(pass)?;
        let weight = match (self.orientation, self.base(pass)) {
            (Orientation::OutIn, weight) => weight,
            (Orientation::InOut, WeightMatrix::Dense(weight)) => WeightMatrix::Dense(weight.transpose()),
            (Orientation::InOut, WeightMatrix::Packed(_)) => return None,
        };
        (!weight.is_tracked() && low_rank.drop_seed(pass).is_none())
            .then(|| (weight, low_rank.a.on(pass.tape), low_rank.b.on(pass.tape), low_rank.scale as f32))
    }

    /// The update that takes part in this pass.
    fn update(&self, pass: Pass) -> Option<&LowRank> {
        self.low_rank.as_ref().filter(|_| pass.adapters == Adapters::On)
    }

    /// The base weight, or its trained copy, in its stored orientation.
    fn base(&self, pass: Pass) -> WeightMatrix {
        in_force(&self.weight, self.copy.as_ref(), pass)
    }

    /// `x` through a matrix in this layer's orientation.
    fn times(&self, weight: &WeightMatrix, x: Tensor<2>) -> Tensor<2> {
        match self.orientation {
            Orientation::OutIn => weight.times_turned(x),
            Orientation::InOut => weight.times(x),
        }
    }

    fn add_bias(&self, y: Tensor<2>, pass: Pass) -> Tensor<2> {
        match &self.bias {
            Some(bias) => y + bias.on(pass.tape).unsqueeze(),
            None => y,
        }
    }

    /// The base weight with everything attached folded in, in its stored orientation.
    pub fn merged_weight(&self) -> Tensor<2> {
        self.effective_weight(Pass::INFERENCE).dense()
    }

    /// The one matrix this pass multiplies by, in its stored orientation.
    pub fn effective_weight(&self, pass: Pass) -> WeightMatrix {
        let weight = self.base(pass);
        let Some(low_rank) = self.update(pass) else { return weight };
        let update =
            ops::matmul(low_rank.b.on(pass.tape), low_rank.a.on(pass.tape)).mul_scalar(low_rank.scale); // [d_out, d_in]
        let update = match self.orientation {
            Orientation::OutIn => update,
            Orientation::InOut => update.transpose(),
        };
        WeightMatrix::Dense(weight.dense() + update)
    }

    /// Every parameter, in saving order.
    pub fn params_mut(&mut self) -> Vec<ParamMut<'_>> {
        let mut params = vec![self.weight.param_mut()];
        params.extend(self.bias.as_mut().map(ParamMut::Vector));
        params.extend(self.copy.as_mut().map(ParamMut::Matrix));
        if let Some(low_rank) = &mut self.low_rank {
            params.push(ParamMut::Matrix(&mut low_rank.a));
            params.push(ParamMut::Matrix(&mut low_rank.b));
        }
        params
    }
}

/// The base weight, or the trained copy that takes its place.
fn in_force(weight: &Weight, copy: Option<&Param<2>>, pass: Pass) -> WeightMatrix {
    match copy.filter(|_| pass.adapters == Adapters::On) {
        Some(copy) => WeightMatrix::Dense(copy.on(pass.tape)),
        None => weight.on(pass.tape),
    }
}

impl LowRank {
    fn forward(&self, x: Tensor<2>, pass: Pass) -> Tensor<2> {
        let x = match self.drop_seed(pass) {
            Some(seed) => drop_elements(x, self.dropout, seed),
            None => x,
        };
        ops::low_rank(x, self.a.on(pass.tape), self.b.on(pass.tape), self.scale as f32)
    }

    /// Seed of this layer's dropout; `None` drops nothing.
    fn drop_seed(&self, pass: Pass) -> Option<u64> {
        let seed = pass.dropout_seed.filter(|_| self.dropout > 0.0)?;
        Some(seed ^ name_hash(&self.a.name))
    }
}

fn drop_elements(x: Tensor<2>, rate: f64, seed: u64) -> Tensor<2> {
    let shape = x.dims();
    let mask = TensorData::new(ops::dropout_mask(shape[0] * shape[1], rate, seed), shape);
    let mask = Tensor::from_data(mask, &x.device().without_autodiff());
    x * mask
}

/// FNV-1a: layers must draw different masks from one seed, on every platform alike.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Which normalisation a model uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormKind {
    /// Root mean square; Gemma stores its weight minus one.
    Rms {
        /// Added to the mean square.
        epsilon: f32,
        /// Added to the stored weight: 0, or 1 for Gemma.
        offset: f32,
    },
    /// Layer normalisation with bias.
    Layer {
        /// Added to the variance.
        epsilon: f32,
    },
}

/// A normalisation layer.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Its kind.
    pub kind: NormKind,
    /// `[d]`
    pub weight: Param<1>,
    /// `[d]`, layer normalisation only.
    pub bias: Option<Param<1>>,
}

impl Norm {
    /// Normalises the last dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>, pass: Pass) -> Tensor<D> {
        let weight = self.weight.on(pass.tape);
        match (self.kind, &self.bias) {
            (NormKind::Rms { epsilon, offset }, _) => {
                let weight = if offset == 0.0 { weight } else { weight.add_scalar(offset) };
                ops::rms_norm(x, weight, epsilon)
            }
            (NormKind::Layer { epsilon }, bias) => {
                let zero = || weight.clone().zeros_like();
                let bias = bias.as_ref().map_or_else(zero, |b| b.on(pass.tape));
                ops::layer_norm(x, weight, bias, epsilon)
            }
        }
    }

    /// Every parameter, in saving order.
    pub fn params_mut(&mut self) -> Vec<ParamMut<'_>> {
        let mut params = vec![ParamMut::Vector(&mut self.weight)];
        params.extend(self.bias.as_mut().map(ParamMut::Vector));
        params
    }
}

/// A table of vectors by token id or position.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// Dotted module name.
    pub name: String,
    /// `[entries, d]`
    pub weight: Weight,
    /// Trained copy that takes its place (PEFT's `modules_to_save`).
    pub copy: Option<Param<2>>,
}

impl Embedding {
    /// # Shapes
    /// `ids`: `[tokens]` · result: `[tokens, d]`
    pub fn forward(&self, ids: Tensor<1, Int>, pass: Pass) -> Tensor<2> {
        self.table(pass).rows(ids)
    }

    /// The table that takes part in this pass.
    pub fn table(&self, pass: Pass) -> WeightMatrix {
        in_force(&self.weight, self.copy.as_ref(), pass)
    }

    /// Every parameter, in saving order.
    pub fn params_mut(&mut self) -> Vec<ParamMut<'_>> {
        let mut params = vec![self.weight.param_mut()];
        params.extend(self.copy.as_mut().map(ParamMut::Matrix));
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn noise_on_embeddings_fills_its_bounds_evenly_and_follows_its_seed() {
        let added = |alpha, seed, sequence| {
            let x = Tensor::<2>::ones([2 * sequence, 32], &Device::flex());
            let noisy = EmbeddingNoise { alpha, seed }.add_to(x.clone(), sequence) - x;
            noisy.into_data().try_into_vec_as::<f32>().unwrap()
        };
        // α / √(seq · hidden) = 5 / √(16 · 32)
        let bound = 5.0 / (16.0f32 * 32.0).sqrt();
        let noise = added(5.0, 1, 16);
        assert!(noise.iter().all(|v| v.abs() <= bound + 1e-6));
        let variance = noise.iter().map(|v| v * v).sum::<f32>() / noise.len() as f32;
        assert!((variance / (bound * bound / 3.0) - 1.0).abs() < 0.1, "{variance}");
        assert_eq!(noise, added(5.0, 1, 16));
        assert_ne!(noise, added(5.0, 2, 16));
    }
}
