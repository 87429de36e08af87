//! Estimates against what is counted and measured.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::models::load;
use crate::program::done;
use crate::support::fixtures;
use attune::config::{OptimizerKind, Precision, Run};
use attune::estimate::{Kernels, Known, Rate, RowSize, estimate, flop_per_token};
use attune::methods::{FullConfig, LoraConfig, MethodConfig, TargetModules};
use attune::models::{AnyTensor, CausalLm, Spec};
use attune::protocol::{Estimate, Memory, RateFrom};
use attune::store::{HostTensor, safetensors};
use attune::train::Optimizer;
use indexmap::IndexMap;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

const ROWS: [RowSize; 4] = [RowSize { tokens: 40, targets: 10 }; 4];

fn known<'a>(spec: &'a Spec, rows: &'a [RowSize]) -> Known<'a> {
    let rate = Some(Rate { flop_per_sec: 1e9, from: RateFrom::Steps });
    Known { spec, rows, held_out: None, held: None, kernels: Kernels::Cpu, rate, limit_bytes: None }
}

fn elements(tensors: impl IntoIterator<Item = AnyTensor>) -> u64 {
    tensors.into_iter().map(|tensor| tensor.numel() as u64).sum()
}

fn full() -> MethodConfig {
    MethodConfig::Full(FullConfig::default())
}

/// Elements that the optimizer remembers after one step.
fn remembered(model: &CausalLm, run: &Run) -> u64 {
    let mut optimizer = Optimizer::new(&run.train);
    optimizer.step(1e-3, model.trainable(), model.trainable()).unwrap();
    elements(optimizer.state().into_values())
}

#[test]
fn weights_adapters_and_optimizers_are_those_counted() {
    let lora = |targets: &[&str], saved: &[&str]| {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let target_modules =
            if targets.is_empty() { TargetModules::AllLinear } else { TargetModules::Names(names(targets)) };
        MethodConfig::Lora(LoraConfig {
            target_modules,
            modules_to_save: names(saved),
            ..LoraConfig::default()
        })
    };
    for name in ["llama", "llama-tied", "qwen2", "qwen3", "gemma3", "gpt2"] {
        let some = if name == "gpt2" { "c_attn" } else { "v_proj" };
        let base = load(name);
        for method in [lora(&[], &[]), lora(&[some], &[]), lora(&[], &["lm_head"]), full()] {
            for optimizer in [
                OptimizerKind::Adamw,
                OptimizerKind::Adafactor,
                OptimizerKind::Lion,
                OptimizerKind::Muon,
                OptimizerKind::Sgd,
            ] {
                let mut run = Run { method: method.clone(), ..Run::default() };
                run.train.optimizer = optimizer;
                let mut model = base.clone();
                model.attach(&method, 0).unwrap();
                let found = estimate(known(&base.spec, &ROWS), &run).unwrap().memory;
                let trained = model.trainable_params() as u64;
                let expected = Memory {
                    weights: 4 * base.total_params() as u64,
                    adapter: if method == full() { 0 } else { 4 * trained },
                    kept: 4 * trained,
                    optimizer: 4 * remembered(&model, &run),
                    ..found
                };
                assert_eq!(found, expected, "{name}, {method:?}, {optimizer:?}");
            }
        }
    }
}

#[test]
fn gpus_keep_probabilities_where_attention_takes_steps() {
    let spec = load("llama").spec;
    let activations = |kernels, precision, tokens| {
        let rows = [RowSize { tokens, targets: 10 }; 4];
        let mut run = Run { precision, ..Run::default() };
        run.data.max_length = 1024;
        estimate(Known { kernels, ..known(&spec, &rows) }, &run).unwrap().memory.activations
    };
    let grows = |kernels, precision| {
        activations(kernels, precision, 1024) as f64 / activations(kernels, precision, 512) as f64
    };
    assert!(grows(Kernels::Gpu, Precision::F32) < 2.1, "as the tokens");
    assert!(grows(Kernels::Gpu, Precision::Bf16) > 2.5, "as their pairs");
    assert!(grows(Kernels::Program, Precision::F32) > 2.5, "as their pairs");
}

const HIDDEN: usize = 256;
const LAYERS: usize = 6;

/// A Llama in which a batch costs more than anything else, as real ones do, and small enough for a test.
fn config() -> Value {
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(fixtures().join("models/llama/config.json")).unwrap()).unwrap();
    config["hidden_size"] = json!(HIDDEN);
    config["intermediate_size"] = json!(3 * HIDDEN);
    config["num_hidden_layers"] = json!(LAYERS);
    config["head_dim"] = json!(32);
    config["num_attention_heads"] = json!(8);
    config["num_key_value_heads"] = json!(4);
    config["vocab_size"] = json!(8192);
    config["tie_word_embeddings"] = json!(true);
    config
}

fn write_model(folder: &Path) {
    let mut tensors = IndexMap::new();
    let mut add = |name: String, shape: &[usize]| {
        let n = shape.iter().product::<usize>();
        let values = (0..n).map(|i| ((i * 7919 % 1013) as f32 / 1013.0 - 0.5) * 0.05).collect();
        tensors.insert(name, HostTensor { shape: shape.to_vec(), values });
    };
    add("model.embed_tokens.weight".into(), &[8192, HIDDEN]);
    add("model.norm.weight".into(), &[HIDDEN]);
    for layer in 0..LAYERS {
        let shapes: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
            ("self_attn.q_proj", &[256, HIDDEN]),
            ("self_attn.k_proj", &[128, HIDDEN]),
            ("self_attn.v_proj", &[128, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, 256]),
            ("mlp.gate_proj", &[3 * HIDDEN, HIDDEN]),
            ("mlp.up_proj", &[3 * HIDDEN, HIDDEN]),
            ("mlp.down_proj", &[HIDDEN, 3 * HIDDEN]),
        ];
        shapes.iter().for_each(|(name, shape)| add(format!("model.layers.{layer}.{name}.weight"), shape));
    }
    std::fs::create_dir(folder).unwrap();
    let bytes = safetensors::to_bytes(&tensors, &safetensors::pytorch_metadata()).unwrap();
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    std::fs::write(folder.join("config.json"), config().to_string()).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixtures().join("tokenizer").join(name), folder.join(name)).unwrap();
    }
}

/// What the estimate may be off by: allocators and threads have buffers of their own.
const TOLERANCE: f64 = 0.12;

#[test]
fn peaks_are_those_of_processes() {
    let dir = TempDir::new().unwrap();
    write_model(&dir.path().join("made"));
    for case in [
        "--batch 8 --seq 128",
        "--batch 2 --seq 512",
        "--batch 8 --seq 128 --gradient-checkpointing",
        "--batch 8 --seq 128 --dropout 0.1",
        "--batch 8 --seq 128 --method full",
    ] {
        let arguments = format!("bench-step --model made --device cpu --steps 2 --warmup 0 {case}");
        let found: Value = serde_json::from_str(done(dir.path(), &arguments).trim()).unwrap();
        // Only Linux tells.
        let Some(mib) = found["work_peak_rss_mib"].as_f64() else { return };
        let measured = mib * 1024.0 * 1024.0;
        let estimate: Estimate = serde_json::from_value(found["estimate"].clone()).unwrap();
        let ratio = estimate.peak_bytes as f64 / measured;
        assert!(
            (ratio - 1.0).abs() <= TOLERANCE,
            "{case}: {ratio:.3} of {measured} bytes, {:?}",
            estimate.memory
        );
    }
}

#[test]
fn more_is_needed_for_more_and_advice_is_what_was_tried() {
    let spec = Spec::from_config(&config()).unwrap();
    let rows = [RowSize { tokens: 500, targets: 100 }; 64];
    let peak = |run: &Run| estimate(known(&spec, &rows), run).unwrap().peak_bytes;
    let run = Run::default();
    let mut smaller = run.clone();
    smaller.train.batch_size = 4;
    // The same step from two batches keeps their sum of gradients.
    smaller.train.gradient_accumulation_steps = 2;
    let mut checkpointed = run.clone();
    checkpointed.train.gradient_checkpointing = true;
    let mut all = Run { method: full(), ..run.clone() };
    assert!(peak(&smaller) < peak(&run) && peak(&checkpointed) < peak(&smaller) && peak(&run) < peak(&all));

    let limited = |run: &Run, limit_bytes| {
        estimate(Known { limit_bytes: Some(limit_bytes), ..known(&spec, &rows) }, run).unwrap()
    };
    assert_eq!(limited(&run, peak(&run)).advice, []);
    let advice = limited(&run, peak(&smaller)).advice;
    assert!(!advice.is_empty() && advice.iter().all(|advice| advice.fits), "{advice:?}");
    let batch = advice.iter().find(|advice| advice.changes[0].0 == "train.batch_size").unwrap();
    let expected = [("train.batch_size", "4"), ("train.gradient_accumulation_steps", "2")];
    assert_eq!(batch.changes, expected.map(|(key, value)| (key.to_string(), value.to_string())));
    assert_eq!(batch.peak_bytes, peak(&smaller));

    // Where nothing alone is enough all of it is offered, and it is said whether that is.
    all.train.batch_size = 64;
    let advice = limited(&all, peak(&run) / 100).advice;
    assert_eq!(advice.len(), 1);
    assert!(!advice[0].fits && advice[0].changes.iter().any(|(key, _)| key == "method.kind"), "{advice:?}");
}

#[test]
fn work_follows_tokens_and_time_follows_work() {
    let spec = Spec::from_config(&config()).unwrap();
    let rows = [RowSize { tokens: 128, targets: 127 }; 16];
    let time = |run: &Run| estimate(known(&spec, &rows), run).unwrap().time.unwrap();
    let mut run = Run::default();
    run.train.epochs = 2.0;
    let of_lora = time(&run);
    assert_eq!(of_lora.total_steps, 4);
    assert!((of_lora.secs - 4.0 * of_lora.flop_per_step / 1e9).abs() < 1e-9 * of_lora.secs);
    let per_token = flop_per_token(known(&spec, &rows), &run).unwrap().unwrap();
    assert!((per_token * 8.0 * 128.0 - of_lora.flop_per_step).abs() < 1e-6 * of_lora.flop_per_step);
    // Forward and backward through the frozen layers, 2 each by token and parameter; the rest is less.
    let linear = LAYERS as f64 * (2.0 * 256.0 * 256.0 + 2.0 * 256.0 * 128.0 + 9.0 * 256.0 * 256.0);
    assert!(per_token > 4.0 * linear && per_token < 8.0 * (linear + 8192.0 * 256.0), "{per_token}");
    let checkpointed = {
        let mut run = run.clone();
        run.train.gradient_checkpointing = true;
        time(&run).secs
    };
    assert!(checkpointed > 1.15 * of_lora.secs && checkpointed < 1.6 * of_lora.secs);
    // A quarter held out leaves twelve rows: two steps an epoch, and evaluations.
    run.data.eval_fraction = 0.25;
    let held_out = time(&run);
    assert_eq!(held_out.total_steps, 4);
    assert!(held_out.secs > of_lora.secs);
    assert!(estimate(known(&spec, &[]), &run).unwrap().time.is_none(), "no rows, no time");
}

#[test]
fn what_no_machine_holds_is_refused_not_counted() {
    let base = load("llama");
    let mut run = Run::default();
    run.data.max_length = 1_000_000_000;
    run.train.batch_size = 1_000_000_000;
    let refused = |spec: &Spec, run: &Run| estimate(known(spec, &[]), run).unwrap_err().to_string();
    assert!(refused(&base.spec, &run).starts_with("data.max_length: a batch of rows this long"));
    // Rows that are there are as long as they are.
    run.train.batch_size = 8;
    assert!(estimate(known(&base.spec, &ROWS), &run).is_ok());

    let mut spec = base.spec.clone();
    (spec.hidden_size, spec.intermediate_size) = (1 << 24, 1 << 24);
    spec.layers = vec![spec.layers[0].clone(); 1 << 16];
    assert!(refused(&spec, &Run::default()).starts_with("model: "));
}

#[test]
fn an_adapter_on_the_head_is_refused_in_the_words_of_training() {
    let mut base = load("llama");
    let lora = LoraConfig {
        target_modules: TargetModules::Names(vec!["q_proj".into(), "lm_head".into()]),
        ..LoraConfig::default()
    };
    let run = Run { method: MethodConfig::Lora(lora), ..Run::default() };
    let foreseen = estimate(known(&base.spec, &ROWS), &run).unwrap_err().to_string();
    assert!(foreseen.contains("modules_to_save"), "{foreseen}");
    assert_eq!(base.attach(&run.method, 1).unwrap_err().to_string(), foreseen);
}
