//! In how many bits each of a model's matrices is held.

use super::attach::HEAD;
use super::spec::Spec;
use crate::config::WeightFormat;
use crate::store::{Form, Store, TensorInfo, model_files::ModelFiles};

/// How a matrix is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// In f32.
    Plain,
    /// As it is stored.
    Stored,
    /// Rounded to this form.
    Rounded(Form),
}

impl Held {
    /// How a tensor is held; `form` is that of its stored type, where the file's rows can be taken as they are.
    pub fn of(weights: WeightFormat, name: &str, info: &TensorInfo, form: Option<Form>, spec: &Spec) -> Self {
        let &[_, columns] = info.shape.as_slice() else { return Self::Plain };
        // As in QLoRA only the maps inside the layers are rounded; the tables and the head stay as stored.
        let wanted = match weights {
            WeightFormat::Auto | WeightFormat::F32 => return Self::Plain,
            WeightFormat::Q8 if !is_table(name, spec) => Some(Form::EIGHT),
            WeightFormat::Q4 if !is_table(name, spec) => Some(Form::Four),
            _ => None,
        };
        let is_stored = |form: Form| {
            // What is stored in as few bits is not rounded again.
            columns.is_multiple_of(form.block()) && wanted.is_none_or(|wanted| form.bits() <= wanted.bits())
        };
        match (form.filter(|&form| is_stored(form)), wanted) {
            (Some(_), _) => Self::Stored,
            (None, Some(wanted)) if columns.is_multiple_of(wanted.block()) => Self::Rounded(wanted),
            (None, _) => Self::Plain,
        }
    }
}

fn is_table(name: &str, spec: &Spec) -> bool {
    let names = spec.names;
    let module = name.strip_suffix(".weight").unwrap_or(name);
    module == HEAD
        || module.strip_prefix(names.base).is_some_and(|m| m == names.embed || m == names.positions)
}

/// Bytes of a model's weights in each format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBytes {
    f32: u64,
    stored: u64,
    q8: u64,
    q4: u64,
}

impl HeldBytes {
    /// Counted from the files' headers.
    pub fn of<S: Store>(files: &ModelFiles<'_, S>, spec: &Spec) -> Self {
        let bytes = |weights, name: &str| {
            let Some(info) = files.info(name) else { return 0 };
            let n_values = info.shape.iter().map(|&n| n as u64).fold(1, u64::saturating_mul);
            let form = files.form(name);
            match (Held::of(weights, name, info, form, spec), form) {
                (Held::Stored, Some(form)) | (Held::Rounded(form), _) => form.n_bytes(n_values),
                _ => n_values.saturating_mul(4),
            }
        };
        let names = files.tensor_names().into_iter().filter(|name| super::load::is_weight(name, spec.tied));
        let names: Vec<&str> = names.collect();
        let sum = |weights| names.iter().map(|name| bytes(weights, name)).fold(0, u64::saturating_add);
        Self {
            f32: sum(WeightFormat::F32),
            stored: sum(WeightFormat::Stored),
            q8: sum(WeightFormat::Q8),
            q4: sum(WeightFormat::Q4),
        }
    }

    /// Bytes in this format.
    pub fn bytes(&self, weights: WeightFormat, is_cpu: bool) -> u64 {
        match weights.on(is_cpu) {
            WeightFormat::Auto | WeightFormat::F32 => self.f32,
            WeightFormat::Stored => self.stored,
            WeightFormat::Q8 => self.q8,
            WeightFormat::Q4 => self.q4,
        }
    }
}
