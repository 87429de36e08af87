//! The decoder-only language model that every supported architecture is an instance of.

use super::attach::Attached;
use super::block::{Block, LayerCache, View};
use super::layers::{Embedding, Linear, Norm, Pass};
use super::params::{NamedTensors, ParamMut};
use super::spec::Spec;
use crate::data::Batch;
use crate::ops::{Mask, WeightMatrix};
use crate::{Error, Result};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::Value;

/// A pretrained causal language model with what a method attached to it.
#[derive(Clone, Debug)]
pub struct CausalLm {
    /// The architecture in numbers.
    pub spec: Spec,
    /// `config.json` as loaded, for export.
    pub config: Value,
    /// Token embeddings.
    pub embed: Embedding,
    /// Learned positions, where the model has them.
    pub positions: Option<Embedding>,
    /// The layers.
    pub blocks: Vec<Block>,
    /// Before the head.
    pub norm: Norm,
    /// Output head; `None` where the embedding table serves as one.
    pub head: Option<Linear>,
    /// What a method attached; `None` for a base model and in full tuning.
    pub attached: Option<Attached>,
    pub(super) device: Device,
}

/// A batch as the layers need it, on the device.
pub struct Context {
    ids: Tensor<1, Int>,
    positions: Tensor<1, Int>,
    views: Vec<View>,
    /// Index into `views`, one a layer.
    view_of_layer: Vec<usize>,
    seq: usize,
}

/// Keys and values of some sequences, one entry a layer. Sequences end in the same column, and begin where they do.
#[derive(Clone)]
pub struct Cache {
    layers: Vec<LayerCache>,
    n_columns: usize,
    /// Tokens of each sequence.
    lengths: Vec<usize>,
}

impl Cache {
    /// Tokens held of each sequence.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Keeps some sequences only, in this order.
    pub fn keep(&mut self, sequences: &[usize]) {
        self.lengths = sequences.iter().map(|&i| self.lengths[i]).collect();
        self.layers.iter_mut().for_each(|layer| layer.keep(sequences));
    }
}

impl Context {
    /// The view of layer `i`.
    pub fn view(&self, layer: usize) -> &View {
        &self.views[self.view_of_layer[layer]]
    }
}

impl CausalLm {
    /// The device of the weights, outside autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Moves a batch to the device, with masks and rotations.
    pub fn context(&self, batch: &Batch) -> Result<Context> {
        self.check_ids(&batch.input_ids)?;
        self.check_length(batch.position_ids.iter().copied().max().unwrap_or(0) as usize + 1)?;
        let mask = |window| {
            Mask::causal(&batch.position_ids, &batch.segment_ids, batch.batch_size, window, &self.device)
        };
        Ok(self.context_with(&batch.input_ids, &batch.position_ids, batch.batch_size, mask))
    }

    /// The next tokens of sequences whose earlier tokens are in a cache. Shorter ones are filled up in front with a token
    /// of theirs.
    fn continuation(&self, rows: &[&[i32]], cache: &Cache) -> Result<Context> {
        let n_new = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let past = cache.n_columns;
        if rows.len() != cache.lengths.len() {
            let problem = format!("{} rows for a cache of {} sequences", rows.len(), cache.lengths.len());
            return Err(Error::Internal(problem));
        }
        let (mut ids, mut positions, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for (row, &length) in rows.iter().zip(&cache.lengths) {
            self.check_ids(row)?;
            self.check_length(length + row.len())?;
            let n_fill = n_new - row.len();
            if row.is_empty() || (n_fill > 0 && past > 0) {
                return Err(Error::Internal(format!("{} new tokens beside {n_new}", row.len())));
            }
            ids.extend(std::iter::repeat_n(row[0], n_fill).chain(row.iter().copied()));
            positions.extend(std::iter::repeat_n(0, n_fill));
            positions.extend((length..length + row.len()).map(|position| position as i32));
            starts.push(past + n_fill - length);
        }
        Ok(self.context_with(&ids, &positions, rows.len(), |window| {
            Mask::continuation(past, n_new, &starts, window, &self.device)
        }))
    }

    /// Whether the embedding table has a row for a token.
    pub fn has_token(&self, id: u32) -> bool {
        usize::try_from(id).is_ok_and(|id| id < self.spec.vocab_size)
    }

    /// A lookup past the table's end would take the process down, or on a GPU read what is not there.
    fn check_ids(&self, ids: &[i32]) -> Result<()> {
        match ids.iter().find(|&&id| !u32::try_from(id).is_ok_and(|id| self.has_token(id))) {
            Some(bad) => {
                let expected = format!("ids below the model's vocabulary of {}", self.spec.vocab_size);
                Err(Error::input("token ids", bad.to_string(), expected))
            }
            None => Ok(()),
        }
    }

    fn check_length(&self, n_tokens: usize) -> Result<()> {
        if self.spec.learned_positions && n_tokens > self.spec.max_positions {
            let expected =
                format!("at most {}, the positions this model has learned", self.spec.max_positions);
            return Err(Error::input("sequence length", format!("{n_tokens} tokens"), expected));
        }
        Ok(())
    }

    fn context_with(
        &self,
        ids: &[i32],
        positions: &[i32],
        batch: usize,
        mask: impl Fn(Option<usize>) -> Mask,
    ) -> Context {
        let mut views: Vec<View> = Vec::new();
        let view_of_layer = self.spec.layers.iter().map(|layer| {
            views.iter().position(|v| v.spec == *layer).unwrap_or_else(|| {
                let rotation =
                    layer.rope.as_ref().map(|r| r.tables(positions, batch, self.spec.head_dim, &self.device));
                views.push(View { spec: layer.clone(), rotation, mask: mask(layer.sliding_window) });
                views.len() - 1
            })
        });
        let view_of_layer = view_of_layer.collect();
        let ints = |v: &[i32]| Tensor::from_data(TensorData::new(v.to_vec(), [v.len()]), &self.device);
        Context {
            ids: ints(ids),
            positions: ints(positions),
            views,
            view_of_layer,
            seq: ids.len() / batch.max(1),
        }
    }

    /// The residual stream before the first layer, `[batch · seq, hidden]`.
    pub fn embed(&self, context: &Context, pass: Pass) -> Tensor<2> {
        let mut x = self.embed.forward(context.ids.clone(), pass);
        if self.spec.embed_scale != 1.0 {
            x = x.mul_scalar(self.spec.embed_scale);
        }
        if let Some(positions) = &self.positions {
            x = x + positions.forward(context.positions.clone(), pass);
        }
        match pass.noise {
            Some(noise) => noise.add_to(x, context.seq),
            None => x,
        }
    }

    /// The residual stream after the last layer, before the final normalisation, `[batch · seq, hidden]`.
    pub fn stream(&self, context: &Context, pass: Pass) -> Tensor<2> {
        let embedded = self.embed(context, pass);
        self.blocks
            .iter()
            .enumerate()
            .fold(embedded, |x, (i, block)| block.forward(x, context.view(i), pass, None))
    }

    /// The matrix that maps normalised states to logits, `[vocab, hidden]`.
    pub fn head_weight(&self, pass: Pass) -> WeightMatrix {
        match &self.head {
            Some(head) => head.effective_weight(pass),
            None => self.embed.table(pass),
        }
    }

    /// The final normalisation of some rows of the stream.
    pub fn norm_rows(&self, rows: Tensor<2>, pass: Pass) -> Tensor<2> {
        self.norm.forward(rows, pass)
    }

    /// Logits of every token, `[batch · seq, vocab]`.
    pub fn logits(&self, batch: &Batch, pass: Pass) -> Result<Tensor<2>> {
        let x = self.stream(&self.context(batch)?, pass);
        Ok(self.head_weight(pass).times_turned(self.norm.forward(x, pass)))
    }

    /// An empty cache for so many sequences.
    pub fn cache(&self, n_sequences: usize) -> Cache {
        Cache {
            layers: vec![LayerCache::default(); self.blocks.len()],
            n_columns: 0,
            lengths: vec![0; n_sequences],
        }
    }

    /// Feeds the next tokens of each sequence of a cache and returns the logits after the last, `[sequences, vocab]`. All
    /// get as many tokens but the first time.
    ///
    /// # Errors
    /// A token that the model does not know; more tokens than it has learned positions.
    pub fn extend(&self, rows: &[&[i32]], cache: &mut Cache, pass: Pass) -> Result<Tensor<2>> {
        let context = self.continuation(rows, cache)?;
        let (n, n_new) = (rows.len(), context.seq);
        let mut x = self.embed(&context, pass);
        for (i, (block, layer)) in self.blocks.iter().zip(&mut cache.layers).enumerate() {
            x = block.forward(x, context.view(i), pass, Some(layer));
        }
        cache.n_columns += n_new;
        cache.lengths.iter_mut().zip(rows).for_each(|(length, row)| *length += row.len());
        let hidden = x.dims()[1];
        let last = x.reshape([n, n_new * hidden]).narrow(1, (n_new - 1) * hidden, hidden);
        Ok(self.head_weight(pass).times_turned(self.norm.forward(last, pass)))
    }

    /// Every linear layer, the output head last.
    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut linears: Vec<&mut Linear> = self.blocks.iter_mut().flat_map(Block::linears_mut).collect();
        linears.extend(self.head.as_mut());
        linears
    }

    /// Every parameter, adapters included, in the model's order.
    pub fn params_mut(&mut self) -> Vec<ParamMut<'_>> {
        let mut params = self.embed.params_mut();
        params.extend(self.positions.iter_mut().flat_map(Embedding::params_mut));
        params.extend(self.blocks.iter_mut().flat_map(Block::params_mut));
        params.extend(self.norm.params_mut());
        params.extend(self.head.iter_mut().flat_map(Linear::params_mut));
        params
    }

    /// Values of the trained parameters, plain, in a stable order.
    pub fn trainable(&self) -> NamedTensors {
        // Cloning the model clones handles, not values.
        let mut handles = self.clone();
        let params = handles.params_mut().into_iter().filter(ParamMut::trainable);
        params.map(|p| (p.name().to_string(), p.value())).collect()
    }

    /// Replaces the values of the trained parameters: exactly those, or nothing and an error that lists what differs.
    pub fn set_trainable(&mut self, mut values: NamedTensors) -> Result<()> {
        let mut errors = Vec::new();
        let mut next = self.clone();
        for mut param in next.params_mut().into_iter().filter(ParamMut::trainable) {
            let name = param.name().to_string();
            let expected = format!("shape {:?}", param.shape());
            match values.shift_remove(&name) {
                None => errors.push(Error::input(name, "missing", expected)),
                Some(value) => {
                    let found = format!("shape {:?}", value.shape());
                    if !param.set(value) {
                        errors.push(Error::input(name, found, expected));
                    }
                }
            }
        }
        errors.extend(
            values
                .into_keys()
                .map(|name| Error::input(name, "not trained by this run", "the run's own parameters")),
        );
        Error::all(errors)?;
        *self = next;
        Ok(())
    }

    /// Parameters in all, adapters included.
    pub fn total_params(&self) -> usize {
        self.clone().params_mut().iter().map(|p| p.shape().iter().product::<usize>()).sum()
    }

    /// Parameters that training changes.
    pub fn trainable_params(&self) -> usize {
        self.trainable().values().map(super::AnyTensor::numel).sum()
    }
}
