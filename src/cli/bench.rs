//! Hidden subcommands that `cargo xtask bench` runs, one process a case, so that peak memory is the case's own.

use attune::data::Batch;
use attune::methods::{LoraConfig, MethodConfig};
use attune::models::{AnyTensor, CausalLm, Pass};
use attune::native::{block_on, resolve_model};
use attune::objectives::sft::{self, SftOptions};
use attune::protocol::Event;
use attune::store::model_files::ModelFiles;
use attune::{Result, device};
use clap::{Arg, ArgMatches, Command, value_parser};
use std::time::Instant;

/// `attune bench-step`: LoRA training steps on token rows that mean nothing.
pub fn step_command(command: Command) -> Result<Command> {
    let number = |name: &'static str, default: &'static str| Arg::new(name).long(name).default_value(default).value_parser(value_parser!(usize));
    let command = common(command).arg(number("batch", "1")).arg(number("seq", "128"));
    Ok(command.arg(number("steps", "5")).arg(number("warmup", "2")))
}

/// `attune bench-generate`: greedy decoding.
pub fn generate_command(command: Command) -> Result<Command> {
    let number = |name: &'static str, default: &'static str| Arg::new(name).long(name).default_value(default).value_parser(value_parser!(usize));
    Ok(common(command).arg(number("prompt-tokens", "16")).arg(number("new-tokens", "64")))
}

fn common(command: Command) -> Command {
    command
        .hide(true)
        .arg(Arg::new("model").long("model").default_value("smollm2-135m"))
        .arg(Arg::new("device").long("device").default_value("cpu"))
}

fn load(matches: &ArgMatches) -> Result<CausalLm> {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let mut ignore = |_: Event| {};
    let (store, key) = resolve_model(text("model"), &mut ignore)?;
    let device = device::open(text("device"))?;
    block_on(async {
        let files = ModelFiles::open(&store, &key).await?;
        CausalLm::load(&files, &device, &mut |_| {}).await
    })
}

fn count(matches: &ArgMatches, name: &str) -> usize {
    matches.get_one::<usize>(name).copied().unwrap_or_default()
}

/// Prints tokens a second of each timed step, the last loss and the process's peak memory.
pub fn step(matches: &ArgMatches) -> Result<()> {
    let (batch_size, seq_len) = (count(matches, "batch"), count(matches, "seq"));
    let mut model = load(matches)?;
    model.attach(&MethodConfig::Lora(LoraConfig::default()), 0)?;
    let batch = rows(batch_size, seq_len, model.spec.vocab_size);
    let options = SftOptions::default();
    let (mut rates, mut loss) = (Vec::new(), 0.0);
    for i in 0..count(matches, "warmup") + count(matches, "steps") {
        let begun = Instant::now();
        let output = sft::loss_and_grads(&model, &batch, batch.target_weight(), &options, i as u64)?;
        // The update is a plain step down the gradient: its cost is nothing beside the rest, and no weight may stay unused.
        let mut values = model.trainable();
        for (name, gradient) in output.grads {
            if let Some(value) = values.get_mut(&name) {
                *value = value.clone().add(gradient.mul_scalar(-1e-3));
            }
        }
        model.set_trainable(values)?;
        loss = f64::from(block_on(AnyTensor::Vector(output.loss).to_host())?.values[0]);
        if i >= count(matches, "warmup") {
            rates.push((batch_size * seq_len) as f64 / begun.elapsed().as_secs_f64());
        }
    }
    print(rates, loss)
}

/// Prints tokens a second of greedy decoding after the prompt.
pub fn generate(matches: &ArgMatches) -> Result<()> {
    let model = load(matches)?;
    let prompt = rows(1, count(matches, "prompt-tokens"), model.spec.vocab_size);
    let mut cache = model.cache();
    let mut next = prompt.input_ids;
    let mut rates = Vec::new();
    for _ in 0..count(matches, "new-tokens") {
        let begun = Instant::now();
        let logits = block_on(AnyTensor::Matrix(model.extend(&next, &mut cache, Pass::INFERENCE)?).to_host())?.values;
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or_default();
        // The first pass reads the prompt.
        if cache.n_tokens() > count(matches, "prompt-tokens") {
            rates.push(1.0 / begun.elapsed().as_secs_f64());
        }
        next = vec![best as i32];
    }
    print(rates, 0.0)
}

fn print(rates: Vec<f64>, loss: f64) -> Result<()> {
    println!("{}", serde_json::json!({ "tokens_per_sec": rates, "loss": loss, "peak_rss_bytes": attune::native::peak_rss_bytes() }));
    Ok(())
}

/// Rows of well-spread token ids, every token but the first a target.
fn rows(batch_size: usize, seq_len: usize, vocab_size: usize) -> Batch {
    let token = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) % vocab_size;
    Batch {
        batch_size,
        seq_len,
        input_ids: (0..batch_size * seq_len).map(|i| token(i) as i32).collect(),
        position_ids: (0..batch_size).flat_map(|_| 0..seq_len as i32).collect(),
        segment_ids: vec![1; batch_size * seq_len],
        loss_weights: (0..batch_size * seq_len).map(|i| if i.is_multiple_of(seq_len) { 0.0 } else { 1.0 }).collect(),
    }
}
