//! A model of token pairs, whose loss and gradients have a closed form.

use super::VOCABULARY;
use crate::Result;
use crate::data::Batch;
use crate::models::{AnyTensor, NamedTensors};
use crate::objectives::{EvalOutput, LossOutput, Trainee};
use crate::store::HostTensor;
use crate::store::memory::ready;
use burn::tensor::{Device, Tensor};

/// logits = weight[previous] + bias, with `weight` `[vocabulary, vocabulary]` and `bias` `[vocabulary]`.
pub struct Bigram {
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
    pub fn new(dropout: bool) -> Self {
        let value = |i: usize, j: usize| ((i * VOCABULARY + j) * 7 % 11) as f32 - 5.0;
        let weight =
            (0..VOCABULARY * VOCABULARY).map(|k| value(k / VOCABULARY, k % VOCABULARY) / 10.0).collect();
        Self { values: named(weight, vec![0.0; VOCABULARY]), dropout }
    }

    pub fn host(&self) -> (Vec<f32>, Vec<f32>) {
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

    fn evaluate(&self, batch: &Batch, _: Option<&[u32]>) -> Result<EvalOutput> {
        let counts = self.count(batch, None);
        let scalar = |value: f64| Tensor::from_floats([value as f32], &Device::flex());
        Ok(EvalOutput { nll_sum: scalar(counts.nll), n_correct: scalar(counts.n_correct), answers: None })
    }
}
