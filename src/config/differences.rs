//! What sets runs apart.

use super::Run;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// A setting that is not the same in all of several runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its key in the run file.
    pub key: String,
    /// Its value in each run, in the runs' order; `None` where a run has no such setting.
    pub values: Vec<Option<String>>,
}

/// The settings that differ between `runs`, sorted by key. Where a run is kept is no setting of what it does.
///
/// # Errors
/// A run that cannot be written as a run file.
pub fn differences(runs: &[&Run]) -> Result<Vec<Difference>> {
    let mut settings: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        let table =
            toml::Table::try_from(run).map_err(|error| Error::Internal(format!("run file: {error}")))?;
        let mut leaves = Vec::new();
        flatten("", table, &mut leaves);
        // The rate in force is what counts, whether it was given or is the method's own.
        leaves.push(("train.learning_rate".into(), run.learning_rate().to_string()));
        for (key, value) in leaves {
            settings.entry(key).or_insert_with(|| vec![None; runs.len()])[index] = Some(value);
        }
    }
    settings.remove("out");
    let differs = |values: &Vec<Option<String>>| values.windows(2).any(|pair| pair[0] != pair[1]);
    let differing = settings.into_iter().filter(|(_, values)| differs(values));
    Ok(differing.map(|(key, values)| Difference { key, values }).collect())
}

fn flatten(section: &str, table: toml::Table, leaves: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = if section.is_empty() { name } else { format!("{section}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, leaves),
            toml::Value::String(text) => leaves.push((key, text)),
            // Rust writes 0.0002 and 1; toml would write 1.0.
            toml::Value::Float(number) => leaves.push((key, number.to_string())),
            other => leaves.push((key, other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::methods::{FullConfig, MethodConfig};

    #[test]
    fn only_what_differs_is_told_and_the_rate_in_force_counts() {
        let first = Run { out: "a".into(), ..Run::default() };
        let mut second = Run { out: "b".into(), ..Run::default() };
        second.train.learning_rate = Some(first.learning_rate());
        assert_eq!(differences(&[&first, &second]).unwrap(), []);
        second.train.batch_size = 2;
        let third = Run { method: MethodConfig::Full(FullConfig::default()), ..Run::default() };
        let found = differences(&[&first, &second, &third]).unwrap();
        let of = |key: &str| found.iter().find(|found| found.key == key).map(|found| found.values.clone());
        let some = |value: &str| Some(value.to_string());
        assert_eq!(of("train.batch_size"), Some(vec![some("8"), some("2"), some("8")]));
        assert_eq!(of("method.rank"), Some(vec![some("8"), some("8"), None]));
        assert_eq!(of("train.learning_rate"), Some(vec![some("0.0002"), some("0.0002"), some("0.00002")]));
        assert!(of("out").is_none() && of("seed").is_none());
    }
}
