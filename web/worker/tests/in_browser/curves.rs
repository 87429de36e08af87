//! Ten steps against PEFT's and transformers' numbers, which `tests/suite/models.rs` compares natively.

use crate::{fixture, in_memory, tiny_llama};
use attune::config::Run;
use attune::data::Encoded;
use attune::data::batches::{BatchPlan, Batches};
use attune::device;
use attune::methods::{FullConfig, LoraConfig, MethodConfig};
use attune::models::CausalLm;
use attune::objectives::sft::{Sft, SftOptions};
use attune::ops;
use attune::protocol::{Control, Event, StepMetrics};
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
use attune::store::safetensors;
use attune::train::{self, Start, Training};
use serde_json::Value;
use wasm_bindgen_test::wasm_bindgen_test;

/// What the native tests allow.
const TOLERANCE: f64 = 1e-4;

type Figure = fn(&StepMetrics) -> f64;

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn rows() -> Vec<Encoded> {
    let rows = json(fixture!("curves/rows.json"));
    let row = |row: &Value| Encoded {
        ids: floats(&row["ids"]).into_iter().map(|id| id as u32).collect(),
        loss_weights: floats(&row["loss_mask"]).into_iter().map(|weight| weight as f32).collect(),
        truncated: false,
    };
    rows["rows"].as_array().unwrap().iter().map(row).collect()
}

async fn model(device: &str) -> CausalLm {
    let store = in_memory(&tiny_llama());
    let files = ModelFiles::open(&store, "").await.unwrap();
    CausalLm::load(&files, attune::config::WeightFormat::Auto, &device::open(device).unwrap(), &mut |_| {})
        .await
        .unwrap()
}

async fn lora(device: &str) -> CausalLm {
    let mut model = model(device).await;
    let config = LoraConfig { rank: 4, alpha: 8.0, ..LoraConfig::default() };
    let adapter = fixture!("curves/llama/adapter_init/adapter_model.safetensors");
    model.attach_saved(&config, safetensors::from_bytes(adapter, "adapter").unwrap().0).unwrap();
    model
}

/// Trains as the curve `name` was made, and compares every step.
async fn compare(model: CausalLm, name: &str) {
    let expected = &json(fixture!("curves/llama/curves.json"))[name];
    let mut run = Run { model: "tiny".into(), ..Run::default() };
    run.train.learning_rate = expected["learning_rate"].as_f64();
    run.train.warmup_steps = 2;
    run.train.max_steps = Some(10);
    run.train.batch_size = 2;
    run.train.gradient_accumulation_steps = 2;
    run.train.weight_decay = 0.01;
    run.data.shuffle = false;
    let plan =
        BatchPlan { batch_size: 2, packing: false, max_length: 64, shuffle: false, seed: 0, pad_id: 0 };
    let batches = Batches::new(rows(), plan).unwrap();
    let training =
        Training { run: &run, batches: &batches, held_out: None, samples: None, start: Start::Fresh };
    let mut steps: Vec<StepMetrics> = Vec::new();
    let mut collect = |event| {
        if let Event::Step(step) = event {
            steps.push(step);
        }
        Control::Continue
    };
    let mut trainee = Sft { model, options: SftOptions::default() };
    train::train(&mut trainee, training, &MemoryStore::new(), &mut collect).await.unwrap();
    let found: [(&str, Figure); 3] =
        [("loss", |step| step.loss), ("grad_norm", |step| step.grad_norm), ("lr", |step| step.lr)];
    for (quantity, of) in found {
        let expected = floats(&expected[quantity]);
        assert_eq!(steps.len(), expected.len());
        for (step, expected) in steps.iter().zip(expected) {
            let close = (of(step) - expected).abs() <= TOLERANCE * expected.abs() + 1e-12;
            assert!(close, "{name}: {quantity} of step {} is {}, not {expected}", step.step, of(step));
        }
    }
}

#[wasm_bindgen_test]
async fn the_cpu_passes_its_self_test() {
    ops::self_test(&device::open("cpu").unwrap()).await.unwrap();
}

#[wasm_bindgen_test]
async fn ten_steps_of_lora_equal_peft() {
    compare(lora("cpu").await, "lora").await;
}

#[wasm_bindgen_test]
async fn ten_steps_of_full_tuning_equal_transformers() {
    let mut model = model("cpu").await;
    model.attach(&MethodConfig::Full(FullConfig {}), 0).unwrap();
    compare(model, "full").await;
}

#[cfg(feature = "webgpu")]
#[wasm_bindgen_test]
async fn the_gpu_computes_like_the_cpu_and_learns_like_peft() {
    // Tells why where there is none: a build for the GPU is tested with one, SwiftShader at least.
    attune_worker::webgpu::try_out().await.unwrap();
    compare(lora("webgpu").await, "lora").await;
}
