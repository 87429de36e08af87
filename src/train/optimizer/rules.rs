//! The update rules, and what each remembers of a parameter.

use crate::config::{OptimizerKind, TrainConfig};
use crate::ops::{AdamW, Adapted};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    Adafactor, AdafactorConfig, AdafactorState, AdjustLrFn, Lion, LionConfig, LionState, Muon, MuonConfig,
    Optimizer as _,
};
use burn::tensor::Tensor;

/// Update rules with their constants. All stand ready: they hold no tensors.
pub(super) struct Rules {
    /// Betas and epsilon.
    adamw: ([f32; 2], f32),
    adafactor: Adafactor,
    lion: Lion,
    muon: Muon,
    momentum: f64,
}

/// What a rule remembers of one parameter.
#[derive(Clone)]
#[allow(clippy::large_enum_variant)] // handles to tensors: small beside what they stand for
pub(super) enum State<const D: usize> {
    AdamW {
        time: usize,
        exp_avg: Tensor<D>,
        exp_avg_sq: Tensor<D>,
    },
    Adafactor(AdafactorState<D>),
    Lion(LionState<D>),
    /// Of SGD and Muon. Not burn's `MomentumState`, whose field is private.
    Velocity(Tensor<D>),
}

/// The rule of one parameter: Muon turns hidden matrices only, and leaves vectors, embeddings and the
/// output head to AdamW, as its author does.
pub(super) fn rule_for(kind: OptimizerKind, name: &str, rank: usize) -> OptimizerKind {
    const NOT_HIDDEN: [&str; 4] = ["embed_tokens", "wte", "wpe", "lm_head"];
    let hidden = rank == 2 && !name.split('.').any(|part| NOT_HIDDEN.contains(&part));
    if kind == OptimizerKind::Muon && !hidden { OptimizerKind::Adamw } else { kind }
}

impl Rules {
    pub(super) fn new(config: &TrainConfig) -> Self {
        let betas = [config.adam_beta1 as f32, config.adam_beta2 as f32];
        let adafactor = AdafactorConfig::new().with_relative_step(false).with_scale_parameter(false);
        // Muon is given the gradient with our own velocity in it; see `State::Velocity`.
        let no_momentum = MomentumConfig { momentum: 0.0, dampening: 0.0, nesterov: false };
        let muon = MuonConfig::new().with_momentum(no_momentum).with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW);
        Self {
            adamw: (betas, config.adam_epsilon as f32),
            adafactor: adafactor.build(),
            lion: LionConfig::new().build(),
            muon: muon.build(),
            momentum: config.momentum,
        }
    }

    pub(super) fn update<const D: usize>(
        &self,
        rule: OptimizerKind,
        lr: f64,
        value: Tensor<D>,
        grad: Tensor<D>,
        state: Option<State<D>>,
    ) -> (Tensor<D>, Option<State<D>>) {
        match rule {
            OptimizerKind::Adamw => {
                let (time, moment_1, moment_2) = match state {
                    Some(State::AdamW { time, exp_avg, exp_avg_sq }) => (time, exp_avg, exp_avg_sq),
                    _ => (0, grad.zeros_like(), grad.zeros_like()),
                };
                let time = time + 1;
                let (betas, epsilon) = self.adamw;
                let rule = AdamW { lr, betas, epsilon };
                let Adapted { value, moment_1, moment_2 } =
                    rule.step(Adapted { value, moment_1, moment_2 }, grad, time as i32);
                (value, Some(State::AdamW { time, exp_avg: moment_1, exp_avg_sq: moment_2 }))
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
    pub(super) fn parts(&self) -> Vec<(&'static str, Tensor<D>)> {
        match self {
            Self::AdamW { exp_avg, exp_avg_sq, .. } => {
                vec![("exp_avg", exp_avg.clone()), ("exp_avg_sq", exp_avg_sq.clone())]
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

    pub(super) fn from_parts(
        rule: OptimizerKind,
        step: usize,
        mut part: impl FnMut(&str) -> Option<Tensor<D>>,
    ) -> Option<Self> {
        Some(match rule {
            OptimizerKind::Adamw => {
                Self::AdamW { time: step, exp_avg: part("exp_avg")?, exp_avg_sq: part("exp_avg_sq")? }
            }
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
