//! Flags made from the settings tables: a setting declared once is a flag, a line of help and a key of the run file.

use attune::config::Setting;
use attune::methods;
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::HashSet;

/// A value that a flag gave to a setting.
pub struct Given {
    /// The setting; of settings that share a flag, the first.
    pub setting: &'static Setting,
    /// As the run file would hold it.
    pub value: toml::Value,
}

/// Adds a flag for each of the settings, under the heading of its section.
///
/// Settings of different methods may share a flag; it is added once.
pub fn add_flags(mut command: Command, settings: &[&'static Setting], defaults: &toml::Table) -> Command {
    let mut seen = HashSet::new();
    for setting in settings.iter().filter(|setting| seen.insert(setting.flag())) {
        command = command.arg(flag(setting, defaults));
    }
    command
}

/// `--method`, with the kinds that exist.
pub fn method_flag() -> Arg {
    let names: Vec<&str> = methods::KINDS.iter().map(|(name, _)| *name).collect();
    Arg::new("method")
        .long("method")
        .value_name("NAME")
        .value_parser(PossibleValuesParser::new(names))
        .help("What is trained; each method has settings of its own [default: lora]")
        .help_heading("Method")
}

fn flag(setting: &'static Setting, defaults: &toml::Table) -> Arg {
    let name = setting.flag();
    let arg = Arg::new(name.clone()).long(name).help_heading(heading(setting));
    if setting.kind == "bool" {
        let doc = if setting.default == "true" {
            format!("Do not {}", lower_first(setting.doc))
        } else {
            setting.doc.into()
        };
        return arg.action(ArgAction::SetTrue).help(doc);
    }
    let (value_name, parser) = value_of(setting);
    let action = if is_list(setting) { ArgAction::Append } else { ArgAction::Set };
    arg.value_name(value_name)
        .value_parser(parser)
        .action(action)
        .allow_hyphen_values(is_number(setting))
        .help(match default_text(setting, defaults) {
            Some(default) => format!("{} [default: {default}]", setting.doc),
            None => setting.doc.to_string(),
        })
}

/// A list's flag may be given several times.
fn is_list(setting: &Setting) -> bool {
    setting.kind == "Vec<String>"
}

fn is_number(setting: &Setting) -> bool {
    matches!(setting.inner_kind(), "f64" | "usize" | "u64")
}

/// How a flag's text becomes a value of the run file, by the setting's type.
fn value_of(setting: &Setting) -> (&'static str, ValueParser) {
    match setting.inner_kind() {
        "f64" => ("NUMBER", ValueParser::new(number)),
        "usize" | "u64" => ("N", ValueParser::new(whole_number)),
        "TargetModules" => ("NAMES", ValueParser::new(text)),
        // A comma is as good a text as any other.
        "Vec<String>" if setting.section == "generate" || setting.name == "sample_prompts" => {
            ("TEXT", ValueParser::new(one))
        }
        "Vec<String>" => ("NAMES", ValueParser::new(list)),
        "Columns" => ("FIELD=COLUMN,…", ValueParser::new(columns)),
        "String" if setting.section == "data" || matches!(setting.name, "adapter" | "out") => {
            ("PATH", ValueParser::new(text))
        }
        "String" => ("NAME", ValueParser::new(text)),
        _ => ("CHOICE", ValueParser::new(text)),
    }
}

fn number(given: &str) -> Result<toml::Value, String> {
    match given.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(toml::Value::Float(value)),
        _ => Err("expected a number such as 0.1 or 2e-4".into()),
    }
}

fn whole_number(given: &str) -> Result<toml::Value, String> {
    match given.parse::<i64>() {
        Ok(value) if value >= 0 => Ok(toml::Value::Integer(value)),
        _ => Err("expected a whole number of 0 or more".into()),
    }
}

fn list(given: &str) -> Result<toml::Value, String> {
    let items = given.split(',').map(str::trim).filter(|item| !item.is_empty());
    Ok(toml::Value::Array(items.map(|item| toml::Value::String(item.into())).collect()))
}

fn columns(given: &str) -> Result<toml::Value, String> {
    let pair = |pair: &str| {
        let (field, column) = pair.split_once('=')?;
        Some((field.trim().to_string(), toml::Value::String(column.trim().into())))
    };
    let pairs: Option<toml::Table> = given.split(',').map(pair).collect();
    pairs
        .map(toml::Value::Table)
        .ok_or_else(|| "expected pairs such as prompt=question,completion=answer".into())
}

fn one(given: &str) -> Result<toml::Value, String> {
    Ok(toml::Value::Array(vec![toml::Value::String(unescaped(given))]))
}

/// `\n` as a line break and `\\` as a backslash: a shell's argument rarely holds a line break itself.
pub fn unescaped(given: &str) -> String {
    let mut text = String::with_capacity(given.len());
    let mut rest = given;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        text.push_str(plain);
        let meant = match escape.as_bytes().get(1) {
            Some(b'n') => '\n',
            Some(b'\\') => '\\',
            _ => {
                text.push('\\');
                rest = &escape[1..];
                continue;
            }
        };
        text.push(meant);
        rest = &escape[2..];
    }
    text + rest
}

fn text(given: &str) -> Result<toml::Value, String> {
    Ok(toml::Value::String(given.into()))
}

fn heading(setting: &Setting) -> String {
    match setting.section {
        "" => "Run".into(),
        "data" => "Data".into(),
        "train" => "Training".into(),
        "generate" => "Sampling".into(),
        "method" => {
            let owners = methods::KINDS
                .iter()
                .filter(|(_, settings)| settings.iter().any(|s| s.flag() == setting.flag()));
            let owners: Vec<&str> = owners.map(|(name, _)| *name).collect();
            format!("Method {}", owners.join(", "))
        }
        other => other.to_string(),
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

/// The default as the run file would hold it; `None` where there is none, or an empty one.
fn default_text(setting: &Setting, defaults: &toml::Table) -> Option<String> {
    let section =
        if setting.section.is_empty() { Some(defaults) } else { defaults.get(setting.section)?.as_table() };
    match section?.get(setting.name)? {
        toml::Value::String(text) if text.is_empty() => None,
        toml::Value::Array(items) if items.is_empty() => None,
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Float(value) if *value != 0.0 && value.abs() < 1e-3 => Some(format!("{value:e}")),
        value => Some(value.to_string()),
    }
}

/// What the flags gave, in the order of the settings.
pub fn given(matches: &ArgMatches, settings: &[&'static Setting]) -> Vec<Given> {
    let mut seen = HashSet::new();
    settings
        .iter()
        .filter(|setting| seen.insert(setting.flag()))
        .filter_map(|setting| {
            let name = setting.flag();
            let value = if setting.kind == "bool" {
                matches.get_flag(&name).then(|| toml::Value::Boolean(setting.default != "true"))?
            } else if is_list(setting) {
                let lists = matches.get_many::<toml::Value>(&name)?;
                toml::Value::Array(lists.filter_map(toml::Value::as_array).flatten().cloned().collect())
            } else {
                matches.get_one::<toml::Value>(&name)?.clone()
            };
            Some(Given { setting, value })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_can_be_escaped() {
        for (given, expected) in [
            ("a\\nb", "a\nb"),
            ("C:\\\\new", "C:\\new"),
            ("\\\\\\n", "\\\n"),
            ("\\d\\", "\\d\\"),
            ("é\\é", "é\\é"),
        ] {
            assert_eq!(unescaped(given), expected, "{given}");
        }
    }
}
