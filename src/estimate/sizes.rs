//! A model's tensors in closed form, from its settings and the method that trains it.

use crate::config::OptimizerKind;
use crate::methods::{LoraConfig, Matcher, MethodConfig, is_or_ends_in};
use crate::models::{HEAD, NormKind, Spec, no_adapter_on_head};
use crate::{Error, Result};

/// What a layer's linear maps read; maps that read the same share what is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Input {
    /// The normalised stream before attention.
    Attention,
    /// The heads' outputs, side by side.
    Heads,
    /// The normalised stream before the feed-forward layer.
    FeedForward,
    /// The feed-forward layer's inside.
    Inner,
}

/// A linear map of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear {
    pub d_in: u64,
    pub d_out: u64,
    pub input: Input,
    /// Whether it has a low-rank update.
    pub is_target: bool,
    /// Whether its weight, or a copy of it, is trained.
    pub is_trained: bool,
}

/// The sizes that memory and work are made of, in elements.
pub(super) struct Sizes {
    /// Base parameters.
    pub n_params: u64,
    /// Parameters that the method adds: low-rank factors and copies.
    pub n_added: u64,
    /// Parameters that training changes.
    pub n_trained: u64,
    /// Elements that the optimizer remembers.
    pub n_optimizer: u64,
    /// Elements of the largest trained tensor.
    pub largest_trained: u64,
    /// Elements of the largest tensor.
    pub largest: u64,
    /// The linear maps, by layer.
    pub layers: Vec<Vec<Linear>>,
    /// Whether the matrix of the output head is trained.
    pub is_head_trained: bool,
    /// Whether the embedding table is trained.
    pub is_embedding_trained: bool,
    /// Elements of the head's matrix.
    pub head: u64,
    /// Rank of the low-rank updates; 0 without.
    pub rank: u64,
    /// Whether the inputs of low-rank updates are masked.
    pub drops_inputs: bool,
}

/// A trained tensor; the optimizer remembers matrices otherwise than vectors.
struct Trained {
    rows: u64,
    /// `None` in a vector.
    columns: Option<u64>,
    /// Muon turns the matrices of the layers only.
    is_hidden: bool,
}

impl Trained {
    fn numel(&self) -> u64 {
        self.rows * self.columns.unwrap_or(1)
    }

    fn remembered(&self, optimizer: OptimizerKind) -> u64 {
        match (optimizer, self.columns) {
            (OptimizerKind::Adamw, _) => 2 * self.numel(),
            (OptimizerKind::Adafactor, Some(columns)) => self.rows + columns,
            (OptimizerKind::Muon, columns) if columns.is_none() || !self.is_hidden => 2 * self.numel(),
            (
                OptimizerKind::Adafactor | OptimizerKind::Lion | OptimizerKind::Muon | OptimizerKind::Sgd,
                _,
            ) => self.numel(),
        }
    }
}

impl Sizes {
    /// # Errors
    /// Target modules that are no pattern, or match nothing.
    pub fn new(spec: &Spec, method: &MethodConfig, optimizer: OptimizerKind) -> Result<Self> {
        let lora = match method {
            MethodConfig::Lora(lora) => Some(lora),
            MethodConfig::Full(_) => None,
        };
        let matcher = lora.map(|lora| lora.target_modules.matcher()).transpose()?;
        if !spec.tied && matcher.as_ref().is_some_and(|matcher| matcher.selects(HEAD, true)) {
            return Err(no_adapter_on_head());
        }
        let (names, table) = (spec.names, [spec.vocab_size as u64, spec.hidden_size as u64]);
        let mut trained = Vec::new();
        let mut n_params = 0;
        let mut largest = table[0] * table[1];
        let mut layers = Vec::with_capacity(spec.layers.len());
        for layer in 0..spec.layers.len() {
            let prefix = format!("{}{}.{layer}.", names.base, names.layers);
            let mut linears = Vec::new();
            for (name, d_in, d_out, input, is_biased) in linears_of(spec) {
                let module = format!("{prefix}{name}");
                largest = largest.max(d_in * d_out);
                n_params += d_in * d_out + if is_biased { d_out } else { 0 };
                let (is_target, is_saved) = (is_target(matcher.as_ref(), &module), is_saved(lora, &module));
                if let Some(lora) = lora.filter(|_| is_target) {
                    let rank = lora.rank as u64;
                    trained.push(Trained { rows: rank, columns: Some(d_in), is_hidden: true });
                    trained.push(Trained { rows: d_out, columns: Some(rank), is_hidden: true });
                }
                if lora.is_none() || is_saved {
                    trained.push(Trained { rows: d_out, columns: Some(d_in), is_hidden: true });
                }
                if lora.is_none() && is_biased {
                    trained.push(Trained { rows: d_out, columns: None, is_hidden: true });
                }
                linears.push(Linear {
                    d_in,
                    d_out,
                    input,
                    is_target,
                    is_trained: lora.is_none() || is_saved,
                });
            }
            layers.push(linears);
        }
        let n_targets = layers.iter().flatten().filter(|linear| linear.is_target).count();
        if lora.is_some() && n_targets == 0 {
            let names: Vec<&str> = linears_of(spec).into_iter().map(|(name, ..)| last_part(name)).collect();
            return Err(Error::input(
                "method.target_modules",
                "no layer of this model is called so",
                format!("all-linear, or some of {}", names.join(", ")),
            ));
        }
        let mut tables = vec![(format!("{}{}", names.base, names.embed), table)];
        if spec.learned_positions {
            tables
                .push((format!("{}{}", names.base, names.positions), [spec.max_positions as u64, table[1]]));
        }
        if !spec.tied {
            tables.push((HEAD.to_string(), table));
        }
        let (mut is_head_trained, mut is_embedding_trained) = (lora.is_none(), lora.is_none());
        for (name, [rows, columns]) in &tables {
            n_params += rows * columns;
            if lora.is_none() || is_saved(lora, name) {
                trained.push(Trained { rows: *rows, columns: Some(*columns), is_hidden: false });
                is_head_trained |= name == "lm_head";
                is_embedding_trained |= name.ends_with(names.embed);
            }
        }
        // As in PEFT, the copy of a tied head is a matrix of its own.
        if spec.tied && is_saved(lora, "lm_head") {
            trained.push(Trained { rows: table[0], columns: Some(table[1]), is_hidden: false });
            is_head_trained = true;
        }
        for rows in vectors(spec) {
            n_params += rows;
            if lora.is_none() {
                trained.push(Trained { rows, columns: None, is_hidden: false });
            }
        }
        let n_trained = trained.iter().map(Trained::numel).sum();
        Ok(Self {
            n_params,
            n_added: if lora.is_some() { n_trained } else { 0 },
            n_trained,
            n_optimizer: trained.iter().map(|tensor| tensor.remembered(optimizer)).sum(),
            largest_trained: trained.iter().map(Trained::numel).max().unwrap_or(0),
            largest,
            layers,
            is_head_trained,
            is_embedding_trained,
            head: table[0] * table[1],
            rank: lora.map_or(0, |lora| lora.rank as u64),
            drops_inputs: lora.is_some_and(|lora| lora.dropout > 0.0),
        })
    }
}

/// Name in the layer, `d_in`, `d_out`, what it reads and whether it has a bias.
fn linears_of(spec: &Spec) -> Vec<(&'static str, u64, u64, Input, bool)> {
    let names = spec.names;
    let (hidden, inner) = (spec.hidden_size as u64, spec.intermediate_size as u64);
    let (q, kv) = ((spec.n_heads * spec.head_dim) as u64, (spec.n_kv_heads * spec.head_dim) as u64);
    let mut linears = match names.qkv {
        Some(name) => vec![(name, hidden, q + 2 * kv, Input::Attention, spec.qkv_bias)],
        None => vec![
            (names.q, hidden, q, Input::Attention, spec.qkv_bias),
            (names.k, hidden, kv, Input::Attention, spec.qkv_bias),
            (names.v, hidden, kv, Input::Attention, spec.qkv_bias),
        ],
    };
    linears.push((names.o, q, hidden, Input::Heads, spec.o_bias));
    if spec.gated {
        linears.push((names.gate, hidden, inner, Input::FeedForward, spec.mlp_bias));
    }
    linears.push((names.up, hidden, inner, Input::FeedForward, spec.mlp_bias));
    linears.push((names.down, inner, hidden, Input::Inner, spec.mlp_bias));
    linears
}

/// Lengths of the normalisations' vectors.
fn vectors(spec: &Spec) -> impl Iterator<Item = u64> {
    let n_layers = spec.layers.len();
    let per_norm = match spec.norm {
        NormKind::Rms { .. } => 1,
        NormKind::Layer { .. } => 2,
    };
    let n_wide = per_norm * (1 + n_layers * if spec.norm_after { 4 } else { 2 });
    let n_of_heads = if spec.qk_norm { 2 * per_norm * n_layers } else { 0 };
    let (hidden, head) = (spec.hidden_size as u64, spec.head_dim as u64);
    std::iter::repeat_n(hidden, n_wide).chain(std::iter::repeat_n(head, n_of_heads))
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn is_target(matcher: Option<&Matcher<'_>>, module: &str) -> bool {
    matcher.is_some_and(|matcher| matcher.selects(module, false))
}

fn is_saved(lora: Option<&LoraConfig>, module: &str) -> bool {
    lora.is_some_and(|lora| lora.modules_to_save.iter().any(|name| is_or_ends_in(module, name)))
}
