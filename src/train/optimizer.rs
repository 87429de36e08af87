//! One optimizer step over all trainable tensors.
//!
//! The update rules are burn-optim's, but for AdamW, which is an operation of ours. What stands here is
//! what burn leaves open: states kept by parameter name rather than by module, read and written without
//! blocking on the device (burn's own records read synchronously, which a browser refuses), and
//! decoupled weight decay, `p ← p·(1 − lr·weight_decay)` before the update (1711.05101), the same for
//! every rule and only for matrices: biases and normalisation weights are never decayed, as in
//! transformers' `Trainer`.
//!
//! Where the rules have choices, they are transformers': Adafactor takes the learning rate as given
//! (`scale_parameter=False, relative_step=False`), Lion has its paper's betas, and Muon scales its
//! update to AdamW's root mean square (2502.16982), so that one learning rate serves both the matrices
//! it turns and the rest that AdamW updates.

mod rules;
#[cfg(test)]
mod tests;

use crate::config::{OptimizerKind, TrainConfig};
use crate::models::{AnyTensor, NamedTensors};
use crate::ops::map_each;
use crate::{Error, Result};
use rules::{Rules, State, rule_for};
use std::collections::BTreeMap;

/// The optimizer of a run with the state of every parameter.
pub struct Optimizer {
    kind: OptimizerKind,
    rules: Rules,
    weight_decay: f64,
    states: BTreeMap<String, AnyState>,
}

enum AnyState {
    Vector(State<1>),
    Matrix(State<2>),
}

impl Optimizer {
    /// The optimizer the settings describe, with no state yet.
    pub fn new(config: &TrainConfig) -> Self {
        Self {
            kind: config.optimizer,
            rules: Rules::new(config),
            weight_decay: config.weight_decay,
            states: BTreeMap::new(),
        }
    }

    /// The values after one step with learning rate `lr`. `grads` must name every parameter of `values`.
    pub fn step(&mut self, lr: f64, values: NamedTensors, mut grads: NamedTensors) -> Result<NamedTensors> {
        let Some(device) = values.values().next().map(AnyTensor::device) else { return Ok(values) };
        let mut parameters = Vec::with_capacity(values.len());
        for (name, value) in values {
            let grad =
                grads.swap_remove(&name).ok_or_else(|| Error::Internal(format!("no gradient for {name}")))?;
            let state = self.states.remove(&name);
            parameters.push((name, value, grad, state));
        }
        let updated = map_each(parameters, &device, |(name, value, grad, state)| {
            self.updated(&name, lr, value, grad, state).map(|updated| (name, updated))
        });
        let mut values = NamedTensors::with_capacity(updated.len());
        for updated in updated {
            let (name, (value, state)) = updated?;
            self.states.extend(state.map(|state| (name.clone(), state)));
            values.insert(name, value);
        }
        Ok(values)
    }

    /// One parameter after the step, and what is to be remembered of it.
    fn updated(
        &self,
        name: &str,
        lr: f64,
        value: AnyTensor,
        grad: AnyTensor,
        state: Option<AnyState>,
    ) -> Result<(AnyTensor, Option<AnyState>)> {
        let shapes = (value.shape(), grad.shape());
        Ok(match (value, grad) {
            (AnyTensor::Vector(value), AnyTensor::Vector(grad)) if shapes.0 == shapes.1 => {
                let state = match state {
                    Some(AnyState::Vector(state)) => Some(state),
                    _ => None,
                };
                let (value, state) = self.rules.update(rule_for(self.kind, name, 1), lr, value, grad, state);
                (AnyTensor::Vector(value), state.map(AnyState::Vector))
            }
            (AnyTensor::Matrix(value), AnyTensor::Matrix(grad)) if shapes.0 == shapes.1 => {
                let state = match state {
                    Some(AnyState::Matrix(state)) => Some(state),
                    _ => None,
                };
                let decay = lr * self.weight_decay;
                let value = if decay == 0.0 { value } else { value.mul_scalar(1.0 - decay) };
                let (value, state) = self.rules.update(rule_for(self.kind, name, 2), lr, value, grad, state);
                (AnyTensor::Matrix(value), state.map(AnyState::Matrix))
            }
            _ => {
                let problem = format!("{name} has shape {:?}, its gradient {:?}", shapes.0, shapes.1);
                return Err(Error::Internal(problem));
            }
        })
    }

    /// The states as tensors named `{parameter}.{part}`, with PyTorch's names for the parts.
    pub fn state(&self) -> NamedTensors {
        let name = |parameter: &String, part: &str| format!("{parameter}.{part}");
        let mut tensors = NamedTensors::new();
        for (parameter, state) in &self.states {
            match state {
                AnyState::Vector(state) => {
                    tensors.extend(
                        state
                            .parts()
                            .into_iter()
                            .map(|(part, t)| (name(parameter, part), AnyTensor::Vector(t))),
                    );
                }
                AnyState::Matrix(state) => {
                    tensors.extend(
                        state
                            .parts()
                            .into_iter()
                            .map(|(part, t)| (name(parameter, part), AnyTensor::Matrix(t))),
                    );
                }
            }
        }
        tensors
    }

    /// Takes back what [`state`](Self::state) gave after `step` steps over the parameters `values`.
    pub fn load_state(
        &mut self,
        step: usize,
        values: &NamedTensors,
        mut tensors: NamedTensors,
    ) -> Result<()> {
        self.states.clear();
        if step == 0 {
            return Ok(());
        }
        let mut problems = Vec::new();
        for (name, value) in values {
            let mut part = |part: &str| {
                let full = format!("{name}.{part}");
                let tensor = tensors.swap_remove(&full);
                if tensor.is_none() {
                    problems.push(Error::input(
                        "checkpoint",
                        format!("no tensor optimizer.{full}"),
                        format!("the state of {:?}", self.kind),
                    ));
                }
                tensor
            };
            let state = match value {
                AnyTensor::Vector(_) => {
                    State::from_parts(rule_for(self.kind, name, 1), step, |name| match part(name)? {
                        AnyTensor::Vector(t) => Some(t),
                        AnyTensor::Matrix(_) => None,
                    })
                    .map(AnyState::Vector)
                }
                AnyTensor::Matrix(_) => {
                    State::from_parts(rule_for(self.kind, name, 2), step, |name| match part(name)? {
                        AnyTensor::Matrix(t) => Some(t),
                        AnyTensor::Vector(_) => None,
                    })
                    .map(AnyState::Matrix)
                }
            };
            self.states.extend(state.map(|state| (name.clone(), state)));
        }
        Error::all(problems)
    }
}
