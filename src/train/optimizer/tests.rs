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
    for (name, rank) in [("model.norm.weight", 1), ("model.embed_tokens.weight", 2), ("lm_head.weight", 2)] {
        assert_eq!(rule_for(OptimizerKind::Muon, name, rank), OptimizerKind::Adamw, "{name}");
    }
    assert_eq!(rule_for(OptimizerKind::Muon, "model.layers.0.mlp.up_proj.weight", 2), OptimizerKind::Muon);
}
