//! The loop on a bigram model, whose gradients have a closed form.

#![allow(clippy::unwrap_used)]

mod bigram;
mod resume;

use super::checkpoint::CHECKPOINT;
use super::*;
use crate::config::{OptimizerKind, Run, TrainConfig};
use crate::data::Encoded;
use crate::data::batches::{BatchPlan, Batches};
use crate::eval::{HeldOut, evaluate};
use crate::protocol::{Control, Event, TrainSummary};
use crate::store::Store;
use crate::store::memory::{MemoryStore, ready};
use crate::{Error, Result};
use bigram::Bigram;

const VOCABULARY: usize = 5;
/// A run with this seed trains with dropout, which differs between micro-batches.
const DROPOUT_SEED: u64 = 11;

/// Ten rows of six tokens.
fn rows() -> Vec<Encoded> {
    let tokens = |row: usize| (0..6).map(move |t| ((3 * row + 2 * t + row * t) % VOCABULARY) as u32);
    (0..10).map(|row| encoded(tokens(row).collect())).collect()
}

fn encoded(ids: Vec<u32>) -> Encoded {
    Encoded { loss_weights: vec![1.0; ids.len()], ids, truncated: false }
}

/// The ten rows, two a batch.
fn batches(shuffle: bool) -> Batches {
    let plan = BatchPlan { batch_size: 2, packing: false, max_length: 6, shuffle, seed: 3, pad_id: 0 };
    Batches::new(rows(), plan).unwrap()
}

fn held_out(rows: Vec<Encoded>, batch_size: usize) -> HeldOut {
    HeldOut::new(rows, None, batch_size, 0).unwrap()
}

fn run(train: TrainConfig) -> Run {
    let mut run = Run { train, ..Run::default() };
    run.data.shuffle = false;
    run
}

/// Two epochs of three steps (two batches a step), clipped and scheduled as in the golden curve.
fn config() -> TrainConfig {
    TrainConfig {
        learning_rate: Some(0.1),
        warmup_steps: 2,
        weight_decay: 0.1,
        max_grad_norm: 0.3,
        epochs: 2.0,
        gradient_accumulation_steps: 2,
        ..TrainConfig::default()
    }
}

struct Outcome {
    result: Result<TrainSummary>,
    events: Vec<Event>,
    values: (Vec<f32>, Vec<f32>),
}

/// Trains a fresh bigram model, asking to stop after step `stop_at`; step 0 never comes.
fn train_until(
    run: &Run,
    store: &impl Store,
    start: Start,
    stop_at: usize,
    held_out: Option<&HeldOut>,
) -> Outcome {
    let mut model = Bigram::new(run.seed == DROPOUT_SEED);
    let batches = batches(run.data.shuffle);
    let mut events = Vec::new();
    let mut emit = |event: Event| {
        let stop = matches!(&event, Event::Step(metrics) if metrics.step == stop_at);
        events.push(event);
        if stop { Control::Stop } else { Control::Continue }
    };
    let training = Training { run, batches: &batches, held_out, samples: None, start };
    let result = ready(super::train(&mut model, training, store, &mut emit));
    Outcome { result, events, values: model.host() }
}

/// The lines of the metrics file without the figures that depend on the clock.
fn metrics(store: &impl Store) -> Vec<serde_json::Value> {
    let bytes = ready(store.read_all(METRICS_KEY, 1 << 20)).unwrap();
    let parse = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        let fields = line.as_object_mut().unwrap();
        fields.remove("tokens_per_sec");
        fields.remove("elapsed_secs");
        line
    };
    String::from_utf8(bytes).unwrap().lines().map(parse).collect()
}

fn checkpoints(store: &impl Store) -> Vec<String> {
    ready(store.list(&format!("{CHECKPOINT}-"))).unwrap()
}

fn steps_of(keys: &[String]) -> Vec<&str> {
    keys.iter().map(|key| key.split('-').nth(1).unwrap()).collect()
}

#[test]
fn six_steps_equal_pytorch_with_accumulation_clipping_decay_and_schedule() {
    // import torch; from transformers import get_scheduler            # torch 2.15.0, transformers 5.23.0
    // V = 5
    // rows = [[(3*r + 2*t + r*t) % V for t in range(6)] for r in range(10)]
    // W = torch.nn.Parameter(torch.tensor([[((i*V + j) * 7 % 11 - 5) / 10 for j in range(V)] for i in range(V)]))
    // b = torch.nn.Parameter(torch.zeros(V))
    // opt = torch.optim.AdamW([{"params": [W], "weight_decay": 0.1}, {"params": [b], "weight_decay": 0.0}], lr=0.1)
    // sched = get_scheduler("linear", opt, num_warmup_steps=2, num_training_steps=6)
    // for epoch in range(2):
    //     for group in ([0, 1], [2, 3], [4]):
    //         n = 10 * len(group); loss = 0.0
    //         for r in [r for g in group for r in (2*g, 2*g + 1)]:
    //             ids = torch.tensor(rows[r])
    //             loss = loss + torch.nn.functional.cross_entropy(W[ids[:-1]] + b, ids[1:], reduction="sum") / n
    //         opt.zero_grad(); loss.backward()
    //         norm = torch.nn.utils.clip_grad_norm_([W, b], 0.3)
    //         print("[%.9g, %.9g, %.9g]," % (loss.item(), norm.item(), sched.get_last_lr()[0]))
    //         opt.step(); sched.step()
    const GOLDEN: [[f64; 3]; 6] = [
        [1.69156003, 0.332694113, 0.0],
        [1.65890908, 0.120327853, 0.05],
        [1.68786955, 0.653532565, 0.1],
        [1.58663094, 0.274653733, 0.075],
        [1.62743509, 0.147534102, 0.05],
        [1.44034696, 0.532669663, 0.025],
    ];
    let store = MemoryStore::new();
    let outcome = train_until(&run(config()), &store, Start::Fresh, 0, None);
    let summary = outcome.result.unwrap();
    let steps = metrics(&store);
    assert_eq!(steps.len(), 6);
    for (line, [loss, grad_norm, lr]) in steps.iter().zip(GOLDEN) {
        for (field, expected) in [("loss", loss), ("grad_norm", grad_norm), ("lr", lr)] {
            let value = line[field].as_f64().unwrap();
            assert!(
                (value - expected).abs() <= 1e-5 * expected.abs(),
                "{field} of step {}: {value} != {expected}",
                line["step"]
            );
        }
    }
    let epochs: Vec<_> = steps.iter().map(|line| line["epoch"].as_f64().unwrap()).collect();
    assert_eq!(epochs, [0.4, 0.8, 1.0, 1.4, 1.8, 2.0]);
    assert_eq!(steps[2]["n_tokens"], 12);
    assert_eq!((summary.steps, summary.trainable_params, summary.total_params), (6, 30, 1000));
    let mean = GOLDEN.iter().map(|[loss, ..]| loss).sum::<f64>() / 6.0;
    assert!((summary.train_loss - mean).abs() < 1e-5);
}

#[test]
fn a_fresh_start_does_not_write_over_checkpoints() {
    let store = MemoryStore::new();
    train_until(&run(config()), &store, Start::Fresh, 0, None).result.unwrap();
    let before = (metrics(&store), checkpoints(&store));
    let error = train_until(&run(config()), &store, Start::Fresh, 0, None).result.unwrap_err().to_string();
    assert!(error.contains("checkpoints of another run"), "{error}");
    assert_eq!((metrics(&store), checkpoints(&store)), before);
}

#[test]
fn a_diverged_run_stops_before_the_update_and_keeps_the_last_good_values() {
    // Step 1 runs at rate 0, step 2 blows the weights up: its checkpoint sees it, or else step 3.
    for (save_steps, at, kept) in
        [(0, (3, "loss"), vec![]), (1, (2, "norm of the weights"), vec!["00000001"])]
    {
        let train = TrainConfig { learning_rate: Some(1e39), warmup_steps: 2, save_steps, ..config() };
        let store = MemoryStore::new();
        let outcome = train_until(&run(train), &store, Start::Fresh, 0, None);
        let Err(Error::NotFinite { step, quantity, advice, .. }) = outcome.result else {
            panic!("{:?}", outcome.result)
        };
        assert_eq!((step, quantity), at);
        assert!(advice.contains("train.learning_rate below 1e39"), "{advice}");
        assert_eq!(outcome.values, Bigram::new(false).host());
        assert_eq!(metrics(&store).len(), 2);
        assert_eq!(steps_of(&checkpoints(&store)), kept);
    }
}

#[test]
fn early_stopping_ends_with_the_best_values() {
    // Held-out rows unlike the training rows: learning makes them less likely, so the first evaluation stays the best.
    let held_out = held_out(vec![encoded(vec![0; 6])], 1);
    let train = TrainConfig { eval_steps: 1, early_stopping_patience: 2, warmup_steps: 0, ..config() };
    let store = MemoryStore::new();
    let outcome = train_until(&run(train.clone()), &store, Start::Fresh, 0, Some(&held_out));
    let summary = outcome.result.unwrap();
    let losses: Vec<_> = metrics(&store).iter().filter_map(|line| line["eval_loss"].as_f64()).collect();
    let best = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap();
    assert_eq!(losses.len(), best + 3, "{losses:?}");
    assert!(summary.stopped_early && summary.steps == losses.len() && summary.steps < 6, "{losses:?}");
    assert_eq!(summary.best_eval, Some((best + 1, losses[best])));
    // The values are those of a run that ends at the best step with the same schedule.
    let other = MemoryStore::new();
    let at_best = train_until(&run(train), &other, Start::Fresh, best + 1, Some(&held_out));
    assert_eq!(outcome.values, at_best.values);
    // Resuming a run that is out of patience does not train on.
    let resumed = train_until(
        &run(TrainConfig { eval_steps: 1, early_stopping_patience: 2, warmup_steps: 0, ..config() }),
        &store,
        Start::Resume,
        0,
        Some(&held_out),
    );
    assert_eq!(resumed.result.unwrap().steps, summary.steps);
    assert_eq!(resumed.values, outcome.values);
}

#[test]
fn evaluation_is_a_mean_over_targets_whatever_the_batches() {
    let model = Bigram::new(false);
    let figures = |batch_size| {
        let rows = [vec![0, 1, 2, 3], vec![4, 0, 2, 1, 3], vec![1, 1]].map(encoded);
        let held_out = held_out(rows.to_vec(), batch_size);
        ready(evaluate(&model, &held_out, 3, &mut |_| Control::Continue)).unwrap().unwrap()
    };
    let (whole, halves) = (figures(3), figures(1));
    assert!((whole.eval_loss - halves.eval_loss).abs() < 1e-6);
    assert_eq!((whole.n_targets, whole.eval_token_accuracy), (8, halves.eval_token_accuracy));
    assert_eq!(whole.eval_perplexity, whole.eval_loss.exp());
    assert!(whole.eval_token_accuracy > 0.0 && whole.eval_token_accuracy < 1.0, "{whole:?}");
}
