//! A model's matrices as they lie in memory: trained or plain, or packed into few bits.

use super::params::{Param, ParamMut, Tape};
use crate::ops::{Packed, WeightMatrix};
use burn::tensor::{Device, Int, Tensor};

/// A frozen matrix of few bits a value.
#[derive(Clone, Debug)]
pub struct PackedParam {
    /// transformers' name.
    pub name: String,
    /// The matrix.
    pub value: Packed,
}

/// A matrix of the base model.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // a few a layer
pub enum Weight {
    /// Floating point; training may change it.
    Plain(Param<2>),
    /// Packed; it stays as it is.
    Packed(PackedParam),
}

impl Weight {
    /// transformers' name.
    pub fn name(&self) -> &str {
        match self {
            Self::Plain(param) => &param.name,
            Self::Packed(param) => &param.name,
        }
    }

    /// The same under another name.
    pub fn renamed(self, name: String) -> Self {
        match self {
            Self::Plain(param) => Self::Plain(Param { name, ..param }),
            Self::Packed(param) => Self::Packed(PackedParam { name, ..param }),
        }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Plain(param) => param.value.dims(),
            Self::Packed(param) => param.value.dims(),
        }
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        match self {
            Self::Plain(param) => param.value.device(),
            Self::Packed(param) => param.value.device(),
        }
    }

    /// The matrix to compute with: a leaf of the tape where there is one and it is trained.
    pub fn on(&self, tape: Option<&Tape>) -> WeightMatrix {
        match self {
            Self::Plain(param) => WeightMatrix::Dense(param.on(tape)),
            Self::Packed(param) => WeightMatrix::Packed(param.value.clone()),
        }
    }

    /// Its values in floating point, outside autodiff.
    pub fn dense(&self) -> Tensor<2> {
        match self {
            Self::Plain(param) => param.value.clone(),
            Self::Packed(param) => param.value.to_dense(),
        }
    }

    /// It, as parameters of a model are handled.
    pub fn param_mut(&mut self) -> ParamMut<'_> {
        match self {
            Self::Plain(param) => ParamMut::Matrix(param),
            Self::Packed(param) => ParamMut::Packed(param),
        }
    }
}

impl WeightMatrix {
    /// Rows by number.
    ///
    /// # Shapes
    /// `ids`: `[n]` · result: `[n, columns]`
    pub fn rows(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight.clone().select(0, ids),
            Self::Packed(packed) => packed.rows(ids),
        }
    }

    /// Whether a gradient flows into it.
    pub fn is_tracked(&self) -> bool {
        matches!(self, Self::Dense(weight) if weight.is_autodiff())
    }

    /// The same outside autodiff.
    pub fn inner(self) -> Self {
        match self {
            Self::Dense(weight) => Self::Dense(weight.inner()),
            packed @ Self::Packed(_) => packed,
        }
    }

    /// Its values in floating point.
    pub fn dense(self) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight,
            Self::Packed(packed) => packed.to_dense(),
        }
    }
}
