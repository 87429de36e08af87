//! Weights of few bits: a step with them is a step with the same values in f32.

#![allow(clippy::unwrap_used)] // a test may fail

use super::models::{max_abs_diff, values};
use super::support::{device, folder, golden, json, ready};
use attune::config::WeightFormat;
use attune::data::Batch;
use attune::methods::{LoraConfig, MethodConfig};
use attune::models::{CausalLm, HeldBytes, Spec};
use attune::objectives::sft::{self, SftOptions};
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
use attune::store::{HostPacked, HostTensor, Store, safetensors};
use indexmap::IndexMap;

fn load(store: &MemoryStore, key: &str, weights: WeightFormat) -> CausalLm {
    let files = ready(ModelFiles::open(store, key)).unwrap();
    ready(CausalLm::load(&files, weights, &device(), &mut |_| {})).unwrap()
}

/// Loss and gradients of one step of a fresh adapter, its second factor not at zero.
fn step(mut model: CausalLm, gradient_checkpointing: bool) -> (f32, IndexMap<String, HostTensor>) {
    model.attach(&MethodConfig::Lora(LoraConfig::default()), 7).unwrap();
    let moved = model.trainable().into_iter().map(|(name, value)| {
        let mut host = values(value);
        host.values.iter_mut().enumerate().for_each(|(i, v)| *v += ((i * 37 % 19) as f32 - 9.0) * 1e-2);
        let value = attune::models::AnyTensor::from_host(host, &name, &device()).unwrap();
        (name, value)
    });
    let moved = moved.collect();
    model.set_trainable(moved).unwrap();
    let seq_len = 24;
    let batch = Batch {
        batch_size: 2,
        seq_len,
        input_ids: (0..48).map(|i| (i * i + 3) % 300).collect(),
        position_ids: (0..48).map(|i| i % seq_len as i32).collect(),
        segment_ids: vec![1; 48],
        loss_weights: vec![1.0; 48],
    };
    let options = SftOptions { gradient_checkpointing, ..SftOptions::default() };
    let output = sft::loss_and_grads(&model, &batch, 46.0, &options, 0).unwrap();
    let loss = ready(attune::models::read_vector(output.loss)).unwrap()[0];
    (loss, output.grads.into_iter().map(|(name, grad)| (name, values(grad))).collect())
}

fn assert_same_step(a: CausalLm, b: CausalLm) {
    for checkpointing in [false, true] {
        let (loss, grads) = step(a.clone(), checkpointing);
        let (expected_loss, expected) = step(b.clone(), checkpointing);
        assert!((loss - expected_loss).abs() <= 1e-5 * expected_loss, "{loss} is not {expected_loss}");
        assert_eq!(grads.len(), expected.len());
        for (name, grad) in grads {
            let expected = &expected[&name].values;
            let largest = expected.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
            let apart = max_abs_diff(&grad.values, expected);
            assert!(apart <= 1e-5 * largest.max(1e-3), "{name}: apart by {apart} of {largest}");
        }
    }
}

#[test]
fn weights_as_stored_make_the_same_step_as_in_f32() {
    let store = folder("gguf");
    let model = |weights| load(&store, "llama-Q8_0.gguf", weights);
    assert_same_step(model(WeightFormat::Stored), model(WeightFormat::F32));
}

#[test]
fn rounded_weights_make_the_same_step_as_their_values_in_f32() {
    type Round = fn(&[f32], [usize; 2]) -> Option<HostPacked>;
    let cases: [(WeightFormat, Round); 2] =
        [(WeightFormat::Q4, HostPacked::four), (WeightFormat::Q8, HostPacked::eight)];
    for (weights, round) in cases {
        let mut tensors = golden("models/llama/model.safetensors");
        for (_, tensor) in tensors.iter_mut().filter(|(name, _)| name.contains("_proj")) {
            let shape = [tensor.shape[0], tensor.shape[1]];
            tensor.values = round(&tensor.values, shape).unwrap().decode();
        }
        let rounded = MemoryStore::new()
            .with("config.json", serde_json::to_vec(&json("models/llama/config.json")).unwrap());
        let bytes = safetensors::to_bytes(&tensors, &safetensors::pytorch_metadata()).unwrap();
        ready(rounded.write("model.safetensors", &bytes)).unwrap();
        assert_same_step(load(&folder("models/llama"), "", weights), load(&rounded, "", WeightFormat::F32));
    }
}

#[test]
fn full_tuning_refuses_few_bits_and_bytes_are_counted_by_format() {
    let store = folder("gguf");
    let mut packed = load(&store, "llama-Q8_0.gguf", WeightFormat::Stored);
    let error = packed.attach(&MethodConfig::Full(Default::default()), 0).unwrap_err();
    assert!(error.to_string().contains("packed"), "{error}");
    let mut run = attune::config::Run { model: "m".into(), weights: WeightFormat::Q4, ..Default::default() };
    run.data.path = Some("rows.jsonl".into());
    run.validate().unwrap();
    run.method = MethodConfig::Full(Default::default());
    let error = run.validate().unwrap_err().to_string();
    assert!(error.contains("weights") && error.contains("full tuning"), "{error}");

    let files = ready(ModelFiles::open(&store, "llama-Q8_0.gguf")).unwrap();
    let held = HeldBytes::of(&files, &Spec::from_config(files.config()).unwrap());
    let [f32, stored, q8, q4] = [WeightFormat::F32, WeightFormat::Stored, WeightFormat::Q8, WeightFormat::Q4]
        .map(|weights| held.bytes(weights, true));
    assert_eq!((held.bytes(WeightFormat::Auto, true), held.bytes(WeightFormat::Auto, false)), (stored, f32));
    // Eight bits and a scale of 32 bits for each 32 values: 9 bits of 32.
    assert!(stored < f32 * 10 / 32 && q8 == stored && q4 < q8, "{f32} {stored} {q8} {q4}");
}
