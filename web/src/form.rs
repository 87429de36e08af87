//! Fields made from the core's tables of settings: name, type, default and doc are declared there.

use attune::config::{Setting, apply_override};
use leptos::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A group of settings as the fields of a form.
#[component]
pub fn Fields<T>(
    /// What they belong to.
    value: RwSignal<T>,
    settings: Vec<&'static Setting>,
    /// Path of the settings in `T` by their key in the run file, where `T` is no whole run.
    #[prop(default = Place::Run)]
    place: Place,
    /// While this holds nothing can be changed.
    #[prop(into)]
    disabled: Signal<bool>,
) -> impl IntoView
where
    T: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let field = move |setting: &'static Setting| view! { <Field value setting place disabled /> };
    view! { <div class="fields">{settings.into_iter().map(field).collect_view()}</div> }
}

/// How a setting is found in the value that is edited.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// By section and name.
    Run,
    /// By name alone.
    Part,
}

impl Place {
    fn key(self, setting: &Setting) -> String {
        if self == Self::Run { setting.key() } else { setting.name.to_string() }
    }
}

#[component]
fn Field<T>(
    value: RwSignal<T>,
    setting: &'static Setting,
    place: Place,
    disabled: Signal<bool>,
) -> impl IntoView
where
    T: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let key = place.key(setting);
    let id = format!("set-{}", key.replace('.', "-"));
    let doc_id = format!("{id}-doc");
    let problem = RwSignal::new(None::<String>);
    let shown = {
        let key = key.clone();
        Memo::new(move |_| value.with(|value| text_of(value, &key)))
    };
    let change =
        Callback::new(move |text: String| match changed(&value.get_untracked(), setting, &key, &text) {
            Ok(new) => {
                problem.set(None);
                value.set(new);
            }
            Err(message) => problem.set(Some(message)),
        });
    let choices = setting.choices();
    let input = if setting.kind == "bool" {
        let toggle = move |event| change.run(event_target_checked(&event).to_string());
        view! {
            <input id=id.clone() type="checkbox" aria-describedby=doc_id.clone() disabled=disabled
                prop:checked=move || shown.get() == "true" on:change=toggle />
        }
        .into_any()
    } else if !choices.is_empty() {
        let options = choices.iter().map(|&word| {
            view! { <option value=word selected=move || shown.get() == word>{word}</option> }
        });
        view! {
            <select id=id.clone() aria-describedby=doc_id.clone() disabled=disabled prop:value=move || shown.get()
                on:change=move |event| change.run(event_target_value(&event))>
                {options.collect_view()}
            </select>
        }
        .into_any()
    } else {
        let mode = if ["f64", "usize", "u64"].iter().any(|kind| setting.kind.contains(kind)) {
            "decimal"
        } else {
            "text"
        };
        let placeholder = if setting.kind.starts_with("Option") { "automatic" } else { "" };
        view! {
            <input id=id.clone() type="text" inputmode=mode autocomplete="off" spellcheck="false" placeholder=placeholder
                aria-describedby=doc_id.clone() aria-invalid=move || problem.get().is_some().to_string() disabled=disabled
                prop:value=move || shown.get() on:change=move |event| change.run(event_target_value(&event)) />
        }
        .into_any()
    };
    view! {
        <div class="field">
            <label for=id>{setting.name.replace('_', " ")}</label>
            {input}
            <p class="hint" id=doc_id>{with_code(setting.doc)}</p>
            <p class="problem" role="alert">{move || problem.get()}</p>
        </div>
    }
}

/// A doc's words between backticks are names in files.
fn with_code(doc: &'static str) -> impl IntoView {
    let part = |(index, text): (usize, &'static str)| {
        if index % 2 == 1 { view! { <code>{text}</code> }.into_any() } else { text.into_any() }
    };
    doc.split('`').enumerate().map(part).collect_view()
}

/// The setting as a person types it; empty where it is absent.
fn text_of<T: Serialize>(value: &T, key: &str) -> String {
    let Ok(mut table) = Table::try_from(value) else { return String::new() };
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        match table.remove(part) {
            Some(Value::Table(inner)) if parts.peek().is_some() => table = inner,
            Some(Value::String(text)) => return text,
            Some(Value::Array(items)) => {
                let words =
                    items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_string));
                return words.collect::<Vec<_>>().join(",");
            }
            // Rust writes 0.0002 and 1; toml would write 1.0.
            Some(Value::Float(number)) => return number.to_string(),
            Some(other) => return other.to_string(),
            None => return String::new(),
        }
    }
    String::new()
}

/// The value with one setting changed, read as the run file reads it.
fn changed<T: Serialize + DeserializeOwned>(
    value: &T,
    setting: &Setting,
    key: &str,
    text: &str,
) -> Result<T, String> {
    let text = text.trim();
    let mut table = Table::try_from(value).map_err(|error| error.to_string())?;
    if text.is_empty() && setting.kind.starts_with("Option") {
        remove(&mut table, key);
    } else if setting.kind.starts_with("Vec") {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let words = words.map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        apply_override(&mut table, key, &format!("[{words}]")).map_err(|error| error.to_string())?;
    } else {
        let is_whole = text.chars().all(|digit| digit.is_ascii_digit()) && !text.is_empty();
        // Whole numbers are welcome where the setting has decimals.
        let decimal =
            if setting.kind.contains("f64") && is_whole { format!("{text}.0") } else { text.to_string() };
        apply_override(&mut table, key, &decimal).map_err(|error| error.to_string())?;
    }
    table.try_into().map_err(|error: toml::de::Error| error.message().trim().to_string())
}

fn remove(table: &mut Table, key: &str) {
    match key.split_once('.') {
        None => _ = table.remove(key),
        Some((section, name)) => {
            if let Some(Value::Table(inner)) = table.get_mut(section) {
                inner.remove(name);
            }
        }
    }
}
