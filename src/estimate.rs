//! What a run needs, before anything is loaded: memory by part, and time.
//!
//! Everything is a closed form of the model's settings, the run's and the rows' lengths; only the rate of computing
//! has to be measured.

mod advice;
mod memory;
mod sizes;
mod work;

use crate::config::Run;
use crate::data::Encoded;
use crate::data::batches::{BatchPlan, bucket};
use crate::device;
use crate::methods::MethodConfig;
use crate::models::{HeldBytes, Spec};
use crate::protocol::{Estimate, Memory, RateFrom, TimeEstimate};
use crate::train::Plan;
use crate::{Error, Result};
use memory::Moment;
use sizes::Sizes;

/// A row in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSize {
    /// Tokens, special ones included.
    pub tokens: usize,
    /// Tokens that carry loss.
    pub targets: usize,
}

impl RowSize {
    /// The size of a row.
    pub fn of(row: &Encoded) -> Self {
        // The first token has nothing before it that could predict it.
        let targets = row.loss_weights.iter().skip(1).filter(|&&weight| weight != 0.0).count();
        Self { tokens: row.ids.len(), targets }
    }

    /// The row cut at `max_length`; targets are taken to be at its end, so cutting cuts them first.
    fn cut_at(self, max_length: usize) -> Self {
        let cut = self.tokens.saturating_sub(max_length);
        Self { tokens: self.tokens - cut, targets: self.targets.saturating_sub(cut).max(1) }
    }
}

/// How the operations are built on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// Those of the CPU, which keep little.
    Cpu,
    /// Those of GPUs, which keep attention's probabilities in bf16.
    Gpu,
    /// Those of adapters that are programs, which always keep them.
    Program,
}

impl Kernels {
    /// Those of the device of that name, as `device::resolve` gives it.
    pub fn of(device: &str) -> Self {
        match device {
            "cpu" => Self::Cpu,
            name if device::is_program(name) => Self::Program,
            _ => Self::Gpu,
        }
    }
}

/// Floating-point operations a second, and where the figure is from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Operations a second of training.
    pub flop_per_sec: f64,
    /// Where it is from.
    pub from: RateFrom,
}

impl Rate {
    /// From a timed matrix product: training spends about half its time on something else (measured on a CPU).
    pub fn of_product(flop_per_sec: f64) -> Self {
        Self { flop_per_sec: 0.5 * flop_per_sec, from: RateFrom::Product }
    }
}

/// A batch in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BatchShape {
    sequences: usize,
    /// Tokens of each, padding included.
    seq_len: usize,
    /// Tokens that carry loss.
    targets: usize,
}

/// What is known before a run.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The model.
    pub spec: &'a Spec,
    /// Sizes of the rows; may be empty.
    pub rows: &'a [RowSize],
    /// Sizes of the held-out rows; `None` where `rows` are not split yet.
    pub held_out: Option<&'a [RowSize]>,
    /// Bytes of the weights as the files' headers tell; four a value where they are not known.
    pub held: Option<HeldBytes>,
    /// How the device computes.
    pub kernels: Kernels,
    /// How fast; without it no time is told.
    pub rate: Option<Rate>,
    /// Memory that the device can give, in bytes.
    pub limit_bytes: Option<u64>,
}

/// Estimates a run. Settings must be in range.
///
/// # Errors
/// A pattern of target modules that is none; a model, or a batch of it, that no machine holds.
pub fn estimate(known: Known<'_>, run: &Run) -> Result<Estimate> {
    refuse_beyond_counting(known, run)?;
    let sizes = Sizes::new(known.spec, &run.method, run.train.optimizer)?;
    let (peak, largest_tensor_bytes) = memory(known, run, &sizes);
    let peak_bytes = peak.total();
    let advice = match known.limit_bytes {
        Some(limit) if peak_bytes > limit => advice::advise(run, limit, &|run| {
            let sizes = Sizes::new(known.spec, &run.method, run.train.optimizer)?;
            Ok(memory(known, run, &sizes).0.total())
        })?,
        _ => Vec::new(),
    };
    Ok(Estimate {
        memory: peak,
        peak_bytes,
        limit_bytes: known.limit_bytes,
        largest_tensor_bytes,
        time: known.rate.and_then(|rate| time(known, run, &sizes, rate)),
        advice,
    })
}

/// More bytes than this are on no machine, and sums of them would pass what 64 bits count.
const MOST_BYTES: f64 = (1_u64 << 60) as f64;

/// Refuses figures of a foreign configuration, or settings, by a bound from above in floating point. What follows may
/// then count in integers.
fn refuse_beyond_counting(known: Known<'_>, run: &Run) -> Result<()> {
    let spec = known.spec;
    let of = |n: usize| n as f64;
    let longest = known.rows.iter().map(|row| row.tokens).max().unwrap_or(run.data.max_length);
    let seq_len = of(if run.data.packing { run.data.max_length } else { longest.min(run.data.max_length) });
    let rank = match &run.method {
        MethodConfig::Lora(lora) => of(lora.rank),
        MethodConfig::Full(_) => 0.0,
    };
    let (layers, vocab) = (of(spec.layers.len()), of(spec.vocab_size));
    let width =
        of(spec.hidden_size) + of(spec.intermediate_size) + 3.0 * of(spec.n_heads) * of(spec.head_dim);
    let params = layers * width * (width + 8.0 * rank) + (2.0 * vocab + of(spec.max_positions)) * width;
    let per_token = layers * (16.0 * width + 8.0 * of(spec.n_heads) * seq_len + 16.0 * rank) + 8.0 * vocab;
    // Copies for gradients, optimizer and going back; four bytes each.
    let (model, batch) = (64.0 * params, 64.0 * of(run.train.batch_size) * seq_len * per_token);
    let too_large = |place: &str, what: &str| {
        Err(Error::input(place, format!("{what} takes more memory than any machine has"), "smaller figures"))
    };
    match (model <= MOST_BYTES, model + batch <= MOST_BYTES) {
        (true, true) => Ok(()),
        (true, false) => too_large("data.max_length", "a batch of rows this long"),
        (false, _) => too_large("model", "a model of the sizes that its configuration states"),
    }
}

/// Operations of a run for each token that is no padding, in the mean; `None` without rows.
pub fn flop_per_token(known: Known<'_>, run: &Run) -> Result<Option<f64>> {
    refuse_beyond_counting(known, run)?;
    let sizes = Sizes::new(known.spec, &run.method, run.train.optimizer)?;
    let rows = cut(known, run);
    let n_tokens: usize = rows.iter().map(|row| row.tokens).sum();
    let flop: f64 = epoch(&rows, run).iter().map(|b| work::training(known.spec, &sizes, &run.train, b)).sum();
    Ok((n_tokens > 0).then(|| flop / n_tokens as f64))
}

/// The peak, and the largest tensor in bytes.
fn memory(known: Known<'_>, run: &Run, sizes: &Sizes) -> (Memory, u64) {
    let rows = cut(known, run);
    let batches = epoch(&rows, run);
    let total_steps = plan(known, run, batches.len()).total_steps;
    let moment = Moment {
        spec: known.spec,
        sizes,
        weights: known.held.map_or(4 * sizes.n_params, |held| {
            held.bytes(run.weight_format(), known.kernels == Kernels::Cpu)
        }),
        train: &run.train,
        batch: largest(&batches, run),
        is_later: total_steps != 1,
        accumulates: run.train.gradient_accumulation_steps > 1,
        kernels: known.kernels,
        precision: run.precision,
    };
    (moment.peak(), moment.largest_tensor())
}

/// The largest batch there will be; without rows, one of rows as long as they may be.
fn largest(batches: &[BatchShape], run: &Run) -> BatchShape {
    let sequences = batches.iter().map(|batch| batch.sequences).max().unwrap_or(run.train.batch_size);
    // Each epoch has another order, and a batch is as long as its longest row.
    let seq_len = batches.iter().map(|batch| batch.seq_len).max().unwrap_or(run.data.max_length);
    let targets =
        batches.iter().map(|batch| batch.targets).max().unwrap_or(sequences.saturating_mul(seq_len));
    BatchShape { sequences, seq_len, targets }
}

fn cut(known: Known<'_>, run: &Run) -> Vec<RowSize> {
    known.rows.iter().map(|row| row.cut_at(run.data.max_length)).collect()
}

/// The batches of the first epoch.
fn epoch(rows: &[RowSize], run: &Run) -> Vec<BatchShape> {
    let plan = BatchPlan {
        batch_size: run.train.batch_size.max(1),
        packing: run.data.packing,
        max_length: run.data.max_length,
        shuffle: run.data.shuffle,
        seed: run.seed,
        pad_id: 0,
    };
    let lengths: Vec<usize> = rows.iter().map(|row| row.tokens).collect();
    let sequences = plan.sequences(&lengths);
    let order = plan.epoch_order(sequences.len(), 0);
    let batch = |order: &[usize]| {
        let of_sequence = |of: fn(&RowSize) -> usize| {
            let sequences = &sequences;
            order.iter().map(move |&s| sequences[s].iter().map(|&row| of(&rows[row])).sum::<usize>())
        };
        BatchShape {
            sequences: order.len(),
            seq_len: bucket(of_sequence(|row| row.tokens).max().unwrap_or(0), plan.max_length),
            targets: of_sequence(|row| row.targets).sum(),
        }
    };
    order.chunks(plan.batch_size).map(batch).collect()
}

/// The plan of a run whose rows make `n_batches`, before a share of them is held out.
fn plan(known: Known<'_>, run: &Run, n_batches: usize) -> Plan {
    let trained = n_batches as f64 * (1.0 - share_to_hold_out(known, run));
    Plan::new(&run.train, (trained.ceil() as usize).max(1))
}

fn share_to_hold_out(known: Known<'_>, run: &Run) -> f64 {
    let is_split = known.held_out.is_some() || run.data.eval_path.is_some();
    if is_split { 0.0 } else { run.data.eval_fraction.clamp(0.0, 1.0) }
}

fn time(known: Known<'_>, run: &Run, sizes: &Sizes, rate: Rate) -> Option<TimeEstimate> {
    let batches = epoch(&cut(known, run), run);
    if batches.is_empty() {
        return None;
    }
    let Known { spec, held_out, .. } = known;
    let training = batches.iter().map(|batch| work::training(spec, sizes, &run.train, batch)).sum::<f64>();
    let plan = plan(known, run, batches.len());
    let batches_per_step = plan.accumulation.min(batches.len());
    let flop_per_step = training / batches.len() as f64 * batches_per_step as f64;
    let evaluated: Vec<RowSize>;
    let (rows, share) = match held_out {
        Some(rows) => (rows, 1.0),
        None => {
            evaluated = cut(known, run);
            (evaluated.as_slice(), share_to_hold_out(known, run))
        }
    };
    let evaluation = rows.chunks(run.train.eval_batch_size.max(1)).map(|rows| {
        let seq_len = bucket(rows.iter().map(|row| row.tokens).max().unwrap_or(0), run.data.max_length);
        let targets = rows.iter().map(|row| row.targets).sum();
        work::evaluation(spec, sizes, &BatchShape { sequences: rows.len(), seq_len, targets })
    });
    let evaluations = share * evaluation.sum::<f64>() * plan.n_evaluations() as f64;
    Some(TimeEstimate {
        total_steps: plan.total_steps,
        flop_per_step,
        flop_per_sec: rate.flop_per_sec,
        rate_from: rate.from,
        secs: (flop_per_step * plan.total_steps as f64 + evaluations) / rate.flop_per_sec.max(1.0),
    })
}
