//! Parameters, and the values and gradients of the trainable ones by name.

use super::weight::PackedParam;
use burn::tensor::{Gradients, Tensor};
use indexmap::IndexMap;
use std::cell::RefCell;

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

    fn grad(&self, grads: &Gradients) -> Option<Self> {
        Some(match self {
            Self::Vector(t) => Self::Vector(t.grad(grads)?),
            Self::Matrix(t) => Self::Matrix(t.grad(grads)?),
        })
    }

    fn zeros_like(&self) -> Self {
        match self {
            Self::Vector(t) => Self::Vector(t.clone().inner().zeros_like()),
            Self::Matrix(t) => Self::Matrix(t.clone().inner().zeros_like()),
        }
    }

    /// The sum of two tensors of the same shape.
    #[allow(clippy::should_implement_trait)] // an operator would hide that the shapes must be equal
    pub fn add(self, other: Self) -> Self {
        match (self, other) {
            (Self::Vector(a), Self::Vector(b)) => Self::Vector(a + b),
            (Self::Matrix(a), Self::Matrix(b)) => Self::Matrix(a + b),
            (a, b) => unreachable!("a parameter keeps its rank: {:?} and {:?}", a.shape(), b.shape()),
        }
    }
}

/// Values or gradients by parameter name, in the model's order. Names are PEFT's and transformers'.
pub type NamedTensors = IndexMap<String, AnyTensor>;

/// Adds `more` to `sum`, name by name.
pub fn add_all(sum: &mut NamedTensors, more: NamedTensors) {
    for (name, tensor) in more {
        match sum.get_mut(&name) {
            Some(slot) => *slot = slot.clone().add(tensor),
            None => {
                sum.insert(name, tensor);
            }
        }
    }
}

/// A weight of rank `D` (1 or 2). The value is plain; a [`Tape`] makes it a leaf where it is trained.
#[derive(Clone, Debug)]
pub struct Param<const D: usize> {
    /// transformers' name, or PEFT's for adapters.
    pub name: String,
    /// The value, outside autodiff.
    pub value: Tensor<D>,
    /// Whether training changes it.
    pub trainable: bool,
}

impl<const D: usize> Param<D> {
    /// A frozen parameter.
    pub fn new(name: impl Into<String>, value: Tensor<D>) -> Self {
        Self { name: name.into(), value, trainable: false }
    }
}

impl Param<1> {
    /// The value to compute with: a leaf of the tape where there is one and the parameter is trained.
    pub fn on(&self, tape: Option<&Tape>) -> Tensor<1> {
        match tape
            .filter(|_| self.trainable)
            .map(|t| t.leaf(&self.name, || AnyTensor::Vector(leaf(&self.value))))
        {
            Some(AnyTensor::Vector(t)) => t,
            _ => self.value.clone(),
        }
    }
}

impl Param<2> {
    /// The value to compute with: a leaf of the tape where there is one and the parameter is trained.
    pub fn on(&self, tape: Option<&Tape>) -> Tensor<2> {
        match tape
            .filter(|_| self.trainable)
            .map(|t| t.leaf(&self.name, || AnyTensor::Matrix(leaf(&self.value))))
        {
            Some(AnyTensor::Matrix(t)) => t,
            _ => self.value.clone(),
        }
    }
}

fn leaf<const D: usize>(value: &Tensor<D>) -> Tensor<D> {
    value.clone().autodiff().require_grad()
}

/// The trained parameters of one forward pass as leaves of its graph.
#[derive(Debug, Default)]
pub struct Tape {
    leaves: RefCell<NamedTensors>,
}

impl Tape {
    fn leaf(&self, name: &str, make: impl FnOnce() -> AnyTensor) -> AnyTensor {
        if let Some(leaf) = self.leaves.borrow().get(name) {
            return leaf.clone();
        }
        let leaf = make();
        self.leaves.borrow_mut().insert(name.to_string(), leaf.clone());
        leaf
    }

    /// Gradients of every parameter the pass used; zero where the loss does not depend on it.
    pub fn gradients(self, grads: &Gradients) -> NamedTensors {
        let gradient = |leaf: AnyTensor| leaf.grad(grads).unwrap_or_else(|| leaf.zeros_like());
        self.leaves.into_inner().into_iter().map(|(name, leaf)| (name, gradient(leaf))).collect()
    }
}

/// A parameter of either rank, borrowed from a model.
pub enum ParamMut<'a> {
    /// Rank 1.
    Vector(&'a mut Param<1>),
    /// Rank 2.
    Matrix(&'a mut Param<2>),
    /// Rank 2, frozen, in few bits a value.
    Packed(&'a mut PackedParam),
}

impl ParamMut<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Vector(p) => &p.name,
            Self::Matrix(p) => &p.name,
            Self::Packed(p) => &p.name,
        }
    }

    /// Whether training changes it.
    pub fn trainable(&self) -> bool {
        match self {
            Self::Vector(p) => p.trainable,
            Self::Matrix(p) => p.trainable,
            Self::Packed(_) => false,
        }
    }

    /// Dimensions, slowest first.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Vector(p) => p.value.dims().to_vec(),
            Self::Matrix(p) => p.value.dims().to_vec(),
            Self::Packed(p) => p.value.dims().to_vec(),
        }
    }

    /// Sets whether training changes it; false, and no change, where it cannot be trained.
    #[must_use]
    pub fn set_trainable(&mut self, trainable: bool) -> bool {
        match self {
            Self::Vector(p) => p.trainable = trainable,
            Self::Matrix(p) => p.trainable = trainable,
            Self::Packed(_) => return !trainable,
        }
        true
    }

    /// Its value, unpacked where it is packed.
    pub fn value(&self) -> AnyTensor {
        match self {
            Self::Vector(p) => AnyTensor::Vector(p.value.clone()),
            Self::Matrix(p) => AnyTensor::Matrix(p.value.clone()),
            Self::Packed(p) => AnyTensor::Matrix(p.value.to_dense()),
        }
    }

    /// Replaces its value; false, and no change, where rank or shape differ.
    pub fn set(&mut self, value: AnyTensor) -> bool {
        match (self, value) {
            (Self::Vector(p), AnyTensor::Vector(t)) if p.value.dims() == t.dims() => p.value = t,
            (Self::Matrix(p), AnyTensor::Matrix(t)) if p.value.dims() == t.dims() => p.value = t,
            _ => return false,
        }
        true
    }
}
