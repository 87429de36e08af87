//! Fills a model's slots with what a method asks for, and takes it out again by PEFT's names.

use super::decoder::CausalLm;
use super::layers::{Embedding, Linear, LowRank};
use super::params::{AnyTensor, NamedTensors, Param, ParamMut};
use super::weight::Weight;
use crate::methods::{LoraConfig, MethodConfig, TargetModules, is_or_ends_in, shortest_names};
use crate::store::HostTensor;
use crate::{Error, Result};
use burn::tensor::{Tensor, TensorData};
use indexmap::IndexMap;

/// What is attached to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    /// Its settings.
    pub lora: LoraConfig,
    /// The layers it is attached to, by full name.
    pub targets: Vec<String>,
}

/// PEFT's prefix of every key in an adapter file.
const PEFT_PREFIX: &str = "base_model.model.";

impl CausalLm {
    /// Makes the model trainable by `method`, with fresh adapters where the method has any.
    pub fn attach(&mut self, method: &MethodConfig, seed: u64) -> Result<()> {
        match method {
            MethodConfig::Full(_) => {
                let packed = self
                    .params_mut()
                    .into_iter()
                    .find_map(|mut param| (!param.set_trainable(true)).then(|| param.name().to_string()));
                packed.map_or(Ok(()), |name| {
                    Err(Error::Internal(format!("{name} is packed, and full tuning trains every weight")))
                })
            }
            MethodConfig::Lora(config) => self.attach_lora(config, seed),
        }
    }

    fn attach_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<()> {
        config.validate()?;
        if self.attached.is_some() {
            return Err(Error::Internal("the model already has adapters".into()));
        }
        let targets = self.select(&config.target_modules)?;
        for linear in self.linears_mut().into_iter().filter(|l| targets.contains(&l.name)) {
            linear.low_rank = Some(fresh_low_rank(linear, config, seed));
        }
        for module in &config.modules_to_save {
            self.attach_copy(module)?;
        }
        self.attached = Some(Attached { lora: config.clone(), targets });
        Ok(())
    }

    /// Full names of the layers that `target_modules` reaches.
    fn select(&mut self, target_modules: &TargetModules) -> Result<Vec<String>> {
        let matcher = target_modules.matcher()?;
        let linears = self.linears_mut();
        let selected =
            linears.iter().filter(|l| matcher.selects(&l.name, l.is_head())).map(|l| l.name.clone());
        let targets: Vec<String> = selected.collect();
        if targets.is_empty() {
            let mut names: Vec<String> =
                linears.iter().map(|l| l.name.rsplit('.').next().unwrap_or(&l.name).to_string()).collect();
            names.sort();
            names.dedup();
            let expected = format!("all-linear, or some of {}", names.join(", "));
            return Err(Error::input(
                "method.target_modules",
                format!("{target_modules:?} matches no layer"),
                expected,
            ));
        }
        if targets.iter().any(|t| t == HEAD) {
            return Err(no_adapter_on_head());
        }
        Ok(targets)
    }

    /// Gives the modules named so a trained copy of their weight.
    fn attach_copy(&mut self, module: &str) -> Result<()> {
        if self.head.is_none() && [HEAD, &self.embed.name].iter().any(|name| is_or_ends_in(name, module)) {
            // As in PEFT, a copy of one of two tied matrices leaves the other as it was.
            let weight = self.embed.weight.clone().renamed(format!("{HEAD}.weight"));
            let name = HEAD.to_string();
            self.head = Some(Linear {
                name,
                weight,
                bias: None,
                orientation: super::layers::Orientation::OutIn,
                low_rank: None,
                copy: None,
            });
        }
        let mut reached = false;
        let mut fill = |name: &str, weight: &Weight, copy: &mut Option<Param<2>>| {
            if is_or_ends_in(name, module) {
                let key = format!("{PEFT_PREFIX}{name}.weight");
                *copy = Some(Param { name: key, value: weight.dense(), trainable: true });
                reached = true;
            }
        };
        for Embedding { name, weight, copy } in
            std::iter::once(&mut self.embed).chain(self.positions.as_mut())
        {
            fill(name, weight, copy);
        }
        for Linear { name, weight, copy, .. } in self.linears_mut() {
            fill(name, weight, copy);
        }
        if !reached {
            let expected = "names of linear layers or embeddings, such as lm_head or embed_tokens";
            return Err(Error::input(
                "method.modules_to_save",
                format!("`{module}` matches no module"),
                expected,
            ));
        }
        Ok(())
    }

    /// Attaches an adapter that was saved before. Every missing, left-over or misshapen tensor is named.
    pub fn attach_saved(
        &mut self,
        config: &LoraConfig,
        mut tensors: IndexMap<String, HostTensor>,
    ) -> Result<()> {
        self.attach_lora(config, 0)?;
        let device = self.device.clone();
        let mut errors = Vec::new();
        for mut param in self.params_mut().into_iter().filter(ParamMut::trainable) {
            let expected = format!("shape {:?}", param.shape());
            match tensors.shift_remove(param.name()) {
                None => {
                    errors.push(Error::input(format!("adapter tensor {}", param.name()), "missing", expected))
                }
                Some(host) => {
                    let found = format!("shape {:?}", host.shape);
                    let value = AnyTensor::from_host(host, param.name(), &device);
                    if !value.is_ok_and(|value| param.set(value)) {
                        errors.push(Error::input(
                            format!("adapter tensor {}", param.name()),
                            found,
                            expected,
                        ));
                    }
                }
            }
        }
        let left_over = |name| {
            Error::input(
                format!("adapter tensor {name}"),
                "belongs to no layer of this model",
                "an adapter made for this model",
            )
        };
        errors.extend(tensors.into_keys().map(left_over));
        Error::all(errors)
    }

    /// The adapter's tensors under PEFT's keys; empty where nothing is attached.
    pub fn adapter_tensors(&self) -> NamedTensors {
        let mut handles = self.clone();
        let params = handles.params_mut().into_iter().filter(|p| p.name().starts_with(PEFT_PREFIX));
        params.map(|p| (p.name().to_string(), p.value())).collect()
    }

    /// Names for `target_modules` in PEFT's config.
    pub fn target_names(&self) -> Vec<String> {
        let linears: Vec<String> = self.clone().linears_mut().into_iter().map(|l| l.name.clone()).collect();
        self.attached.as_ref().map_or_else(Vec::new, |a| shortest_names(&a.targets, &linears))
    }

    /// Freezes everything, adapters included: for evaluation and generation nothing is tracked anyway, and
    /// a frozen adapter can be the base of another run.
    pub fn freeze(&mut self) {
        self.params_mut().iter_mut().for_each(|p| _ = p.set_trainable(false));
    }
}

/// Name of the output head.
pub(crate) const HEAD: &str = "lm_head";

/// What a pattern of target modules that matches the head is told.
pub(crate) fn no_adapter_on_head() -> Error {
    Error::input(
        "method.target_modules",
        format!("there is no low-rank adapter on {HEAD}"),
        format!("the layers of the blocks; to train the head in full: method.modules_to_save = [\"{HEAD}\"]"),
    )
}

impl Linear {
    /// Whether this is the output head.
    fn is_head(&self) -> bool {
        self.name == HEAD
    }
}

fn fresh_low_rank(linear: &Linear, config: &LoraConfig, seed: u64) -> LowRank {
    let [d_in, d_out] = linear.d_in_out();
    let device = linear.weight.device();
    let param = |part: &str, value| Param {
        name: format!("{PEFT_PREFIX}{}.{part}.weight", linear.name),
        value,
        trainable: true,
    };
    let a = TensorData::new(config.initial_a(&linear.name, d_in, seed), [config.rank, d_in]);
    LowRank {
        a: param("lora_A", Tensor::from_data(a, &device)),
        b: param("lora_B", Tensor::zeros([d_out, config.rank], &device)),
        scale: config.scale(),
        dropout: config.dropout,
    }
}
