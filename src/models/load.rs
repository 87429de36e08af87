//! Builds a decoder from a model's files, tensor by tensor.

use super::block::{Attention, Block, Mlp, Qkv};
use super::decoder::CausalLm;
use super::held::Held;
use super::layers::{Embedding, Linear, Norm, NormKind, Orientation};
use super::params::Param;
use super::spec::Spec;
use super::weight::{PackedParam, Weight};
use crate::config::WeightFormat;
use crate::ops::{self, Packed};
use crate::protocol::Event;
use crate::store::{Form, HostPacked, HostTensor, Store, model_files::ModelFiles, shortened};
use crate::{Error, Result};
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::HashSet;

impl CausalLm {
    /// Loads the model onto `device`. Peak memory is the model plus one tensor.
    ///
    /// Every missing tensor and every wrong shape is found from the headers, before a value is read.
    pub async fn load<S: Store>(
        files: &ModelFiles<'_, S>,
        weights: WeightFormat,
        device: &Device,
        events: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        let spec = Spec::from_config(files.config())?;
        let mut check = Loader::new(files, weights, device, events, Step::Check);
        check.model(&spec).await?;
        let (errors, total) = (std::mem::take(&mut check.errors), check.done);
        Error::all(errors)?;
        let used = std::mem::take(&mut check.used);
        if let Some(message) = unused_tensors(files, &used, &spec) {
            events(Event::Note { message });
        }
        let mut read = Loader::new(files, weights, device, events, Step::Read { total });
        read.model(&spec).await
    }
}

/// What a file holds beside the weights without meaning anything: buffers that older versions of transformers
/// saved (the causal mask, the rotary frequencies).
const BUFFERS: [&str; 3] = [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"];

/// Whether a tensor of a file is a weight of its own, rather than a buffer or the embedding once more.
pub(super) fn is_weight(name: &str, is_tied: bool) -> bool {
    let is_embedding_again = is_tied && name == "lm_head.weight";
    !is_embedding_again && !BUFFERS.iter().any(|buffer| name.ends_with(buffer))
}

/// A sentence on the tensors that have no place in the architecture. Their number may mean that the files are
/// not what `config.json` says.
fn unused_tensors<S: Store>(
    files: &ModelFiles<'_, S>,
    used: &HashSet<String>,
    spec: &Spec,
) -> Option<String> {
    const MOST_LISTED: usize = 5;
    let unused = |name: &&str| !used.contains(*name) && is_weight(name, spec.tied);
    let names = files.tensor_names().into_iter().filter(unused);
    let names: Vec<String> = names.map(shortened).collect();
    let listed = names.get(..MOST_LISTED).unwrap_or(&names).join(", ");
    match names.len() {
        0 => None,
        1 => Some(format!("1 tensor of the model's files is not used: {listed}")),
        n if n > MOST_LISTED => Some(format!("{n} tensors of the model's files are not used: {listed} …")),
        n => Some(format!("{n} tensors of the model's files are not used: {listed}")),
    }
}

/// More of the same help nobody.
const MOST_ERRORS: usize = 20;

/// The model is walked twice by the same code: once to compare headers with the architecture, once to read.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Check,
    Read { total: u64 },
}

struct Loader<'a, 's, S: Store> {
    files: &'a ModelFiles<'s, S>,
    weights: WeightFormat,
    device: &'a Device,
    events: &'a mut dyn FnMut(Event),
    step: Step,
    errors: Vec<Error>,
    /// Names of the tensors asked for.
    used: HashSet<String>,
    done: u64,
}

impl<'a, 's, S: Store> Loader<'a, 's, S> {
    fn new(
        files: &'a ModelFiles<'s, S>,
        weights: WeightFormat,
        device: &'a Device,
        events: &'a mut dyn FnMut(Event),
        step: Step,
    ) -> Self {
        let weights = weights.on(ops::is_cpu(device));
        Self { files, weights, device, events, step, errors: Vec::new(), used: HashSet::new(), done: 0 }
    }

    async fn model(&mut self, spec: &Spec) -> Result<CausalLm> {
        let names = spec.names;
        let embed = self.embedding(&format!("{}{}", names.base, names.embed), spec.vocab_size, spec).await?;
        let positions = if spec.learned_positions {
            Some(
                self.embedding(&format!("{}{}", names.base, names.positions), spec.max_positions, spec)
                    .await?,
            )
        } else {
            None
        };
        let mut blocks = Vec::with_capacity(spec.layers.len());
        for i in 0..spec.layers.len() {
            if self.errors.len() >= MOST_ERRORS {
                break;
            }
            blocks.push(self.block(&format!("{}{}.{i}.", names.base, names.layers), spec).await?);
        }
        let norm =
            self.norm(&format!("{}{}", names.base, names.norm_final), spec.hidden_size, spec.norm).await?;
        let head = if spec.tied {
            None
        } else {
            Some(
                self.linear("lm_head", [spec.hidden_size, spec.vocab_size], false, Orientation::OutIn, spec)
                    .await?,
            )
        };
        let config = self.files.config().clone();
        Ok(CausalLm {
            spec: spec.clone(),
            config,
            embed,
            positions,
            blocks,
            norm,
            head,
            attached: None,
            device: self.device.clone(),
        })
    }

    async fn block(&mut self, prefix: &str, spec: &Spec) -> Result<Block> {
        let names = spec.names;
        let (hidden, q_width, kv_width) =
            (spec.hidden_size, spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim);
        let orientation = if names.conv1d { Orientation::InOut } else { Orientation::OutIn };
        let at = |name: &str| format!("{prefix}{name}");
        let qkv = match names.qkv {
            Some(name) => Qkv::Merged(
                self.linear(&at(name), [hidden, q_width + 2 * kv_width], spec.qkv_bias, orientation, spec)
                    .await?,
            ),
            None => Qkv::Split([
                self.linear(&at(names.q), [hidden, q_width], spec.qkv_bias, orientation, spec).await?,
                self.linear(&at(names.k), [hidden, kv_width], spec.qkv_bias, orientation, spec).await?,
                self.linear(&at(names.v), [hidden, kv_width], spec.qkv_bias, orientation, spec).await?,
            ]),
        };
        let qk_norm = if spec.qk_norm {
            let q = self.norm(&at("self_attn.q_norm"), spec.head_dim, spec.norm).await?;
            Some([q, self.norm(&at("self_attn.k_norm"), spec.head_dim, spec.norm).await?])
        } else {
            None
        };
        let o = self.linear(&at(names.o), [q_width, hidden], spec.o_bias, orientation, spec).await?;
        let gate = if spec.gated {
            Some(
                self.linear(
                    &at(names.gate),
                    [hidden, spec.intermediate_size],
                    spec.mlp_bias,
                    orientation,
                    spec,
                )
                .await?,
            )
        } else {
            None
        };
        let up = self
            .linear(&at(names.up), [hidden, spec.intermediate_size], spec.mlp_bias, orientation, spec)
            .await?;
        let down = self
            .linear(&at(names.down), [spec.intermediate_size, hidden], spec.mlp_bias, orientation, spec)
            .await?;
        let norms_after = if spec.norm_after {
            let attention = self.norm(&at("post_attention_layernorm"), hidden, spec.norm).await?;
            Some([attention, self.norm(&at("post_feedforward_layernorm"), hidden, spec.norm).await?])
        } else {
            None
        };
        Ok(Block {
            norm_attention: self.norm(&at(names.norm_attention), hidden, spec.norm).await?,
            attention: Attention::new(spec, qkv, o, qk_norm),
            norm_mlp: self.norm(&at(names.norm_mlp), hidden, spec.norm).await?,
            mlp: Mlp { gate, up, down, activation: spec.activation },
            norms_after,
        })
    }

    async fn embedding(&mut self, name: &str, entries: usize, spec: &Spec) -> Result<Embedding> {
        let weight = self.matrix(&format!("{name}.weight"), [entries, spec.hidden_size], spec).await?;
        Ok(Embedding { name: name.to_string(), weight, copy: None })
    }

    async fn linear(
        &mut self,
        name: &str,
        [d_in, d_out]: [usize; 2],
        biased: bool,
        orientation: Orientation,
        spec: &Spec,
    ) -> Result<Linear> {
        let shape = match orientation {
            Orientation::OutIn => [d_out, d_in],
            Orientation::InOut => [d_in, d_out],
        };
        let weight = self.matrix(&format!("{name}.weight"), shape, spec).await?;
        let bias = if biased { Some(self.vector(&format!("{name}.bias"), d_out).await?) } else { None };
        Ok(Linear { name: name.to_string(), weight, bias, orientation, low_rank: None, copy: None })
    }

    async fn norm(&mut self, name: &str, d: usize, kind: NormKind) -> Result<Norm> {
        let weight = self.vector(&format!("{name}.weight"), d).await?;
        let bias = match kind {
            NormKind::Layer { .. } => Some(self.vector(&format!("{name}.bias"), d).await?),
            NormKind::Rms { .. } => None,
        };
        Ok(Norm { kind, weight, bias })
    }

    async fn matrix(&mut self, name: &str, shape: [usize; 2], spec: &Spec) -> Result<Weight> {
        let plain = |value| Weight::Plain(Param::new(name, value));
        let packed = |host, device: &Device| {
            Weight::Packed(PackedParam { name: name.to_string(), value: Packed::from_host(host, device) })
        };
        let Some(total) = self.announced(name, &shape) else {
            return Ok(plain(Tensor::empty([1, 1], self.device)));
        };
        let held = match self.files.info(name) {
            Some(info) => Held::of(self.weights, name, info, self.files.form(name), spec),
            None => Held::Plain,
        };
        let stored = if held == Held::Stored { self.files.packed(name).await? } else { None };
        let weight = match (stored, held) {
            (Some(stored), _) => packed(stored, self.device),
            (None, held) => {
                let HostTensor { values, .. } = self.files.tensor(name).await?;
                let rounded = match held {
                    Held::Rounded(Form::Four) => HostPacked::four(&values, shape),
                    Held::Rounded(_) => HostPacked::eight(&values, shape),
                    Held::Plain | Held::Stored => None,
                };
                match rounded {
                    Some(rounded) => packed(rounded, self.device),
                    None => plain(Tensor::from_data(TensorData::new(values, shape), self.device)),
                }
            }
        };
        self.report(total);
        Ok(weight)
    }

    async fn vector(&mut self, name: &str, d: usize) -> Result<Param<1>> {
        let Some(total) = self.announced(name, &[d]) else {
            return Ok(Param::new(name, Tensor::empty([1], self.device)));
        };
        let host = self.files.tensor(name).await?;
        self.report(total);
        Ok(Param::new(name, Tensor::from_data(TensorData::new(host.values, [d]), self.device)))
    }

    fn fault(&mut self, error: Error) {
        // A configuration that lies about its layers would fill the screen.
        if self.errors.len() < MOST_ERRORS {
            self.errors.push(error);
        }
    }

    /// Checks what the header says of a tensor; the number of bytes in all where it is to be read now.
    fn announced(&mut self, name: &str, shape: &[usize]) -> Option<u64> {
        let Some(info) = self.files.info(name) else {
            self.fault(Error::input(name, "no such tensor in the model's files", format!("shape {shape:?}")));
            return None;
        };
        if info.shape != shape {
            self.fault(Error::input(
                name,
                format!("shape {:?}", info.shape),
                format!("shape {shape:?} as config.json states"),
            ));
            return None;
        }
        if info.stored.is_integer() {
            let found = format!("stored as {}", info.stored.name());
            self.fault(Error::input(name, found, "weights in F32, F16 or BF16, or a GGUF file"));
            return None;
        }
        self.used.insert(name.to_owned());
        self.done += info.n_bytes;
        match self.step {
            Step::Check => None,
            Step::Read { total } => Some(total),
        }
    }

    fn report(&mut self, total: u64) {
        (self.events)(Event::Progress { task: "loading model".into(), done: self.done, total });
    }
}
