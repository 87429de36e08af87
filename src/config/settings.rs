//! The `settings!` macro and the table it fills: one declaration of a setting serves serde, the
//! command line, the page's form and the docs.

use crate::{Error, Result};

/// One setting as the command line, the form and the docs see it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Table of the run file it stands in; empty for the top level.
    pub section: &'static str,
    /// Field name in the run file.
    pub name: &'static str,
    /// Flag without the dashes where it differs from the field's name.
    pub flag: Option<&'static str>,
    /// Rust type as written: `f64`, `usize`, `bool`, `Option<…>`, a name of an enum.
    pub kind: &'static str,
    /// Default as written.
    pub default: &'static str,
    /// One sentence for help and form.
    pub doc: &'static str,
}

impl Setting {
    /// `--flag` without the dashes. A boolean that defaults to true has the flag `no-…`.
    pub fn flag(&self) -> String {
        let flag = self.flag.map_or_else(|| self.name.replace('_', "-"), str::to_string);
        if self.default == "true" { format!("no-{flag}") } else { flag }
    }

    /// Dotted path in the run file, as `--set` takes it.
    pub fn key(&self) -> String {
        if self.section.is_empty() {
            self.name.to_string()
        } else {
            format!("{}.{}", self.section, self.name)
        }
    }
}

macro_rules! settings {
    ($(#[doc = $struct_doc:literal])* pub struct $name:ident in $section:literal {
        $($(#[doc = $doc:literal])* $field:ident $($flag:literal)? : $type:ty = $default:expr,)*
    } $(parts { $($(#[doc = $part_doc:literal])* $part:ident : $part_type:ty,)* })?) => {
        $(#[doc = $struct_doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: $type,)*
            $($($(#[doc = $part_doc])* pub $part: $part_type,)*)?
        }
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* $($($part: Default::default(),)*)? }
            }
        }
        impl $name {
            /// The settings of this part, in declaration order.
            pub const SETTINGS: &'static [$crate::config::Setting] = &[$($crate::config::Setting {
                section: $section,
                name: stringify!($field),
                flag: $crate::config::settings!(@flag $($flag)?),
                kind: stringify!($type),
                default: stringify!($default),
                doc: concat!($($doc),*).trim_ascii(),
            },)*];
        }
    };
    (@flag $flag:literal) => { Some($flag) };
    (@flag) => { None };
}
pub(crate) use settings;

/// Every setting of every part, in the order help prints them.
pub fn table() -> impl Iterator<Item = &'static Setting> {
    super::Run::SETTINGS
        .iter()
        .chain(crate::methods::SETTINGS.iter().flat_map(|s| s.iter()))
        .chain(super::DataConfig::SETTINGS)
        .chain(super::TrainConfig::SETTINGS)
}

/// Sets the dotted `key` of a run file to `value`, read as TOML where it parses, else as a string.
pub fn apply_override(run: &mut toml::Table, key: &str, value: &str) -> Result<()> {
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_string()));
    let mut parts = key.split('.').peekable();
    let mut table = run;
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return Err(Error::input(
                format!("--set {key}"),
                "an empty part in the name",
                "section.setting=value",
            ));
        }
        if parts.peek().is_none() {
            table.insert(part.to_string(), parsed);
            return Ok(());
        }
        table = table
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| {
                Error::input(
                    format!("--set {key}"),
                    format!("`{part}` is no section"),
                    "section.setting=value",
                )
            })?;
    }
    Ok(())
}
