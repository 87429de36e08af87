//! The loop on a bigram model, whose gradients have a closed form.

#![allow(clippy::unwrap_used)]

use super::checkpoint::CHECKPOINT;
use super::*;
use crate::config::{OptimizerKind, Run, TrainConfig};
use crate::data::batches::{BatchPlan, Batches};
use crate::data::{Batch, Encoded};
use crate::models::{AnyTensor, NamedTensors};
use crate::objectives::{EvalOutput, LossOutput, Trainee};
use crate::protocol::{Control, Event, TrainSummary};
use crate::store::memory::{MemoryStore, ready};
use crate::store::{HostTensor, Store};
use crate::{Error, Result};
use burn::tensor::{Device, Tensor};

const VOCABULARY: usize = 5;
/// A run with this seed trains with dropout, which differs between micro-batches.
const DROPOUT_SEED: u64 = 11;

/// logits = weight[previous] + bias, with `weight` `[vocabulary, vocabulary]` and `bias` `[vocabulary]`.
struct Bigram {
    values: NamedTensors,
    dropout: bool,
}

struct Counts {
    nll: f64,
    n_correct: f64,
    weight_grad: Vec<f64>,
    bias_grad: Vec<f64>,
}

impl Bigram {
    fn new(dropout: bool) -> Self {
        let value = |i: usize, j: usize| ((i * VOCABULARY + j) * 7 % 11) as f32 - 5.0;
        let weight =
            (0..VOCABULARY * VOCABULARY).map(|k| value(k / VOCABULARY, k % VOCABULARY) / 10.0).collect();
        Self { values: named(weight, vec![0.0; VOCABULARY]), dropout }
    }

    fn host(&self) -> (Vec<f32>, Vec<f32>) {
        let values = |name: &str| ready(self.values[name].to_host()).unwrap().values;
        (values("weight"), values("bias"))
    }

    fn count(&self, batch: &Batch, seed: Option<u64>) -> Counts {
        let (weight, bias) = self.host();
        let mut counts = Counts {
            nll: 0.0,
            n_correct: 0.0,
            weight_grad: vec![0.0; weight.len()],
            bias_grad: vec![0.0; bias.len()],
        };
        for k in 1..batch.input_ids.len() {
            let (previous, target) = (batch.input_ids[k - 1] as usize, batch.input_ids[k] as usize);
            let dropped = seed.is_some_and(|seed| (seed >> (k % 60)).is_multiple_of(4));
            let w = f64::from(batch.loss_weights[k]);
            if w == 0.0 || dropped {
                continue;
            }
            let logits: Vec<f64> = (0..VOCABULARY)
                .map(|j| f64::from(weight[previous * VOCABULARY + j]) + f64::from(bias[j]))
                .collect();
            let sum: f64 = logits.iter().map(|l| l.exp()).sum();
            counts.nll += w * (sum.ln() - logits[target]);
            let best = (0..VOCABULARY).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            counts.n_correct += f64::from(u8::from(best == target));
            for (j, logit) in logits.iter().enumerate() {
                let grad = w * (logit.exp() / sum - f64::from(u8::from(j == target)));
                counts.weight_grad[previous * VOCABULARY + j] += grad;
                counts.bias_grad[j] += grad;
            }
        }
        counts
    }
}

fn named(weight: Vec<f32>, bias: Vec<f32>) -> NamedTensors {
    let tensor = |shape: &[usize], values| {
        AnyTensor::from_host(HostTensor { shape: shape.to_vec(), values }, "test", &Device::flex()).unwrap()
    };
    NamedTensors::from([
        ("weight".to_string(), tensor(&[VOCABULARY, VOCABULARY], weight)),
        ("bias".to_string(), tensor(&[VOCABULARY], bias)),
    ])
}

impl Trainee for Bigram {
    fn trainable(&self) -> NamedTensors {
        self.values.clone()
    }

    fn set_trainable(&mut self, values: NamedTensors) -> Result<()> {
        self.values = values;
        Ok(())
    }

    fn total_params(&self) -> usize {
        1000
    }

    fn loss_and_grads(&self, batch: &Batch, denominator: f64, seed: u64) -> Result<LossOutput> {
        let counts = self.count(batch, self.dropout.then_some(seed));
        let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / denominator) as f32).collect();
        Ok(LossOutput {
            loss: Tensor::from_floats([(counts.nll / denominator) as f32], &Device::flex()),
            grads: named(mean(counts.weight_grad), mean(counts.bias_grad)),
        })
    }

    fn evaluate(&self, batch: &Batch) -> Result<EvalOutput> {
        let counts = self.count(batch, None);
        let scalar = |value: f64| Tensor::from_floats([value as f32], &Device::flex());
        Ok(EvalOutput { nll_sum: scalar(counts.nll), n_correct: scalar(counts.n_correct) })
    }
}

/// Ten rows of six tokens, two a batch.
fn batches(shuffle: bool) -> Batches {
    let tokens = |row: usize| (0..6).map(move |t| ((3 * row + 2 * t + row * t) % VOCABULARY) as u32);
    batches_of((0..10).map(|row| tokens(row).collect()), 2, shuffle)
}

fn batches_of(rows: impl Iterator<Item = Vec<u32>>, batch_size: usize, shuffle: bool) -> Batches {
    let encoded = |ids: Vec<u32>| Encoded { loss_weights: vec![1.0; ids.len()], ids, truncated: false };
    let plan = BatchPlan { batch_size, packing: false, max_length: 6, shuffle, seed: 3, pad_id: 0 };
    Batches::new(rows.map(encoded).collect(), plan).unwrap()
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
    held_out: Option<&Batches>,
) -> Outcome {
    let mut model = Bigram::new(run.seed == DROPOUT_SEED);
    let batches = batches(run.data.shuffle);
    let mut events = Vec::new();
    let mut emit = |event: Event| {
        let stop = matches!(&event, Event::Step(metrics) if metrics.step == stop_at);
        events.push(event);
        if stop { Control::Stop } else { Control::Continue }
    };
    let training = Training { run, batches: &batches, held_out, start };
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
fn resumed_equals_uninterrupted_bit_for_bit_with_every_optimizer() {
    use OptimizerKind::{Adafactor, Adamw, Lion, Muon, Sgd};
    for optimizer in [Adamw, Adafactor, Lion, Muon, Sgd] {
        let train =
            TrainConfig { optimizer, learning_rate: Some(0.02), eval_steps: 2, save_steps: 4, ..config() };
        let mut run = Run { seed: DROPOUT_SEED, ..run(train) };
        run.data.shuffle = true;
        let held_out = batches(false);
        let whole = MemoryStore::new();
        let expected = train_until(&run, &whole, Start::Fresh, 0, Some(&held_out));
        let summary = expected.result.unwrap();
        for stop_at in 1..6 {
            let store = MemoryStore::new();
            let stopped = train_until(&run, &store, Start::Fresh, stop_at, Some(&held_out));
            assert!(matches!(stopped.result, Err(Error::Interrupted(_))), "{:?}", stopped.result);
            let resumed = train_until(&run, &store, Start::Resume, 0, Some(&held_out));
            let first = resumed.events.iter().find_map(|event| match event {
                Event::Step(m) => Some(m.step),
                _ => None,
            });
            assert_eq!(first, Some(stop_at + 1));
            assert_eq!(metrics(&store), metrics(&whole), "{optimizer:?}, stopped after {stop_at}");
            assert_eq!(resumed.values, expected.values, "{optimizer:?}, stopped after {stop_at}");
            let resumed = resumed.result.unwrap();
            assert_eq!((resumed.train_loss, resumed.best_eval), (summary.train_loss, summary.best_eval));
        }
    }
}

#[test]
fn a_killed_run_makes_the_steps_since_its_checkpoint_again() {
    let run = Run { seed: DROPOUT_SEED, ..run(TrainConfig { save_steps: 2, ..config() }) };
    let whole = MemoryStore::new();
    let expected = train_until(&run, &whole, Start::Fresh, 0, None);
    // Killed after step 5: the newest checkpoint is of step 4, the metrics have a line too many and a torn one.
    let store = MemoryStore::new();
    _ = train_until(&run, &store, Start::Fresh, 5, None).result;
    let newest = checkpoints(&store).pop().unwrap();
    assert!(newest.contains("-00000005-"), "{newest}");
    ready(store.remove(&newest)).unwrap();
    ready(store.append(METRICS_KEY, b"{\"event\":\"step\",")).unwrap();
    ready(store.append("checkpoint.tmp.partial", b"torn")).unwrap();
    let resumed = train_until(&run, &store, Start::Resume, 0, None);
    assert_eq!(metrics(&store), metrics(&whole));
    assert_eq!(resumed.values, expected.values);
    assert_eq!(steps_of(&checkpoints(&store)), ["00000004", "00000006"]);
}

#[test]
fn a_damaged_checkpoint_is_skipped_with_a_note_and_costs_only_steps() {
    let run = run(TrainConfig { save_steps: 2, ..config() });
    let whole = MemoryStore::new();
    let expected = train_until(&run, &whole, Start::Fresh, 0, None);
    for damage in ["a flipped bit", "a torn end"] {
        let store = MemoryStore::new();
        _ = train_until(&run, &store, Start::Fresh, 4, None).result;
        let newest = checkpoints(&store).pop().unwrap();
        let mut bytes = ready(store.read_all(&newest, 1 << 20)).unwrap();
        let last = bytes.len() - 1;
        if damage == "a flipped bit" {
            bytes[last] ^= 1
        } else {
            bytes.truncate(last)
        }
        ready(store.write(&newest, &bytes)).unwrap();
        let resumed = train_until(&run, &store, Start::Resume, 0, None);
        let note = resumed.events.iter().find_map(|event| match event {
            Event::Note { message } => Some(message),
            _ => None,
        });
        assert!(note.is_some_and(|note| note.contains(&newest)), "{damage}: {note:?}");
        assert_eq!(metrics(&store), metrics(&whole), "{damage}");
        assert_eq!(resumed.values, expected.values, "{damage}");
    }
}

#[test]
fn where_every_checkpoint_is_damaged_the_run_does_not_begin_anew() {
    let store = MemoryStore::new();
    _ = train_until(&run(config()), &store, Start::Fresh, 2, None).result;
    for key in checkpoints(&store) {
        ready(store.write(&key, b"junk")).unwrap();
    }
    let before = metrics(&store);
    assert!(train_until(&run(config()), &store, Start::Resume, 0, None).result.is_err());
    assert_eq!(metrics(&store), before);
}

#[test]
fn other_settings_are_refused_by_name_and_free_ones_are_not() {
    let store = MemoryStore::new();
    _ = train_until(&run(config()), &store, Start::Fresh, 2, None).result;
    let other = Run { seed: 7, ..run(TrainConfig { learning_rate: None, max_steps: Some(9), ..config() }) };
    let error = train_until(&other, &store, Start::Resume, 0, None).result.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    for part in [
        "seed: 7 now",
        "train.learning_rate: unset now, but the run to resume; expected 0.1",
        "train.max_steps: 9 now",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let free = Run {
        out: "elsewhere".into(),
        device: "cpu".into(),
        ..run(TrainConfig { tensorboard: true, ..config() })
    };
    train_until(&free, &store, Start::Resume, 0, None).result.unwrap();
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
    let train = TrainConfig { learning_rate: Some(1e39), warmup_steps: 2, save_steps: 1, ..config() };
    let store = MemoryStore::new();
    let outcome = train_until(&run(train), &store, Start::Fresh, 0, None);
    let Err(Error::NotFinite { step, quantity, advice, .. }) = outcome.result else {
        panic!("{:?}", outcome.result)
    };
    // Step 1 runs at rate 0, step 2 blows the weights up, step 3 sees it.
    assert_eq!((step, quantity), (3, "loss"));
    assert!(advice.contains("train.learning_rate below 1e39"), "{advice}");
    assert_eq!(outcome.values, Bigram::new(false).host());
    assert_eq!(metrics(&store).len(), 2);
    assert_eq!(steps_of(&checkpoints(&store)), ["00000001"]);
}

#[test]
fn early_stopping_ends_with_the_best_values() {
    // Held-out rows unlike the training rows: learning makes them less likely, so the first evaluation stays the best.
    let held_out = batches_of(std::iter::once(vec![0; 6]), 1, false);
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
        let rows = [vec![0, 1, 2, 3], vec![4, 0, 2, 1, 3], vec![1, 1]];
        let batches = batches_of(rows.into_iter(), batch_size, false);
        ready(crate::eval::evaluate(&model, &batches, 3, &mut |_| Control::Continue)).unwrap().unwrap()
    };
    let (whole, halves) = (figures(3), figures(1));
    assert!((whole.eval_loss - halves.eval_loss).abs() < 1e-6);
    assert_eq!((whole.n_targets, whole.eval_token_accuracy), (8, halves.eval_token_accuracy));
    assert_eq!(whole.eval_perplexity, whole.eval_loss.exp());
    assert!(whole.eval_token_accuracy > 0.0 && whole.eval_token_accuracy < 1.0, "{whole:?}");
}

/// A store whose owner is killed, or whose disk is full, after a number of changes.
struct Failing<'s> {
    inner: &'s MemoryStore,
    changes_left: std::cell::Cell<usize>,
}

impl Failing<'_> {
    fn change(&self) -> Result<()> {
        let left = self.changes_left.get();
        self.changes_left.set(left.saturating_sub(1));
        if left == 0 {
            Err(Error::io("write", "disk", std::io::ErrorKind::StorageFull.into()))
        } else {
            Ok(())
        }
    }
}

impl Store for Failing<'_> {
    async fn size(&self, key: &str) -> Result<Option<u64>> {
        self.inner.size(key).await
    }
    async fn read(&self, key: &str, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        self.inner.read(key, range).await
    }
    async fn write(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.change()?;
        self.inner.write(key, bytes).await
    }
    async fn append(&self, key: &str, bytes: &[u8]) -> Result<()> {
        if self.change().is_err() {
            // An append may be cut short.
            self.inner.append(key, &bytes[..bytes.len() / 2]).await?;
            return Err(Error::io("write", "disk", std::io::ErrorKind::StorageFull.into()));
        }
        self.inner.append(key, bytes).await
    }
    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.change()?;
        self.inner.rename(from, to).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.list(prefix).await
    }
    async fn remove(&self, key: &str) -> Result<()> {
        self.change()?;
        self.inner.remove(key).await
    }
}

#[test]
fn a_run_killed_at_any_write_and_resumed_equals_one_that_was_not() {
    let train = TrainConfig { eval_steps: 2, save_steps: 3, early_stopping_patience: 9, ..config() };
    let run = Run { seed: DROPOUT_SEED, ..run(train) };
    let held_out = batches(false);
    let whole = MemoryStore::new();
    let expected = train_until(&run, &whole, Start::Fresh, 0, Some(&held_out));
    let mut n_killed = 0;
    loop {
        let store = MemoryStore::new();
        let failing = Failing { inner: &store, changes_left: n_killed.into() };
        let killed = train_until(&run, &failing, Start::Fresh, 0, Some(&held_out));
        if killed.result.is_ok() {
            break;
        }
        let resumed = train_until(&run, &store, Start::Resume, 0, Some(&held_out));
        assert_eq!(metrics(&store), metrics(&whole), "killed at change {n_killed}");
        assert_eq!(resumed.values, expected.values, "killed at change {n_killed}");
        assert_eq!(resumed.result.unwrap().best_eval, expected.result.as_ref().unwrap().best_eval);
        assert_eq!(steps_of(&checkpoints(&store)), steps_of(&checkpoints(&whole)));
        n_killed += 1;
    }
    assert!(n_killed > 40, "only {n_killed} changes were interrupted");
}
