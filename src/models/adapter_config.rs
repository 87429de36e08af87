//! `adapter_config.json`: PEFT's settings of an adapter to ours and back (peft 0.21, `tuners/lora/config.py`).

use crate::methods::{LoraConfig, TargetModules};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Fields that are read, and fields that the logits of a saved adapter do not depend on: where it comes
/// from, how its factors were drawn, parts of other settings that are refused where they are on.
const KNOWN: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// Initialisations that leave the base weights as they are; the others subtract a part from them.
const HARMLESS_INITS: &[&str] = &["gaussian", "eva", "orthogonal"];

/// What the file says.
#[derive(Debug, PartialEq)]
pub(super) struct AdapterConfig {
    pub lora: LoraConfig,
    pub base_model: Option<String>,
    pub fan_in_fan_out: bool,
}

impl AdapterConfig {
    /// Reads the settings. Whatever would change the result and is not built is refused by name: known
    /// variants, and fields of later versions unless they are off. `place` names the file.
    pub fn from_json(text: &[u8], place: &str) -> Result<Self> {
        let fields: Map<String, Value> = serde_json::from_slice(text)
            .map_err(|e| Error::input(place, e.to_string(), "a JSON object as PEFT writes it"))?;
        let mut reader = Reader { fields: &fields, place, errors: Vec::new() };
        reader.refuse_variants();
        let lora = LoraConfig {
            rank: reader.field("r", "a whole number from 1").unwrap_or(8),
            alpha: reader.field("lora_alpha", "a number").unwrap_or(8.0),
            dropout: reader.field("lora_dropout", "a number").unwrap_or(0.0),
            rslora: reader.field("use_rslora", "true or false").unwrap_or(false),
            target_modules: reader.target_modules(),
            modules_to_save: reader.field("modules_to_save", "a list of module names").unwrap_or_default(),
        };
        let config = Self {
            base_model: reader.field("base_model_name_or_path", "a name"),
            fan_in_fan_out: reader.field("fan_in_fan_out", "true or false").unwrap_or(false),
            lora,
        };
        let mut errors = reader.errors;
        // A field that could not be read has a default by now; only what was read can be out of range.
        if errors.is_empty()
            && let Err(error) = config.lora.validate()
        {
            errors.push(Error::input(place, error.to_string(), "settings in range"));
        }
        Error::all(errors)?;
        Ok(config)
    }

    /// The file's text.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let Self { lora, base_model, fan_in_fan_out } = self;
        let target_modules = match &lora.target_modules {
            TargetModules::AllLinear => json!("all-linear"),
            TargetModules::Names(names) => json!(names),
            TargetModules::Pattern(pattern) => json!(pattern),
        };
        // PEFT's field is an integer, and so it is for almost every adapter.
        let whole = lora.alpha.fract() == 0.0 && lora.alpha < 1e15;
        let fields = json!({
            "base_model_name_or_path": base_model,
            "bias": "none",
            "fan_in_fan_out": fan_in_fan_out,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": if whole { json!(lora.alpha as u64) } else { json!(lora.alpha) },
            "lora_dropout": lora.dropout,
            "modules_to_save": if lora.modules_to_save.is_empty() { Value::Null } else { json!(lora.modules_to_save) },
            "peft_type": "LORA",
            "r": lora.rank,
            "target_modules": target_modules,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": lora.rslora,
        });
        let mut text = serde_json::to_vec_pretty(&fields)
            .map_err(|e| Error::Internal(format!("adapter_config.json: {e}")))?;
        text.push(b'\n');
        Ok(text)
    }
}

struct Reader<'a> {
    fields: &'a Map<String, Value>,
    place: &'a str,
    errors: Vec<Error>,
}

impl Reader<'_> {
    /// The field's value; `None` where it is missing, null, or of a wrong type, which is noted.
    fn field<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        let value = self.fields.get(name).filter(|value| !value.is_null())?;
        match T::deserialize(value) {
            Ok(value) => Some(value),
            Err(_) => {
                self.errors.push(Error::input(format!("{}: {name}", self.place), short(value), expected));
                None
            }
        }
    }

    /// A list of names, a pattern over whole names, or `all-linear`. Unlike in a run file, a pattern has no slashes.
    fn target_modules(&mut self) -> TargetModules {
        let expected = "all-linear, a pattern, or a list of module names";
        match self.fields.get("target_modules") {
            Some(Value::String(word)) if word == "all-linear" => TargetModules::AllLinear,
            Some(Value::String(pattern)) => TargetModules::Pattern(pattern.clone()),
            Some(Value::Array(_)) => {
                TargetModules::Names(self.field("target_modules", expected).unwrap_or_default())
            }
            other => {
                let found = other.map_or("missing".into(), short);
                self.errors.push(Error::input(format!("{}: target_modules", self.place), found, expected));
                TargetModules::AllLinear
            }
        }
    }

    fn refuse_variants(&mut self) {
        let init_is_harmless = |value: &Value| match value {
            Value::String(name) => HARMLESS_INITS.contains(&name.as_str()),
            value => value.is_boolean(),
        };
        self.only("peft_type", "\"LORA\"", |value| value == "LORA");
        self.only("task_type", "\"CAUSAL_LM\"", |value| value == "CAUSAL_LM");
        self.only("bias", "\"none\"", |value| value == "none");
        self.only(
            "init_lora_weights",
            "true, false, \"gaussian\", \"eva\" or \"orthogonal\"",
            init_is_harmless,
        );
        for (name, value) in self.fields.iter().filter(|(name, _)| !KNOWN.contains(&name.as_str())) {
            if !is_off(value) {
                self.errors.push(refused(self.place, name, value, "the field off: null, false or empty"));
            }
        }
    }

    fn only(&mut self, name: &str, supported: &str, accepts: impl Fn(&Value) -> bool) {
        if let Some(value) = self.fields.get(name).filter(|value| !value.is_null() && !accepts(value)) {
            self.errors.push(refused(self.place, name, value, supported));
        }
    }
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn refused(place: &str, name: &str, value: &Value, supported: &str) -> Error {
    Error::Unsupported { what: format!("{place}: {name} = {}", short(value)), supported: supported.into() }
}

fn short(value: &Value) -> String {
    crate::store::shortened(&value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: Value) -> Result<AdapterConfig> {
        AdapterConfig::from_json(fields.to_string().as_bytes(), "adapter_config.json")
    }

    fn with(name: &str, value: Value) -> Result<AdapterConfig> {
        let mut fields =
            json!({ "peft_type": "LORA", "target_modules": ["q_proj"], "r": 4, "lora_alpha": 8 });
        fields[name] = value;
        read(fields)
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let targets = [
            TargetModules::AllLinear,
            TargetModules::Names(vec!["q_proj".into()]),
            TargetModules::Pattern(r".*\.v_proj".into()),
        ];
        for target_modules in targets {
            for (alpha, modules) in [(16.0, vec![]), (0.5, vec!["lm_head".to_string()])] {
                let modules_to_save = modules;
                let lora = LoraConfig {
                    rank: 3,
                    alpha,
                    dropout: 0.1,
                    rslora: true,
                    target_modules: target_modules.clone(),
                    modules_to_save,
                };
                let config = AdapterConfig { lora, base_model: Some("m".into()), fan_in_fan_out: true };
                assert_eq!(AdapterConfig::from_json(&config.to_json().unwrap(), "x").unwrap(), config);
            }
        }
    }

    #[test]
    fn what_would_change_the_result_is_refused_by_name() {
        let refused = [
            ("peft_type", json!("IA3")),
            ("task_type", json!("SEQ_CLS")),
            ("bias", json!("lora_only")),
            ("init_lora_weights", json!("pissa_niter_16")),
            ("use_dora", json!(true)),
            ("lora_bias", json!(true)),
            ("use_qalora", json!(true)),
            ("ensure_weight_tying", json!(true)),
            ("rank_pattern", json!({ "q_proj": 2 })),
            ("alpha_pattern", json!({ "q_proj": 2 })),
            ("layers_to_transform", json!([0])),
            ("layer_replication", json!([[0, 2]])),
            ("trainable_token_indices", json!([7])),
            ("target_parameters", json!(["experts.gate"])),
            ("exclude_modules", json!("lm_head")),
            ("a_field_of_the_future", json!(1)),
        ];
        for (name, value) in refused {
            let error = with(name, value).unwrap_err();
            assert!(error.to_string().contains(&format!("adapter_config.json: {name} = ")), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        for (name, value) in
            [("init_lora_weights", json!(false)), ("rank_pattern", json!({})), ("use_dora", json!(null))]
        {
            with(name, value).unwrap();
        }
    }

    #[test]
    fn every_wrong_field_is_listed() {
        let error = read(json!({ "r": -1, "lora_alpha": "x", "use_dora": true })).unwrap_err().to_string();
        for name in ["r: -1", "lora_alpha: \"x\"", "use_dora = true", "target_modules: missing"] {
            assert!(error.contains(name), "{name} not in\n{error}");
        }
        for (name, value) in [("r", json!(0)), ("lora_dropout", json!(1.0)), ("target_modules", json!("("))] {
            assert!(with(name, value).unwrap_err().to_string().starts_with("adapter_config.json"), "{name}");
        }
        assert!(AdapterConfig::from_json(b"[1", "x").is_err());
    }
}
