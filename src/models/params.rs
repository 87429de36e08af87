//! Trainable values as the optimizer and the checkpoint see them: named, of rank 1 or 2.

use burn::tensor::Tensor;
use indexmap::IndexMap;

/// A tensor whose rank is known at run time only. Parameters are vectors or matrices, nothing else.
#[derive(Clone, Debug)]
pub enum AnyTensor {
    /// Bias or normalisation weight, `[n]`.
    Vector(Tensor<1>),
    /// Weight matrix, `[rows, columns]`.
    Matrix(Tensor<2>),
}

impl AnyTensor {
    /// Dimensions, slowest first.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Vector(t) => t.dims().to_vec(),
            Self::Matrix(t) => t.dims().to_vec(),
        }
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape().iter().product()
    }
}

/// Values or gradients by parameter name, in the model's order. Names are PEFT's and transformers'.
pub type NamedTensors = IndexMap<String, AnyTensor>;
