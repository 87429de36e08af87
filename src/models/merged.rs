//! The model's weights with everything attached folded in, under transformers' names.

use super::decoder::CausalLm;
use super::layers::{Embedding, Linear, Pass};
use super::params::{AnyTensor, ParamMut};
use crate::ops::Packed;
use indexmap::IndexMap;

/// A weight of the merged model. It is computed when asked for, so that only one exists at a time.
#[derive(Clone, Debug)]
pub struct MergedWeight {
    shape: Vec<usize>,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Plain(Box<AnyTensor>),
    Packed(Box<Packed>),
    Linear(Box<Linear>),
    Table(Box<Embedding>),
}

impl MergedWeight {
    /// Dimensions, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Computes the value, on the model's device.
    pub fn value(&self) -> AnyTensor {
        match &self.source {
            Source::Plain(value) => value.as_ref().clone(),
            Source::Packed(value) => AnyTensor::Matrix(value.to_dense()),
            Source::Linear(linear) => AnyTensor::Matrix(linear.merged_weight()),
            Source::Table(embedding) => AnyTensor::Matrix(embedding.table(Pass::INFERENCE).dense()),
        }
    }
}

impl CausalLm {
    /// The weights of a plain model that computes what this one does with its adapters, by transformers' names
    /// and in the model's order.
    pub fn merged_weights(&self) -> IndexMap<String, MergedWeight> {
        // Cloning the model clones handles, not values.
        let mut handles = self.clone();
        let adapter = self.adapter_tensors();
        let mut weights: IndexMap<String, MergedWeight> = IndexMap::new();
        for param in handles.params_mut().into_iter().filter(|p| !adapter.contains_key(p.name())) {
            let source = match &param {
                ParamMut::Packed(packed) => Source::Packed(Box::new(packed.value.clone())),
                ParamMut::Vector(_) | ParamMut::Matrix(_) => Source::Plain(Box::new(param.value())),
            };
            weights.insert(param.name().to_string(), MergedWeight { shape: param.shape(), source });
        }
        let tables = std::iter::once(&self.embed).chain(self.positions.as_ref());
        let tables =
            tables.map(|table| (table.weight.name().to_string(), Source::Table(Box::new(table.clone()))));
        let linears = handles.linears_mut().into_iter();
        let linears = linears
            .map(|linear| (linear.weight.name().to_string(), Source::Linear(Box::new(linear.clone()))));
        for (name, source) in tables.chain(linears) {
            if let Some(weight) = weights.get_mut(&name) {
                weight.source = source;
            }
        }
        weights
    }

    /// Whether the output head is the embedding table once everything is merged.
    pub fn is_tied(&self) -> bool {
        self.head.is_none()
    }

    /// Takes everything off that a method attached: the base model stays.
    pub fn detach(&mut self) {
        for linear in self.linears_mut() {
            (linear.low_rank, linear.copy) = (None, None);
        }
        for table in std::iter::once(&mut self.embed).chain(self.positions.as_mut()) {
            table.copy = None;
        }
        if self.spec.tied {
            self.head = None;
        }
        self.attached = None;
    }
}
