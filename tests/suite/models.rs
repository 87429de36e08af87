//! Models, gradients and training against transformers, PEFT and TRL: the numbers that are attune's credibility.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::support::{device, folder, golden, json, ready};
use attune::config::{Run, SchedulerKind, WeightFormat};
use attune::data::batches::{BatchPlan, Batches};
use attune::data::{Batch, Encoded};
use attune::methods::{FullConfig, LoraConfig, MethodConfig};
use attune::models::{AnyTensor, CausalLm, NamedTensors, Pass};
use attune::objectives::sft::{self, Sft, SftOptions};
use attune::protocol::{Control, Event};
use attune::store::HostTensor;
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
use attune::train::{self, Start, Training};
use serde_json::Value;

const MODELS: [&str; 8] =
    ["llama", "llama-tied", "llama3-rope", "llama-sharded", "qwen2", "qwen3", "gemma3", "gpt2"];

/// What rounding may change; the CPU agrees far closer, other devices are held to the same bound.
const LOGITS_TOLERANCE: f32 = 1e-4;

pub fn load(name: &str) -> CausalLm {
    let store = folder(&format!("models/{name}"));
    let files = ready(ModelFiles::open(&store, "")).unwrap();
    ready(CausalLm::load(&files, WeightFormat::Auto, &device(), &mut |_| {})).unwrap()
}

fn ints(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The two padded rows of a golden file; targets as its labels state.
fn golden_batch(golden: &Value) -> Batch {
    let rows: Vec<Vec<i64>> = golden["input_ids"].as_array().unwrap().iter().map(ints).collect();
    let masks = golden["attention_mask"].as_array().unwrap().iter().flat_map(ints);
    let labels = golden["labels"].as_array().unwrap().iter().flat_map(ints);
    let (batch_size, seq_len) = (rows.len(), rows[0].len());
    Batch {
        batch_size,
        seq_len,
        input_ids: rows.into_iter().flatten().map(|id| id as i32).collect(),
        position_ids: (0..batch_size).flat_map(|_| 0..seq_len as i32).collect(),
        segment_ids: masks.map(|m| m as i32).collect(),
        loss_weights: labels.map(|l| if l == -100 { 0.0 } else { 1.0 }).collect(),
    }
}

/// Largest |a − b|.
pub fn max_abs_diff(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

pub fn values(tensor: AnyTensor) -> HostTensor {
    ready(tensor.to_host()).unwrap()
}

/// Compares the logits of the golden rows, padding left out.
#[track_caller]
fn compare_logits(model: &CausalLm, rows: &Value, expected: &[f32], name: &str) {
    let batch = golden_batch(rows);
    let logits = values(AnyTensor::Matrix(model.logits(&batch, Pass::INFERENCE).unwrap()));
    let vocab = logits.shape[1];
    for (token, segment) in batch.segment_ids.iter().enumerate().filter(|(_, s)| **s != 0) {
        let row = token * vocab..(token + 1) * vocab;
        let diff = max_abs_diff(&logits.values[row.clone()], &expected[row]);
        assert!(
            diff <= LOGITS_TOLERANCE,
            "{name}: logits of token {token} (segment {segment}) differ by {diff}"
        );
    }
}

#[test]
fn logits_equal_transformers() {
    for name in MODELS {
        let rows = json(&format!("models/{name}/golden.json"));
        let expected = &golden(&format!("models/{name}/golden.safetensors"))["logits"].values;
        compare_logits(&load(name), &rows, expected, name);
    }
}

/// Settings, names, orientation and offsets of a GGUF file all show in its logits.
#[test]
fn logits_of_gguf_files_equal_transformers() {
    let store = folder("gguf");
    let own = [("llama-Q8_0", "llama"), ("gemma3-F32", "gemma3")];
    let shared = ["llama3-rope", "qwen2", "qwen3", "gpt2"].map(|model| (format!("{model}-F32"), model));
    let own = own.map(|(name, model)| (name, model, format!("gguf/{name}.golden.safetensors")));
    let shared =
        shared.iter().map(|(name, model)| (&**name, *model, format!("models/{model}/golden.safetensors")));
    for (name, model, expected) in own.into_iter().chain(shared) {
        let files = ready(ModelFiles::open(&store, &format!("{name}.gguf"))).unwrap();
        let loaded = ready(CausalLm::load(&files, WeightFormat::Auto, &device(), &mut |_| {})).unwrap();
        let rows = json(&format!("models/{model}/golden.json"));
        compare_logits(&loaded, &rows, &golden(&expected)["logits"].values, name);
    }
}

#[test]
fn loss_and_every_gradient_equal_transformers() {
    for name in ["llama", "llama-tied", "qwen2", "qwen3", "gemma3", "gpt2"] {
        let expected = json(&format!("models/{name}/golden.json"));
        let batch = golden_batch(&expected);
        let mut model = load(name);
        assert_eq!(model.total_params() as u64, expected["n_params"].as_u64().unwrap(), "{name}");
        model.attach(&MethodConfig::Full(FullConfig {}), 0).unwrap();
        for gradient_checkpointing in [false, true] {
            let options = SftOptions { gradient_checkpointing, ..SftOptions::default() };
            let output = sft::loss_and_grads(&model, &batch, batch.target_weight(), &options, 0).unwrap();
            let loss = values(AnyTensor::Vector(output.loss)).values[0];
            let expected_loss = expected["loss"].as_f64().unwrap() as f32;
            assert!(
                (loss - expected_loss).abs() <= 1e-4 * expected_loss,
                "{name}: loss {loss}, not {expected_loss}"
            );
            let tensors = golden(&format!("models/{name}/golden.safetensors"));
            let mut n_compared = 0;
            for (parameter, gradient) in
                tensors.iter().filter_map(|(k, v)| Some((k.strip_prefix("grad.")?, v)))
            {
                let found = output
                    .grads
                    .get(parameter)
                    .unwrap_or_else(|| panic!("{name}: no gradient of {parameter}"));
                let found = values(found.clone());
                assert_eq!(found.shape, gradient.shape, "{name}: {parameter}");
                let diff = max_abs_diff(&found.values, &gradient.values);
                assert!(diff <= 1e-4, "{name}: gradient of {parameter} differs by {diff}");
                n_compared += 1;
            }
            assert_eq!(n_compared, output.grads.len(), "{name}: every trained parameter is compared");
        }
    }
}

/// The likeliest tokens after some prompts, one by one through the cache, all prompts together.
fn greedy(model: &CausalLm, prompts: &[&[i64]], n_tokens: usize) -> Vec<Vec<i64>> {
    let mut cache = model.cache(prompts.len());
    let mut next: Vec<Vec<i32>> =
        prompts.iter().map(|prompt| prompt.iter().map(|&id| id as i32).collect()).collect();
    let mut found = vec![Vec::new(); prompts.len()];
    for _ in 0..n_tokens {
        let rows: Vec<&[i32]> = next.iter().map(Vec::as_slice).collect();
        let logits = values(AnyTensor::Matrix(model.extend(&rows, &mut cache, Pass::INFERENCE).unwrap()));
        let rows = logits.values.chunks_exact(model.spec.vocab_size);
        for (logits, (next, found)) in rows.zip(next.iter_mut().zip(&mut found)) {
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            *next = vec![best as i32];
            found.push(best as i64);
        }
    }
    found
}

#[test]
fn a_cache_is_continued_by_a_row_for_each_sequence() {
    let model = load("llama");
    let mut cache = model.cache(2);
    let error = model.extend(&[&[1]], &mut cache, Pass::INFERENCE).unwrap_err();
    assert!(error.to_string().contains("1 rows for a cache of 2 sequences"), "{error}");
    assert!(model.extend(&[&[1], &[2]], &mut cache, Pass::INFERENCE).is_ok(), "the cache is as it was");
}

#[test]
fn greedy_continuations_with_the_cache_equal_transformers() {
    for name in MODELS {
        let expected = json(&format!("models/{name}/golden.json"));
        let model = load(name);
        let prompt = ints(&expected["prompt"]);
        let found = greedy(&model, &[&prompt], 12);
        assert_eq!(found[0], ints(&expected["new_ids"]), "{name}");
        // Beside others, shorter and longer.
        let (first, longer) = (&prompt[..1], [&prompt[..], &prompt].concat());
        let together = greedy(&model, &[first, &prompt, &longer], 12);
        assert_eq!(together[1], found[0], "{name}");
        assert_eq!(together[0], greedy(&model, &[first], 12)[0], "{name}");
    }
}

/// The rows of every curve.
fn curve_rows() -> Vec<Encoded> {
    let rows = json("curves/rows.json");
    let row = |row: &Value| Encoded {
        ids: ints(&row["ids"]).into_iter().map(|id| id as u32).collect(),
        loss_weights: ints(&row["loss_mask"]).into_iter().map(|w| w as f32).collect(),
        truncated: false,
    };
    rows["rows"].as_array().unwrap().iter().map(row).collect()
}

fn batches(rows: Vec<Encoded>, batch_size: usize, packing: bool) -> Batches {
    let plan = BatchPlan { batch_size, packing, max_length: 64, shuffle: false, seed: 0, pad_id: 0 };
    Batches::new(rows, plan).unwrap()
}

fn attach_initial_adapter(model: &mut CausalLm, name: &str) {
    let config = LoraConfig { rank: 4, alpha: 8.0, ..LoraConfig::default() };
    let tensors = golden(&format!("curves/{name}/adapter_init/adapter_model.safetensors"));
    model.attach_saved(&config, tensors).unwrap();
}

/// Ten steps by the real training loop.
fn curve(model: CausalLm, expected: &Value, change: impl Fn(&mut Run)) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut run = Run { model: "tiny".into(), ..Run::default() };
    run.train.learning_rate = Some(expected["learning_rate"].as_f64().unwrap());
    run.train.warmup_steps = 2;
    run.train.max_steps = Some(10);
    run.train.batch_size = 2;
    run.train.gradient_accumulation_steps = 2;
    run.train.weight_decay = 0.01;
    run.data.shuffle = false;
    change(&mut run);
    let options = SftOptions {
        label_smoothing: run.train.label_smoothing,
        gradient_checkpointing: run.train.gradient_checkpointing,
        neftune_alpha: 0.0,
    };
    let mut trainee = Sft { model, options };
    let batches = batches(curve_rows(), 2, false);
    let training =
        Training { run: &run, batches: &batches, held_out: None, samples: None, start: Start::Fresh };
    let (mut losses, mut norms, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    let mut collect = |event| {
        if let Event::Step(step) = event {
            losses.push(step.loss);
            norms.push(step.grad_norm);
            rates.push(step.lr);
        }
        Control::Continue
    };
    ready(train::train(&mut trainee, training, &MemoryStore::new(), &mut collect)).unwrap();
    (losses, norms, rates)
}

fn compare_curve(what: &str, found: (Vec<f64>, Vec<f64>, Vec<f64>), expected: &Value) {
    for (quantity, found) in [("loss", found.0), ("grad_norm", found.1), ("lr", found.2)] {
        let expected = floats(&expected[quantity]);
        assert_eq!(found.len(), expected.len(), "{what}: {quantity}");
        for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let close = (found - expected).abs() <= 1e-4 * expected.abs() + 1e-12;
            assert!(close, "{what}: {quantity} of step {} is {found}, not {expected}", step + 1);
        }
    }
}

#[test]
fn ten_steps_of_lora_equal_peft() {
    for name in MODELS {
        let expected = &json(&format!("curves/{name}/curves.json"))["lora"];
        let mut model = load(name);
        attach_initial_adapter(&mut model, name);
        compare_curve(&format!("{name} lora"), curve(model, expected, |_| {}), expected);
    }
}

#[test]
fn ten_steps_of_full_tuning_equal_transformers() {
    for name in MODELS {
        let expected = &json(&format!("curves/{name}/curves.json"))["full"];
        let mut model = load(name);
        model.attach(&MethodConfig::Full(FullConfig {}), 0).unwrap();
        compare_curve(&format!("{name} full"), curve(model, expected, |_| {}), expected);
    }
}

#[test]
fn label_smoothing_and_a_cosine_equal_transformers() {
    let expected = &json("curves/llama/curves.json")["lora_cosine_smoothed"];
    for gradient_checkpointing in [false, true] {
        let mut model = load("llama");
        attach_initial_adapter(&mut model, "llama");
        let found = curve(model, expected, |run| {
            run.train.lr_scheduler = SchedulerKind::Cosine;
            run.train.label_smoothing = 0.1;
            run.train.gradient_checkpointing = gradient_checkpointing;
        });
        compare_curve("llama lora_cosine_smoothed", found, expected);
    }
}

#[test]
fn the_device_computes_as_the_cpu_does() {
    attune::native::block_on(attune::ops::self_test(&device())).unwrap();
}

#[test]
fn packed_rows_have_the_loss_they_have_apart() {
    for name in MODELS {
        let expected = &json(&format!("curves/{name}/curves.json"))["packed"];
        let rows = curve_rows();
        let picked: Vec<Encoded> =
            ints(&expected["rows"]).into_iter().map(|i| rows[i as usize].clone()).collect();
        let model = load(name);
        for packing in [true, false] {
            let batch = batches(picked.clone(), 2, packing).batch(0, 0);
            assert_eq!(packing, batch.segment_ids.contains(&2), "{name}");
            let output = sft::evaluate(&model, &batch, None).unwrap();
            let loss = f64::from(values(AnyTensor::Vector(output.nll_sum)).values[0]) / batch.target_weight();
            let expected = expected["loss"].as_f64().unwrap();
            assert!(
                (loss - expected).abs() <= 1e-4 * expected,
                "{name}, packing {packing}: {loss}, not {expected}"
            );
        }
    }
}

#[test]
fn a_fresh_adapter_changes_nothing_and_its_size_is_known() {
    let batch = golden_batch(&json("models/llama/golden.json"));
    let mut model = load("llama");
    let base = values(AnyTensor::Matrix(model.logits(&batch, Pass::INFERENCE).unwrap()));
    model.attach(&MethodConfig::Lora(LoraConfig { rank: 4, ..LoraConfig::default() }), 1).unwrap();
    let tuned = values(AnyTensor::Matrix(model.logits(&batch, Pass::INFERENCE).unwrap()));
    assert_eq!(base, tuned);
    // rank · (d_in + d_out) over q, k, v, o, gate, up, down of two layers.
    let per_layer = (32 + 32) + (32 + 16) + (32 + 16) + (32 + 32) + 3 * (32 + 64);
    assert_eq!(model.trainable_params(), 4 * 2 * per_layer);
}

#[test]
fn dropout_depends_on_the_seed_alone_and_checkpointing_repeats_it() {
    let batch = golden_batch(&json("models/llama/golden.json"));
    let mut model = load("llama");
    let config = LoraConfig { rank: 4, alpha: 8.0, dropout: 0.5, ..LoraConfig::default() };
    model.attach_saved(&config, golden("adapters/llama-lora/adapter_model.safetensors")).unwrap();
    let run = |seed, gradient_checkpointing| -> (f32, NamedTensors) {
        let options = SftOptions { gradient_checkpointing, ..SftOptions::default() };
        let output = sft::loss_and_grads(&model, &batch, 1.0, &options, seed).unwrap();
        (values(AnyTensor::Vector(output.loss)).values[0], output.grads)
    };
    let (loss, grads) = run(1, false);
    assert_eq!(loss, run(1, false).0);
    assert_ne!(loss, run(2, false).0);
    let (again, recomputed) = run(1, true);
    assert!((loss - again).abs() <= 1e-5 * loss);
    for (name, gradient) in grads {
        let diff = max_abs_diff(&values(gradient).values, &values(recomputed[&name].clone()).values);
        assert!(diff <= 1e-4, "{name}: {diff}");
    }
}

/// The whole way on the real model, where it is at hand: GGUF, tokenizer, chat template, cache, greedy choice.
///
/// `ATTUNE_SMOLLM2` names the file; `cargo xtask test` fetches it once and sets it.
#[test]
fn smollm2_continues_as_in_transformers() {
    let Ok(path) = std::env::var("ATTUNE_SMOLLM2") else {
        println!("skipped: ATTUNE_SMOLLM2 names no file");
        return;
    };
    let path = std::path::Path::new(&path);
    let store = attune::native::FileStore::new(path.parent().unwrap());
    let files = ready(ModelFiles::open(&store, path.file_name().unwrap().to_str().unwrap())).unwrap();
    let tokenizer = attune::tokenizer::Tokenizer::from_files(files.tokenizer().unwrap()).unwrap();
    let model = ready(CausalLm::load(&files, WeightFormat::Auto, &device(), &mut |_| {})).unwrap();
    let expected = json("smollm2.json");
    for case in expected["generations"].as_array().unwrap() {
        let found = &greedy(&model, &[&ints(&case["ids"])], 16)[0];
        assert_eq!(*found, ints(&case["new_ids"]), "{}", case["prompt"]);
        if let Some(prompt) = case["prompt"].as_str() {
            let ids = tokenizer.encode(prompt, attune::tokenizer::AddSpecial::No).unwrap();
            assert_eq!(
                ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(),
                ints(&case["ids"]),
                "{prompt}"
            );
        }
    }
    for case in expected["top_logits"].as_array().unwrap() {
        let ids =
            tokenizer.encode(case["prompt"].as_str().unwrap(), attune::tokenizer::AddSpecial::No).unwrap();
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        let logits =
            values(AnyTensor::Matrix(model.extend(&[&ids], &mut model.cache(1), Pass::INFERENCE).unwrap()))
                .values;
        for (id, expected) in ints(&case["top_ids"]).into_iter().zip(floats(&case["top_logits"])) {
            let diff = (f64::from(logits[id as usize]) - expected).abs();
            assert!(diff <= 1e-3, "{}: logit of {id} differs by {diff}", case["prompt"]);
        }
    }
}
