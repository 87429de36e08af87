//! The update rules, and what each remembers of a parameter.

use crate::config::{OptimizerKind, TrainConfig};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    Adafactor, AdafactorConfig, AdafactorState, AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState,
    AdjustLrFn, Lion, LionConfig, LionState, Muon, MuonConfig, Optimizer as _,
};
use burn::tensor::Tensor;

/// Update rules with their constants. All stand ready: they hold no tensors.
pub(super) struct Rules {
    adamw: AdamW,
    adafactor: Adafactor,
    lion: Lion,
    muon: Muon,
    momentum: f64,
}

/// What a rule remembers of one parameter.
#[derive(Clone)]
pub(super) enum State<const D: usize> {
    AdamW(AdamWState<D>),
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
            adamw: adamw.build(),
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
    pub(super) fn parts(&self) -> Vec<(&'static str, Tensor<D>)> {
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

    pub(super) fn from_parts(
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
