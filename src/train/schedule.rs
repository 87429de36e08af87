//! Learning-rate schedules, exactly those of transformers' `get_scheduler`
//! (`src/transformers/optimization.py`, v5).

use crate::config::{SchedulerKind, TrainConfig};
use std::f64::consts::PI;

/// Where the polynomial schedule ends (`lr_end` of transformers).
pub const POLYNOMIAL_LR_END: f64 = 1e-7;
/// Time scale of the inverse square root when there is no warm-up, as in transformers.
const INVERSE_SQRT_TIMESCALE: f64 = 10_000.0;

/// Learning rate as a function of the optimizer step.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: SchedulerKind,
    peak: f64,
    warmup_steps: usize,
    total_steps: usize,
    cycles: f64,
    power: f64,
}

impl Schedule {
    /// The schedule of a run of `total_steps` optimizer steps with the peak `learning_rate`.
    pub fn new(config: &TrainConfig, learning_rate: f64, total_steps: usize) -> Self {
        let by_ratio = (total_steps as f64 * config.warmup_ratio).ceil() as usize;
        Self {
            kind: config.lr_scheduler,
            peak: learning_rate,
            warmup_steps: if config.warmup_steps > 0 { config.warmup_steps } else { by_ratio },
            total_steps,
            cycles: config.lr_cycles as f64,
            power: config.lr_power,
        }
    }

    /// Learning rate in force during optimizer step `step`, counted from 1.
    ///
    /// transformers steps its scheduler after the optimizer, so the first step runs at `factor(0)`:
    /// 0 where there is a warm-up.
    pub fn lr(&self, step: usize) -> f64 {
        self.peak * self.factor(step.saturating_sub(1))
    }

    /// The `lr_lambda` of transformers after `done` steps.
    fn factor(&self, done: usize) -> f64 {
        let (done, warmup, total) = (done as f64, self.warmup_steps as f64, self.total_steps as f64);
        if done < warmup {
            return done / warmup.max(1.0);
        }
        let progress = (done - warmup) / (total - warmup).max(1.0);
        match self.kind {
            SchedulerKind::Constant => 1.0,
            SchedulerKind::Linear => ((total - done) / (total - warmup).max(1.0)).max(0.0),
            SchedulerKind::Cosine => (0.5 * (1.0 + (PI * progress).cos())).max(0.0),
            SchedulerKind::CosineWithRestarts if progress >= 1.0 => 0.0,
            SchedulerKind::CosineWithRestarts => {
                (0.5 * (1.0 + (PI * (self.cycles * progress).fract()).cos())).max(0.0)
            }
            SchedulerKind::Polynomial if done > total => POLYNOMIAL_LR_END / self.peak,
            SchedulerKind::Polynomial => {
                let range = self.peak - POLYNOMIAL_LR_END;
                (range * (1.0 - progress).powf(self.power) + POLYNOMIAL_LR_END) / self.peak
            }
            SchedulerKind::InverseSqrt => {
                let timescale = if warmup > 0.0 { warmup } else { INVERSE_SQRT_TIMESCALE };
                1.0 / ((done + timescale - warmup) / timescale).sqrt()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // import torch; from transformers import get_scheduler   # torch 2.15.0, transformers 5.23.0
    // def values(name, warmup, **kw):
    //     p = torch.nn.Parameter(torch.zeros(1)); o = torch.optim.SGD([p], lr=2e-4)
    //     s = get_scheduler(name, o, num_warmup_steps=warmup, num_training_steps=10, scheduler_specific_kwargs=kw)
    //     out = []
    //     for _ in range(11): out.append(s.get_last_lr()[0]); o.step(); s.step()
    //     return [float(f"{x:.12g}") for x in out]
    // values("linear", 3); values("linear", 0); values("cosine", 3); values("cosine_with_restarts", 2, num_cycles=3)
    // values("polynomial", 3, lr_end=1e-7, power=2.0); values("inverse_sqrt", 3); values("inverse_sqrt", 0)
    // values("constant_with_warmup", 3)
    const GOLDEN: [(SchedulerKind, usize, [f64; 11]); 8] = [
        (
            SchedulerKind::Linear,
            3,
            [
                0.0,
                6.66666666667e-05,
                0.000133333333333,
                0.0002,
                0.000171428571429,
                0.000142857142857,
                0.000114285714286,
                8.57142857143e-05,
                5.71428571429e-05,
                2.85714285714e-05,
                0.0,
            ],
        ),
        (
            SchedulerKind::Linear,
            0,
            [0.0002, 0.00018, 0.00016, 0.00014, 0.00012, 0.0001, 8e-05, 6e-05, 4e-05, 2e-05, 0.0],
        ),
        (
            SchedulerKind::Cosine,
            3,
            [
                0.0,
                6.66666666667e-05,
                0.000133333333333,
                0.0002,
                0.00019009688679,
                0.000162348980186,
                0.000122252093396,
                7.77479066044e-05,
                3.76510198141e-05,
                9.90311320976e-06,
                0.0,
            ],
        ),
        (
            SchedulerKind::CosineWithRestarts,
            2,
            [
                0.0,
                0.0001,
                0.0002,
                0.000138268343237,
                2.92893218813e-05,
                0.000192387953251,
                0.0001,
                7.61204674887e-06,
                0.000170710678119,
                6.17316567635e-05,
                0.0,
            ],
        ),
        (
            SchedulerKind::Polynomial,
            3,
            [
                0.0,
                6.66666666667e-05,
                0.000133333333333,
                0.0002,
                0.000146965306122,
                0.000102089795918,
                6.53734693878e-05,
                3.68163265306e-05,
                1.64183673469e-05,
                4.17959183673e-06,
                1e-07,
            ],
        ),
        (
            SchedulerKind::InverseSqrt,
            3,
            [
                0.0,
                6.66666666667e-05,
                0.000133333333333,
                0.0002,
                0.000173205080757,
                0.000154919333848,
                0.000141421356237,
                0.000130930734142,
                0.000122474487139,
                0.000115470053838,
                0.000109544511501,
            ],
        ),
        (
            SchedulerKind::InverseSqrt,
            0,
            [
                0.0002,
                0.00019999000075,
                0.000199980003,
                0.000199970006748,
                0.000199960011996,
                0.000199950018742,
                0.000199940026987,
                0.000199930036729,
                0.000199920047968,
                0.000199910060704,
                0.000199900074938,
            ],
        ),
        (
            SchedulerKind::Constant,
            3,
            [
                0.0,
                6.66666666667e-05,
                0.000133333333333,
                0.0002,
                0.0002,
                0.0002,
                0.0002,
                0.0002,
                0.0002,
                0.0002,
                0.0002,
            ],
        ),
    ];

    #[test]
    fn schedules_equal_transformers() {
        for (lr_scheduler, warmup_steps, expected) in GOLDEN {
            let config = TrainConfig {
                lr_scheduler,
                warmup_steps,
                lr_cycles: 3,
                lr_power: 2.0,
                ..TrainConfig::default()
            };
            let schedule = Schedule::new(&config, 2e-4, 10);
            for (done, expected) in expected.into_iter().enumerate() {
                let lr = schedule.lr(done + 1);
                assert!(
                    (lr - expected).abs() < 1e-15,
                    "{lr_scheduler:?}, warm-up {warmup_steps}, after {done} steps: {lr} != {expected}"
                );
            }
        }
    }

    #[test]
    fn warm_up_by_ratio_rounds_up_and_yields_to_steps() {
        let config = TrainConfig { warmup_ratio: 0.11, ..TrainConfig::default() };
        assert_eq!(Schedule::new(&config, 1.0, 10).warmup_steps, 2);
        assert_eq!(Schedule::new(&TrainConfig { warmup_steps: 5, ..config }, 1.0, 10).warmup_steps, 5);
    }
}
