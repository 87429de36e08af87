//! Supervised fine-tuning: the mean negative log-likelihood of the target tokens.
//!
//! Continued pre-training is the same on rows whose every token is a target.

use super::{EvalOutput, LossOutput, Trainee};
use crate::data::Batch;
use crate::models::{Adapters, CausalLm, Context, EmbeddingNoise, NamedTensors, Pass, Tape, add_all};
use crate::ops::{self, CrossEntropy, WeightMatrix};
use crate::{Error, Result};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};

/// What changes the loss besides the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SftOptions {
    /// Probability mass spread over the vocabulary.
    pub label_smoothing: f64,
    /// NEFTune's noise on the embeddings; 0 adds none.
    pub neftune_alpha: f64,
    /// Recompute each layer in the backward pass instead of keeping its activations.
    pub gradient_checkpointing: bool,
}

/// A model trained by this objective.
pub struct Sft {
    /// The model, its method attached.
    pub model: CausalLm,
    /// What changes the loss besides the batch.
    pub options: SftOptions,
}

impl Trainee for Sft {
    fn trainable(&self) -> NamedTensors {
        self.model.trainable()
    }

    fn set_trainable(&mut self, values: NamedTensors) -> Result<()> {
        self.model.set_trainable(values)
    }

    fn total_params(&self) -> usize {
        self.model.total_params()
    }

    fn loss_and_grads(&self, batch: &Batch, denominator: f64, seed: u64) -> Result<LossOutput> {
        loss_and_grads(&self.model, batch, denominator, &self.options, seed)
    }

    fn evaluate(&self, batch: &Batch, answer_ids: Option<&[u32]>) -> Result<EvalOutput> {
        evaluate(&self.model, batch, answer_ids)
    }

    fn speaker(&self) -> Option<&CausalLm> {
        Some(&self.model)
    }
}

/// Rows of logits computed at a time: bounds memory at `CHUNK · vocab` floats, whatever the batch.
pub(crate) const CHUNK: usize = 256;

/// Loss `Σ weight·nll / denominator` and its gradients. `denominator` is the target weight of the whole
/// accumulated batch, so that micro-batches just add up, as in transformers' `num_items_in_batch`.
/// `seed` drives dropout and noise and differs between micro-batches.
pub fn loss_and_grads(
    model: &CausalLm,
    batch: &Batch,
    denominator: f64,
    options: &SftOptions,
    seed: u64,
) -> Result<LossOutput> {
    if denominator.is_nan() || denominator <= 0.0 {
        return Err(Error::Internal("a batch without target tokens reached the loss".into()));
    }
    let context = model.context(batch)?;
    let targets = Targets::of(batch, denominator, model.device());
    let noise =
        (options.neftune_alpha > 0.0).then_some(EmbeddingNoise { alpha: options.neftune_alpha, seed });
    let step = Step { model, context: &context, targets: &targets, options, seed, noise };
    Ok(if options.gradient_checkpointing { step.layer_by_layer() } else { step.at_once() })
}

/// Loss and correct first choices on held-out rows; no dropout, no smoothing.
pub fn evaluate(model: &CausalLm, batch: &Batch, answer_ids: Option<&[u32]>) -> Result<EvalOutput> {
    let context = model.context(batch)?;
    let targets = Targets::of(batch, 1.0, model.device());
    let stream = model.stream(&context, Pass::INFERENCE);
    let normed = model.norm_rows(stream.select(0, targets.rows.clone()), Pass::INFERENCE);
    let weight = model.head_weight(Pass::INFERENCE);
    let head = head_loss(&normed, &weight, &targets, 0.0, HeadGrads::None);
    let answers = answer_ids.map(|ids| {
        let ids = indices(ids.iter().map(|&id| id as i32).collect(), model.device());
        let first = indices(first_of_each_sequence(batch), model.device());
        let logits = ops::matmul(normed.select(0, first), weight.rows(ids).transpose()); // [batch, answers]
        logits.argmax(1).squeeze_dim(1)
    });
    Ok(EvalOutput { nll_sum: head.loss, n_correct: head.correct, answers })
}

/// Place of each sequence's first target among all targets of the batch.
fn first_of_each_sequence(batch: &Batch) -> Vec<i32> {
    let n_targets = batch.loss_weights.chunks(batch.seq_len.max(1)).map(|weights| {
        // As in `Targets`: nothing predicts a sequence's first token.
        weights.iter().skip(1).filter(|&&weight| weight != 0.0).count() as i32
    });
    let starts = n_targets.scan(0, |start, n| Some(std::mem::replace(start, *start + n)));
    starts.collect()
}

fn indices(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// The tokens that carry loss, flattened over the batch.
struct Targets {
    /// Index of the token *before* each target in `[batch · seq]`.
    rows: Tensor<1, Int>,
    /// Token ids.
    ids: Tensor<1, Int>,
    /// Weight over denominator.
    weights: Tensor<1>,
    len: usize,
}

impl Targets {
    fn of(batch: &Batch, denominator: f64, device: &Device) -> Self {
        let mut rows = Vec::new();
        let (mut ids, mut weights) = (Vec::new(), Vec::new());
        for (i, &weight) in batch.loss_weights.iter().enumerate() {
            // The first token of a sequence has nothing before it to be predicted from.
            if weight != 0.0 && !i.is_multiple_of(batch.seq_len) {
                rows.push(i as i32 - 1);
                ids.push(batch.input_ids[i]);
                weights.push((f64::from(weight) / denominator) as f32);
            }
        }
        let len = rows.len();
        Self {
            rows: indices(rows, device),
            ids: indices(ids, device),
            weights: Tensor::from_data(TensorData::new(weights, [len]), device),
            len,
        }
    }
}

/// Which gradients of the head are wanted.
#[derive(Clone, Copy, PartialEq)]
enum HeadGrads {
    None,
    States,
    StatesAndWeight,
}

struct HeadLoss {
    loss: Tensor<1>,
    correct: Tensor<1>,
    /// d loss / d states, `[targets, hidden]`
    states: Option<Tensor<2>>,
    /// d loss / d weight, `[vocab, hidden]`
    weight: Option<Tensor<2>>,
}

/// Projects states onto the vocabulary and takes the loss, a chunk of rows at a time, with the gradient in
/// the same pass: the logits of the whole batch never exist at once (as Liger Kernel, 2410.10989).
fn head_loss(
    states: &Tensor<2>,
    weight: &WeightMatrix,
    targets: &Targets,
    label_smoothing: f64,
    wanted: HeadGrads,
) -> HeadLoss {
    let device = states.device();
    let (mut loss, mut correct) = (Tensor::zeros([1], &device), Tensor::zeros([1], &device));
    let mut state_grads = Vec::new();
    let mut weight_grad: Option<Tensor<2>> = None;
    for start in (0..targets.len).step_by(CHUNK) {
        let n = CHUNK.min(targets.len - start);
        let rows = states.clone().narrow(0, start, n); // [n, hidden]
        let logits = weight.times_turned(rows.clone()); // [n, vocab]
        let (ids, weights) =
            (targets.ids.clone().narrow(0, start, n), targets.weights.clone().narrow(0, start, n));
        let CrossEntropy { loss: part, correct: hits, grad } =
            ops::softmax_cross_entropy(logits, ids, weights, label_smoothing as f32);
        loss = loss + part.sum();
        correct = correct + hits.sum();
        if wanted == HeadGrads::StatesAndWeight {
            let part = ops::matmul(grad.clone().transpose(), rows);
            weight_grad = Some(match weight_grad {
                Some(sum) => sum + part,
                None => part,
            });
        }
        if wanted != HeadGrads::None {
            state_grads.push(weight.times(grad));
        }
    }
    let states = (!state_grads.is_empty()).then(|| Tensor::cat(state_grads, 0));
    HeadLoss { loss, correct, states, weight: weight_grad }
}

struct Step<'a> {
    model: &'a CausalLm,
    context: &'a Context,
    targets: &'a Targets,
    options: &'a SftOptions,
    seed: u64,
    noise: Option<EmbeddingNoise>,
}

impl Step<'_> {
    fn pass<'t>(&self, tape: Option<&'t Tape>) -> Pass<'t> {
        Pass { tape, adapters: Adapters::On, dropout_seed: Some(self.seed), noise: self.noise }
    }

    /// One graph over the whole model.
    fn at_once(&self) -> LossOutput {
        let tape = Tape::default();
        let stream = self.model.stream(self.context, self.pass(Some(&tape)));
        let (loss, grads) = self.head_backward(stream, &tape);
        LossOutput { loss, grads: tape.gradients(&grads) }
    }

    /// One graph a layer: the forward pass keeps the layers' inputs only, the backward pass runs each layer
    /// again with a graph (1604.06174). Dropout masks are functions of the seed, so both runs drop the same.
    fn layer_by_layer(&self) -> LossOutput {
        let mut inputs = vec![self.model.embed(self.context, self.pass(None))];
        for (i, block) in self.model.blocks.iter().enumerate() {
            let x = inputs[i].clone();
            inputs.push(block.forward(x, self.context.view(i), self.pass(None), None));
        }
        let mut grads = NamedTensors::new();
        let tape = Tape::default();
        let mut top = leaf(inputs.pop());
        let (loss, graph) = self.head_backward(top.clone(), &tape);
        let mut upstream = top.grad(&graph);
        add_all(&mut grads, tape.gradients(&graph));
        for (i, block) in self.model.blocks.iter().enumerate().rev() {
            let Some(gradient) = upstream.take() else { break };
            let tape = Tape::default();
            top = leaf(inputs.pop());
            let y = block.forward(top.clone(), self.context.view(i), self.pass(Some(&tape)), None);
            let graph = backward_from(y, gradient);
            upstream = top.grad(&graph);
            add_all(&mut grads, tape.gradients(&graph));
        }
        if let Some(gradient) = upstream {
            let tape = Tape::default();
            let x = self.model.embed(self.context, self.pass(Some(&tape)));
            if x.is_autodiff() {
                add_all(&mut grads, tape.gradients(&backward_from(x, gradient)));
            }
        }
        LossOutput { loss, grads }
    }

    /// The loss from the stream after the last layer, and the graph's gradients.
    fn head_backward(&self, stream: Tensor<2>, tape: &Tape) -> (Tensor<1>, Gradients) {
        let pass = self.pass(Some(tape));
        let states = self.model.norm_rows(stream.select(0, self.targets.rows.clone()), pass);
        let weight = self.model.head_weight(pass);
        let wanted = if weight.is_tracked() { HeadGrads::StatesAndWeight } else { HeadGrads::States };
        let head = head_loss(
            &states.clone().inner(),
            &weight.clone().inner(),
            self.targets,
            self.options.label_smoothing,
            wanted,
        );
        // A sum whose gradients are those of the loss hands them to the graph.
        let mut surrogate =
            (states.clone() * head.states.unwrap_or_else(|| states.inner().zeros_like())).sum();
        if let (Some(gradient), WeightMatrix::Dense(weight)) = (head.weight, weight) {
            surrogate = surrogate + (weight * gradient).sum();
        }
        (head.loss, surrogate.backward())
    }
}

fn leaf(x: Option<Tensor<2>>) -> Tensor<2> {
    // The caller pushed one input more than it pops.
    x.unwrap_or_else(|| unreachable!("every layer's input was kept")).autodiff().require_grad()
}

fn backward_from(y: Tensor<2>, gradient: Tensor<2>) -> Gradients {
    (y * gradient).sum().backward()
}
