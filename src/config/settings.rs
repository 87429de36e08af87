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
    /// Its place in a form.
    pub look: Look,
}

/// Headings of a form, in the order they come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What is trained.
    Method,
    /// Learning rate and length of the run.
    Schedule,
    /// How rows become steps.
    Batches,
    /// The rule of the update.
    Optimizer,
    /// Against learning by heart.
    Regularisation,
    /// Held-out rows.
    Evaluation,
    /// What is kept.
    Saving,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Method,
        Self::Schedule,
        Self::Batches,
        Self::Optimizer,
        Self::Regularisation,
        Self::Evaluation,
        Self::Saving,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Method => "Method",
            Self::Schedule => "Schedule",
            Self::Batches => "Batches",
            Self::Optimizer => "Optimizer",
            Self::Regularisation => "Regularisation",
            Self::Evaluation => "Evaluation",
            Self::Saving => "Saving",
        }
    }
}

/// How a form shows a setting. One without a group belongs to no form for tuning: the page answers it elsewhere, or
/// it means nothing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Heading it stands under.
    pub group: Option<Group>,
    /// Whether most runs decide it; the others are folded.
    pub is_first: bool,
    /// Words for it where its name does not read as such.
    pub label: Option<&'static str>,
}

impl Look {
    /// In no form.
    pub const NONE: Self = Self { group: None, is_first: false, label: None };

    /// Folded under a heading.
    pub const fn of(group: Group) -> Self {
        Self { group: Some(group), ..Self::NONE }
    }

    /// Decided by most runs.
    pub const fn first(self) -> Self {
        Self { is_first: true, ..self }
    }

    /// Called so.
    pub const fn called(self, label: &'static str) -> Self {
        Self { label: Some(label), ..self }
    }
}

impl Setting {
    /// `--flag` without the dashes. A boolean that defaults to true has the flag `no-…`.
    pub fn flag(&self) -> String {
        let flag = self.flag.map_or_else(|| self.name.replace('_', "-"), str::to_string);
        if self.default == "true" { format!("no-{flag}") } else { flag }
    }

    /// What a form calls it.
    pub fn label(&self) -> String {
        if let Some(label) = self.look.label {
            return label.to_string();
        }
        let words = self.name.replace('_', " ");
        let mut letters = words.chars();
        letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
    }

    /// The type without `Option<…>`: an optional setting is one that need not be given.
    pub fn inner_kind(&self) -> &'static str {
        self.kind.strip_prefix("Option<").and_then(|kind| kind.strip_suffix('>')).unwrap_or(self.kind)
    }

    /// What its value has to be, in words; ranges are another matter.
    pub fn expects(&self) -> &'static str {
        match self.inner_kind() {
            "f64" => "a number such as 0.1 or 2e-4",
            "usize" | "u64" => "a whole number, 0 or more",
            "bool" => "true or false",
            "TargetModules" | "Vec<String>" => "names with commas between them",
            "String" => "a text",
            _ => "one of the words it takes",
        }
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
        $($(#[doc = $doc:literal])* $field:ident $($flag:literal)? : $type:ty = $default:expr $(; $look:expr)?,)*
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
                look: $crate::config::settings!(@look $($look)?),
            },)*];
        }
    };
    (@flag $flag:literal) => { Some($flag) };
    (@flag) => { None };
    (@look $look:expr) => { $look };
    (@look) => { $crate::config::Look::NONE };
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
