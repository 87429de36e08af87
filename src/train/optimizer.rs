//! One optimizer step over all trainable tensors.
//!
//! The update rules are burn-optim's. What stands here is what it leaves open for us: states kept by
//! parameter name rather than by module, read and written without blocking on the device (burn's own
//! records read synchronously, which a browser refuses), and decoupled weight decay,
//! `p ← p·(1 − lr·weight_decay)` before the update (1711.05101), the same for every rule and only for
//! matrices: biases and normalisation weights are never decayed, as in transformers' `Trainer`.
//!
//! Where the rules have choices, they are transformers': Adafactor takes the learning rate as given
//! (`scale_parameter=False, relative_step=False`), Lion has its paper's betas, and Muon scales its
//! update to AdamW's root mean square (2502.16982), so that one learning rate serves both the matrices
//! it turns and the rest that AdamW updates.

use crate::config::{OptimizerKind, TrainConfig};
use crate::models::{AnyTensor, NamedTensors};
use crate::{Error, Result};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    Adafactor, AdafactorConfig, AdafactorState, AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState,
    AdjustLrFn, Lion, LionConfig, LionState, Muon, MuonConfig, Optimizer as _,
};
use burn::tensor::Tensor;
use std::collections::BTreeMap;

/// The optimizer of a run with the state of every parameter.
pub struct Optimizer {
    kind: OptimizerKind,
    rules: Rules,
    weight_decay: f64,
    states: BTreeMap<String, AnyState>,
}

/// Update rules with their constants. All stand ready: they hold no tensors.
struct Rules {
    adamw: AdamW,
    adafactor: Adafactor,
    lion: Lion,
    muon: Muon,
    momentum: f64,
}

/// What a rule remembers of one parameter.
#[derive(Clone)]
enum State<const D: usize> {
    AdamW(AdamWState<D>),
    Adafactor(AdafactorState<D>),
    Lion(LionState<D>),
    /// Of SGD and Muon. Not burn's `MomentumState`, whose field is private.
    Velocity(Tensor<D>),
}

enum AnyState {
    Vector(State<1>),
    Matrix(State<2>),
}

impl Optimizer {
    /// The optimizer the settings describe, with no state yet.
    pub fn new(config: &TrainConfig) -> Self {
        let adamw = AdamWConfig::new()
            .with_beta_1(config.adam_beta1 as f32)
            .with_beta_2(config.adam_beta2 as f32)
            .with_epsilon(config.adam_epsilon as f32)
            .with_weight_decay(0.0);
        let adafactor = AdafactorConfig::new().with_relative_step(false).with_scale_parameter(false);
        // Muon is given the gradient with our own velocity in it; see `State::Velocity`.
        let no_momentum = MomentumConfig { momentum: 0.0, dampening: 0.0, nesterov: false };
        let muon = MuonConfig::new().with_momentum(no_momentum).with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW);
        Self {
            kind: config.optimizer,
            rules: Rules {
                adamw: adamw.build(),
                adafactor: adafactor.build(),
                lion: LionConfig::new().build(),
                muon: muon.build(),
                momentum: config.momentum,
            },
            weight_decay: config.weight_decay,
            states: BTreeMap::new(),
        }
    }

    /// The values after one step with learning rate `lr`. `grads` must name every parameter of `values`.
    pub fn step(&mut self, lr: f64, values: NamedTensors, mut grads: NamedTensors) -> Result<NamedTensors> {
        let mut updated = NamedTensors::with_capacity(values.len());
        for (name, value) in values {
            let grad =
                grads.swap_remove(&name).ok_or_else(|| Error::Internal(format!("no gradient for {name}")))?;
            let shapes = (value.shape(), grad.shape());
            let (value, state) = match (value, grad, self.states.remove(&name)) {
                (AnyTensor::Vector(value), AnyTensor::Vector(grad), state) if shapes.0 == shapes.1 => {
                    let state = match state {
                        Some(AnyState::Vector(state)) => Some(state),
                        _ => None,
                    };
                    let (value, state) =
                        self.rules.update(rule_for(self.kind, &name, 1), lr, value, grad, state);
                    (AnyTensor::Vector(value), state.map(AnyState::Vector))
                }
                (AnyTensor::Matrix(value), AnyTensor::Matrix(grad), state) if shapes.0 == shapes.1 => {
                    let state = match state {
                        Some(AnyState::Matrix(state)) => Some(state),
                        _ => None,
                    };
                    let decay = lr * self.weight_decay;
                    let value = if decay == 0.0 { value } else { value.mul_scalar(1.0 - decay) };
                    let (value, state) =
                        self.rules.update(rule_for(self.kind, &name, 2), lr, value, grad, state);
                    (AnyTensor::Matrix(value), state.map(AnyState::Matrix))
                }
                _ => {
                    return Err(Error::Internal(format!(
                        "{name} has shape {:?}, its gradient {:?}",
                        shapes.0, shapes.1
                    )));
                }
            };
            self.states.extend(state.map(|state| (name.clone(), state)));
            updated.insert(name, value);
        }
        Ok(updated)
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

/// The rule of one parameter: Muon turns hidden matrices only, and leaves vectors, embeddings and the
/// output head to AdamW, as its author does.
fn rule_for(kind: OptimizerKind, name: &str, rank: usize) -> OptimizerKind {
    const NOT_HIDDEN: [&str; 4] = ["embed_tokens", "wte", "wpe", "lm_head"];
    let hidden = rank == 2 && !name.split('.').any(|part| NOT_HIDDEN.contains(&part));
    if kind == OptimizerKind::Muon && !hidden { OptimizerKind::Adamw } else { kind }
}

impl Rules {
    fn update<const D: usize>(
        &self,
        rule: OptimizerKind,
        lr: f64,
        value: Tensor<D>,
        grad: Tensor<D>,
        state: Option<State<D>>,
    ) -> (Tensor<D>, Option<State<D>>) {
        match rule {
            OptimizerKind::Adamw => {
                let state = match state {
                    Some(State::AdamW(state)) => Some(state),
                    _ => None,
                };
                let (value, state) = self.adamw.step(lr, value, grad, state);
                (value, state.map(State::AdamW))
            }
            OptimizerKind::Adafactor => {
                let state = match state {
                    Some(State::Adafactor(state)) => Some(state),
                    _ => None,
                };
                let (value, state) = self.adafactor.step(lr, value, grad, state);
                (value, state.map(State::Adafactor))
            }
            OptimizerKind::Lion => {
                let state = match state {
                    Some(State::Lion(state)) => Some(state),
                    _ => None,
                };
                let (value, state) = self.lion.step(lr, value, grad, state);
                (value, state.map(State::Lion))
            }
            OptimizerKind::Muon => {
                let velocity = self.velocity(grad.clone(), state);
                // Nesterov's look-ahead, as torch.optim.Muon's default.
                let (value, _) =
                    self.muon.step(lr, value, grad + velocity.clone().mul_scalar(self.momentum), None);
                (value, Some(State::Velocity(velocity)))
            }
            OptimizerKind::Sgd => {
                let velocity = self.velocity(grad, state);
                (value - velocity.clone().mul_scalar(lr), Some(State::Velocity(velocity)))
            }
        }
    }

    /// momentum · velocity + grad, undamped as torch.optim.SGD's default.
    fn velocity<const D: usize>(&self, grad: Tensor<D>, state: Option<State<D>>) -> Tensor<D> {
        match state {
            Some(State::Velocity(velocity)) => velocity.mul_scalar(self.momentum) + grad,
            _ => grad,
        }
    }
}

impl<const D: usize> State<D> {
    fn parts(&self) -> Vec<(&'static str, Tensor<D>)> {
        match self {
            Self::AdamW(AdamWState { momentum }) => {
                vec![("exp_avg", momentum.moment_1.clone()), ("exp_avg_sq", momentum.moment_2.clone())]
            }
            Self::Adafactor(state) => match &state.column_second_moment {
                Some(column) => {
                    vec![("exp_avg_sq_row", state.second_moment.clone()), ("exp_avg_sq_col", column.clone())]
                }
                None => vec![("exp_avg_sq", state.second_moment.clone())],
            },
            Self::Lion(LionState { momentum }) => vec![("exp_avg", momentum.clone())],
            Self::Velocity(velocity) => vec![("momentum_buffer", velocity.clone())],
        }
    }

    fn from_parts(
        rule: OptimizerKind,
        step: usize,
        mut part: impl FnMut(&str) -> Option<Tensor<D>>,
    ) -> Option<Self> {
        Some(match rule {
            OptimizerKind::Adamw => Self::AdamW(AdamWState {
                momentum: AdaptiveMomentumState {
                    time: step,
                    moment_1: part("exp_avg")?,
                    moment_2: part("exp_avg_sq")?,
                    max_moment_2: None,
                },
            }),
            OptimizerKind::Adafactor if D == 1 => Self::Adafactor(AdafactorState {
                time: step,
                second_moment: part("exp_avg_sq")?,
                column_second_moment: None,
            }),
            OptimizerKind::Adafactor => Self::Adafactor(AdafactorState {
                time: step,
                second_moment: part("exp_avg_sq_row")?,
                column_second_moment: Some(part("exp_avg_sq_col")?),
            }),
            OptimizerKind::Lion => Self::Lion(LionState { momentum: part("exp_avg")? }),
            OptimizerKind::Muon | OptimizerKind::Sgd => Self::Velocity(part("momentum_buffer")?),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::{HostTensor, memory::ready};
    use burn::tensor::Device;

    // import math, torch; from torch.optim import AdamW, Muon, SGD   # torch 2.15.0
    // from transformers.optimization import Adafactor                # transformers 5.23.0
    // def run(make, shape):
    //     p = torch.nn.Parameter(torch.tensor([math.sin(i + 1) for i in range(6)]).reshape(shape))
    //     o = make([p])
    //     for t in range(20):
    //         p.grad = torch.tensor([math.cos(0.7*i + 1.3*t) * 10.0**(-2*(i%4)) for i in range(6)]).reshape(shape)
    //         o.step()
    //     return [float(f"{x:.9g}") for x in p.detach().flatten()]
    // run(lambda p: AdamW(p, lr=1e-2, weight_decay=0.1), (2, 3))
    // run(lambda p: AdamW(p, lr=1e-2, weight_decay=0.0), (6,))
    // run(lambda p: Adafactor(p, lr=1e-2, scale_parameter=False, relative_step=False, weight_decay=0.1), (2, 3))
    // run(lambda p: Adafactor(p, lr=1e-2, scale_parameter=False, relative_step=False), (6,))
    // run(lambda p: Muon(p, lr=1e-2, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"), (2, 3))
    // run(lambda p: SGD(p, lr=1e-2, momentum=0.9), (6,))
    // Lion is in neither library: the paper's algorithm 2 in float64, printed alike.
    const GOLDEN: [(OptimizerKind, f64, &[usize], f32, [f32; 6]); 8] = [
        (
            OptimizerKind::Adamw,
            0.1,
            &[2, 3],
            1e-6,
            [0.802316666, 0.884865463, 0.148803651, -0.707529008, -0.911839128, -0.258850276],
        ),
        (
            OptimizerKind::Adamw,
            0.0,
            &[6],
            1e-6,
            [0.818596423, 0.902742088, 0.151733011, -0.72194761, -0.930358887, -0.264111847],
        ),
        (
            OptimizerKind::Adafactor,
            0.1,
            &[2, 3],
            1e-6,
            [0.813803911, 0.891158342, 0.138272554, -0.741809428, -0.93121469, -0.260953069],
        ),
        (
            OptimizerKind::Adafactor,
            0.0,
            &[6],
            1e-6,
            [0.834035754, 0.901461244, 0.130270898, -0.751164615, -0.952585936, -0.27167806],
        ),
        (
            OptimizerKind::Lion,
            0.1,
            &[2, 3],
            1e-6,
            [0.825038003, 0.871263928, 0.158085238, -0.742006755, -0.900383791, -0.293522072],
        ),
        (
            OptimizerKind::Lion,
            0.0,
            &[6],
            1e-6,
            [0.841470985, 0.889297427, 0.161120008, -0.756802495, -0.918924275, -0.299415498],
        ),
        (
            OptimizerKind::Muon,
            0.1,
            &[2, 3],
            2e-3,
            [0.812900186, 0.891335785, 0.138338104, -0.741849601, -0.928858578, -0.272114098],
        ),
        (
            OptimizerKind::Sgd,
            0.0,
            &[6],
            1e-6,
            [0.80092895, 0.909322619, 0.141124442, -0.756802499, -0.903284431, -0.279218465],
        ),
    ];

    fn tensor(values: Vec<f32>, shape: &[usize]) -> AnyTensor {
        AnyTensor::from_host(HostTensor { shape: shape.to_vec(), values }, "p", &Device::flex()).unwrap()
    }

    fn named(tensor: AnyTensor) -> NamedTensors {
        NamedTensors::from([("p".to_string(), tensor)])
    }

    fn start(shape: &[usize]) -> NamedTensors {
        named(tensor((0..6).map(|i| f64::from(i + 1).sin() as f32).collect(), shape))
    }

    fn grad(t: usize, shape: &[usize]) -> NamedTensors {
        let value = |i: i32| (0.7 * f64::from(i) + 1.3 * t as f64).cos() * 10f64.powi(-2 * (i % 4));
        named(tensor((0..6).map(|i| value(i) as f32).collect(), shape))
    }

    fn values(tensors: &NamedTensors) -> Vec<f32> {
        ready(tensors["p"].to_host()).unwrap().values
    }

    fn config(optimizer: OptimizerKind, weight_decay: f64) -> TrainConfig {
        TrainConfig { optimizer, weight_decay, ..TrainConfig::default() }
    }

    #[test]
    fn twenty_steps_equal_pytorch() {
        for (kind, weight_decay, shape, tolerance, expected) in GOLDEN {
            let mut optimizer = Optimizer::new(&config(kind, weight_decay));
            let mut value = start(shape);
            for t in 0..20 {
                value = optimizer.step(1e-2, value, grad(t, shape)).unwrap();
            }
            for (got, expected) in values(&value).into_iter().zip(expected) {
                assert!(
                    (got - expected).abs() <= tolerance,
                    "{kind:?} {shape:?}: {got} != {expected}, off by {:e}",
                    got - expected
                );
            }
        }
    }

    #[test]
    fn vectors_are_not_decayed() {
        let step = |weight_decay| {
            let mut optimizer = Optimizer::new(&config(OptimizerKind::Adamw, weight_decay));
            values(&optimizer.step(1e-2, start(&[6]), grad(0, &[6])).unwrap())
        };
        assert_eq!(step(0.0), step(0.5));
    }

    #[test]
    fn state_survives_the_host_bit_for_bit() {
        for kind in [
            OptimizerKind::Adamw,
            OptimizerKind::Adafactor,
            OptimizerKind::Lion,
            OptimizerKind::Muon,
            OptimizerKind::Sgd,
        ] {
            for shape in [&[6][..], &[2, 3]] {
                let mut original = Optimizer::new(&config(kind, 0.1));
                let mut value = start(shape);
                for t in 0..3 {
                    value = original.step(1e-2, value, grad(t, shape)).unwrap();
                }
                let state = original.state().into_iter().map(|(name, t)| {
                    let host = ready(t.to_host()).unwrap();
                    let back = AnyTensor::from_host(host, &name, &Device::flex()).unwrap();
                    (name, back)
                });
                let mut restored = Optimizer::new(&config(kind, 0.1));
                restored.load_state(3, &value, state.collect()).unwrap();
                let next = |optimizer: &mut Optimizer| {
                    values(&optimizer.step(1e-2, value.clone(), grad(3, shape)).unwrap())
                };
                assert_eq!(next(&mut original), next(&mut restored), "{kind:?} {shape:?}");
            }
        }
    }

    #[test]
    fn a_checkpoint_without_state_is_refused_by_name() {
        let mut optimizer = Optimizer::new(&config(OptimizerKind::Adamw, 0.0));
        let error = optimizer.load_state(3, &start(&[6]), NamedTensors::new()).unwrap_err().to_string();
        assert!(error.contains("optimizer.p.exp_avg"), "{error}");
    }

    #[test]
    fn muon_leaves_vectors_embeddings_and_the_head_to_adamw() {
        for (name, rank) in
            [("model.norm.weight", 1), ("model.embed_tokens.weight", 2), ("lm_head.weight", 2)]
        {
            assert_eq!(rule_for(OptimizerKind::Muon, name, rank), OptimizerKind::Adamw, "{name}");
        }
        assert_eq!(
            rule_for(OptimizerKind::Muon, "model.layers.0.mlp.up_proj.weight", 2),
            OptimizerKind::Muon
        );
    }
}
