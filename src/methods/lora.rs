//! LoRA (2106.09685) with PEFT's initialisation, scaling and key names.

use crate::config::settings;
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

settings! {
    /// Low-rank adapters on linear layers: `y = x·W + (alpha / rank)·(dropout(x)·A)·B`.
    pub struct LoraConfig in "method" {
        /// Rank of the update (PEFT's `r`).
        rank: usize = 8,
        /// Numerator of the scale alpha / rank (PEFT's `lora_alpha`, whose default is 8).
        alpha: f64 = 16.0,
        /// Dropout on the adapter's input (PEFT's `lora_dropout`).
        dropout: f64 = 0.0,
        /// Scale by alpha / √rank instead of alpha / rank (rsLoRA, 2312.03732; PEFT's `use_rslora`).
        rslora: bool = false,
        /// Linear layers that get an adapter: all-linear, or names as `q_proj,v_proj`, or a pattern in slashes as `/.*attn.*/`.
        target_modules: TargetModules = TargetModules::AllLinear,
        /// Further modules that are trained in full and saved with the adapter (PEFT's `modules_to_save`).
        modules_to_save: Vec<String> = Vec::new(),
    }
}

/// Which linear layers a method touches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TargetsFile", into = "TargetsFile")]
pub enum TargetModules {
    /// Every linear layer but the output head, as PEFT's `all-linear`.
    AllLinear,
    /// Layers whose dotted name is, or ends in, one of these.
    Names(Vec<String>),
    /// Layers whose whole dotted name matches this regular expression.
    Pattern(String),
}

/// [`TargetModules`] as files and flags write it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TargetsFile {
    Word(String),
    List(Vec<String>),
}

impl From<TargetsFile> for TargetModules {
    fn from(file: TargetsFile) -> Self {
        match file {
            TargetsFile::List(names) => Self::Names(names),
            TargetsFile::Word(word) if word == "all-linear" => Self::AllLinear,
            TargetsFile::Word(word) => match word.strip_prefix('/').and_then(|w| w.strip_suffix('/')) {
                Some(pattern) => Self::Pattern(pattern.to_string()),
                None => Self::Names(word.split(',').map(|n| n.trim().to_string()).collect()),
            },
        }
    }
}

impl From<TargetModules> for TargetsFile {
    fn from(targets: TargetModules) -> Self {
        match targets {
            TargetModules::AllLinear => Self::Word("all-linear".into()),
            TargetModules::Names(names) => Self::List(names),
            TargetModules::Pattern(pattern) => Self::Word(format!("/{pattern}/")),
        }
    }
}

impl LoraConfig {
    /// Factor on the update.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Settings out of range, all of them.
    pub fn validate(&self) -> Result<()> {
        let mut errors = Vec::new();
        if self.rank == 0 || self.rank > 4096 {
            errors.push(Error::input("method.rank", self.rank.to_string(), "a number from 1 to 4096"));
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            errors.push(Error::input("method.alpha", self.alpha.to_string(), "a positive number"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            errors.push(Error::input(
                "method.dropout",
                self.dropout.to_string(),
                "a number from 0 to below 1",
            ));
        }
        if let Err(e) = self.target_modules.matcher() {
            errors.push(e);
        }
        Error::all(errors)
    }

    /// Values of a fresh down-projection `[rank, d_in]`, row-major: PEFT's `kaiming_uniform_(a=√5)`, that is
    /// uniform in ±1/√d_in. The up-projection starts at zero, so that a fresh adapter changes nothing.
    ///
    /// The draw depends on the seed and the module's name only, not on the order of modules.
    pub fn initial_a(&self, module: &str, d_in: usize, seed: u64) -> Vec<f32> {
        let digest = <sha2::Sha256 as sha2::Digest>::digest(format!("{seed}/{module}"));
        let mut rng = rand_chacha::ChaCha8Rng::from_seed(digest.into());
        let bound = (d_in as f32).sqrt().recip();
        (0..self.rank * d_in).map(|_| rng.random_range(-bound..bound)).collect()
    }
}

/// Decides by name which modules a method touches.
pub struct Matcher<'t> {
    targets: &'t TargetModules,
    pattern: Option<regex::Regex>,
}

impl TargetModules {
    /// Compiles the pattern, if there is one.
    pub fn matcher(&self) -> Result<Matcher<'_>> {
        let pattern = match self {
            Self::Pattern(pattern) => Some(regex::Regex::new(&format!("^(?:{pattern})$")).map_err(|e| {
                Error::input(
                    "method.target_modules",
                    e.to_string(),
                    "a regular expression over the whole module name",
                )
            })?),
            Self::AllLinear | Self::Names(_) => None,
        };
        Ok(Matcher { targets: self, pattern })
    }
}

impl Matcher<'_> {
    /// Whether the linear layer `module` gets an adapter. PEFT's `check_target_module_exists`.
    pub fn selects(&self, module: &str, is_head: bool) -> bool {
        match (self.targets, &self.pattern) {
            (TargetModules::AllLinear, _) => !is_head,
            (TargetModules::Names(names), _) => names.iter().any(|name| is_or_ends_in(module, name)),
            (TargetModules::Pattern(_), pattern) => pattern.as_ref().is_some_and(|p| p.is_match(module)),
        }
    }
}

/// Whether a dotted module name is `name` or ends in `.name`.
pub fn is_or_ends_in(module: &str, name: &str) -> bool {
    module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// The shortest list of names that selects exactly `targets` among `linears`: last parts where they suffice.
pub fn shortest_names(targets: &[String], linears: &[String]) -> Vec<String> {
    let mut short: Vec<String> =
        targets.iter().map(|t| t.rsplit('.').next().unwrap_or(t).to_string()).collect();
    short.sort();
    short.dedup();
    let reached = linears.iter().filter(|l| short.iter().any(|s| is_or_ends_in(l, s))).count();
    if reached == targets.len() { short } else { targets.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_select_as_in_peft() {
        let selects =
            |targets: TargetModules, module: &str| targets.matcher().expect("valid").selects(module, false);
        let names = |n: &str| TargetModules::from(TargetsFile::Word(n.into()));
        assert!(selects(names("q_proj,v_proj"), "model.layers.0.self_attn.v_proj"));
        assert!(!selects(names("proj"), "model.layers.0.self_attn.v_proj"));
        assert!(selects(names("/.*attn.*/"), "model.layers.0.self_attn.v_proj"));
        assert!(!selects(names("/attn/"), "model.layers.0.self_attn.v_proj"));
        assert!(names("/(/").matcher().is_err());
    }

    #[test]
    fn fresh_factors_stay_in_bounds_and_depend_on_seed_and_name() {
        let config = LoraConfig::default();
        let a = config.initial_a("x", 64, 1);
        assert_eq!(a.len(), 8 * 64);
        assert!(a.iter().all(|v| v.abs() <= 0.125));
        assert!(a.iter().any(|v| v.abs() > 0.1));
        assert_ne!(a, config.initial_a("y", 64, 1));
        assert_ne!(a, config.initial_a("x", 64, 2));
    }

    #[test]
    fn short_names_are_used_only_where_they_select_the_same() {
        let all: Vec<String> = ["a.0.q", "a.1.q", "a.0.v"].map(String::from).to_vec();
        assert_eq!(shortest_names(&all, &all), ["q", "v"]);
        assert_eq!(shortest_names(&all[..1], &all), ["a.0.q"]);
    }
}
