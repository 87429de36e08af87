//! Fields made from the core's tables of settings: name, type, default, label and doc are declared there.

use crate::words::{fill, t};
use attune::config::{Setting, table};
use attune::protocol::SettingProblem;
use leptos::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A text that is no value of its setting. The field keeps it, and the value before stays in the form meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub struct Bad {
    /// Key of the setting.
    pub key: String,
    /// As it was typed.
    pub text: String,
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

/// What every field of a form needs. One kind for all values that are edited, so that a field is built once.
#[derive(Clone, Copy)]
struct Form {
    values: Memo<Table>,
    defaults: StoredValue<Table>,
    /// Takes the table with a value changed; false where it is no value of its setting.
    put: Callback<Table, bool>,
    bad: RwSignal<Vec<Bad>>,
    problems: Signal<Vec<SettingProblem>>,
    place: Place,
    disabled: Signal<bool>,
}

/// A group of settings as the fields of a form.
#[component]
pub fn Fields<T>(
    /// What they belong to.
    value: RwSignal<T>,
    settings: Vec<&'static Setting>,
    /// Path of the settings in `T` by their key in the run file, where `T` is no whole run.
    #[prop(default = Place::Run)]
    place: Place,
    /// What a field is set back to.
    #[prop(optional)]
    defaults: T,
    /// Where texts that are no values are kept.
    #[prop(default = RwSignal::new(Vec::new()))]
    bad: RwSignal<Vec<Bad>>,
    /// What the core finds wrong.
    #[prop(optional, into)]
    problems: Signal<Vec<SettingProblem>>,
    /// While this holds nothing can be changed.
    #[prop(into)]
    disabled: Signal<bool>,
) -> impl IntoView
where
    T: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let put = move |table: Table| match table.try_into() {
        Ok(new) => {
            value.set(new);
            true
        }
        Err(_) => false,
    };
    let form = Form {
        values: Memo::new(move |_| value.with(table_of)),
        defaults: StoredValue::new(table_of(&defaults)),
        put: Callback::new(put),
        bad,
        problems,
        place,
        disabled,
    };
    fields(form, settings)
}

fn fields(form: Form, settings: Vec<&'static Setting>) -> AnyView {
    let fields = settings.into_iter().map(|setting| field(form, setting));
    view! { <div class="fields">{fields.collect_view()}</div> }.into_any()
}

fn field(form: Form, setting: &'static Setting) -> AnyView {
    let key = StoredValue::new(form.place.key(setting));
    let id = format!("set-{}", key.get_value().replace('.', "-"));
    let doc_id = format!("{id}-doc");
    let shown = Memo::new(move |_| {
        let key = key.get_value();
        let typed = form.bad.with(|bad| bad.iter().find(|bad| bad.key == key).map(|bad| bad.text.clone()));
        typed.unwrap_or_else(|| form.values.with(|values| text_of(values, &key)))
    });
    let default = form.defaults.with_value(|defaults| text_of(defaults, &key.get_value()));
    let change = Callback::new(move |text: String| form.change(setting, &key.get_value(), text));
    let problem = Memo::new(move |_| {
        let key = key.get_value();
        if form.bad.with(|bad| bad.iter().any(|bad| bad.key == key)) {
            return Some(fill("expected {what}", &[("what", &t(setting.expects()))]));
        }
        form.problems.with(|problems| problems.iter().find(|problem| problem.key == key).map(problem_text))
    });
    let disabled = form.disabled;
    let input = input(setting, &id, &doc_id, shown, problem, disabled, change);
    let label = t(&setting.label());
    let reset = {
        let (label, default) = (label.clone(), default.clone());
        let shown_default = if default.is_empty() { t("automatic") } else { default.clone() };
        move || {
            let default = default.clone();
            (shown.get() != default).then(|| {
                let name = fill("reset to {value}: {setting}", &[("setting", &label), ("value", &shown_default)]);
                view! {
                    <button type="button" class="reset" aria-label=name disabled=disabled on:click=move |_| change.run(default.clone())>
                        {fill("reset to {value}", &[("value", &shown_default)])}
                    </button>
                }
            })
        }
    };
    view! {
        <div class="field">
            <div class="label"><label for=id>{label}</label>{reset}</div>
            {input}
            <p class="hint" id=doc_id>{with_code(&t(setting.doc))}</p>
            <p class="problem" role="alert">{move || problem.get()}</p>
        </div>
    }
    .into_any()
}

/// What the core says of a value, in the reader's language.
pub fn problem_text(problem: &SettingProblem) -> String {
    fill("{found}: expected {what}", &[("found", &t(&problem.found)), ("what", &t(&problem.expected))])
}

fn input(
    setting: &'static Setting,
    id: &str,
    doc_id: &str,
    shown: Memo<String>,
    problem: Memo<Option<String>>,
    disabled: Signal<bool>,
    change: Callback<String>,
) -> AnyView {
    let (id, doc_id) = (id.to_string(), doc_id.to_string());
    let choices = setting.choices();
    if setting.kind == "bool" {
        let toggle = move |event| change.run(event_target_checked(&event).to_string());
        return view! {
            <input id=id type="checkbox" aria-describedby=doc_id disabled=disabled prop:checked=move || shown.get() == "true" on:change=toggle />
        }
        .into_any();
    }
    let on_change = move |event| change.run(event_target_value(&event));
    if !choices.is_empty() {
        let options = choices.iter().map(|&word| {
            view! { <option value=word selected=move || shown.get() == word>{word}</option> }
        });
        return view! {
            <select id=id aria-describedby=doc_id disabled=disabled prop:value=move || shown.get() on:change=on_change>
                {options.collect_view()}
            </select>
        }
        .into_any();
    }
    let mode = if is_number(setting) { "decimal" } else { "text" };
    let placeholder = if setting.kind.starts_with("Option") { t("automatic") } else { String::new() };
    view! {
        <input id=id type="text" inputmode=mode autocomplete="off" spellcheck="false" placeholder=placeholder
            aria-describedby=doc_id aria-invalid=move || problem.get().is_some().to_string() disabled=disabled
            prop:value=move || shown.get() on:change=on_change />
    }
    .into_any()
}

impl Form {
    /// Takes a text into the value, or keeps it as one that is none.
    fn change(self, setting: &Setting, key: &str, text: String) {
        let mut values = self.values.get_untracked();
        let is_value = match value_of(setting, text.trim()) {
            Parsed::Value(value) => insert(&mut values, key, value) && self.put.run(values),
            Parsed::Absent => remove(&mut values, key) && self.put.run(values),
            Parsed::Nothing => false,
        };
        self.bad.update(|bad| {
            bad.retain(|bad| bad.key != key);
            if !is_value {
                bad.push(Bad { key: key.to_string(), text });
            }
        });
    }
}

/// Sets settings of a run by their keys, as advice gives them; true where all could be.
pub fn put_all<T: Serialize + DeserializeOwned>(value: &mut T, changes: &[(String, String)]) -> bool {
    let mut values = table_of(value);
    for (key, text) in changes {
        let Some(setting) = table().find(|setting| setting.key() == *key) else { return false };
        let Parsed::Value(new) = value_of(setting, text) else { return false };
        insert(&mut values, key, new);
    }
    values.try_into().map(|new| *value = new).is_ok()
}

/// A doc's words between backticks are names in files.
fn with_code(doc: &str) -> impl IntoView + use<> {
    let part = |(index, text): (usize, &str)| {
        let text = text.to_string();
        if index % 2 == 1 { view! { <code>{text}</code> }.into_any() } else { text.into_any() }
    };
    doc.split('`').enumerate().map(part).collect_view()
}

fn is_number(setting: &Setting) -> bool {
    ["f64", "usize", "u64"].contains(&setting.inner_kind())
}

/// What a text is for a setting.
enum Parsed {
    Value(Value),
    /// An optional setting is not given.
    Absent,
    /// Not a value of its type.
    Nothing,
}

fn value_of(setting: &Setting, text: &str) -> Parsed {
    if text.is_empty() && setting.kind.starts_with("Option") {
        return Parsed::Absent;
    }
    let value = match setting.inner_kind() {
        "f64" => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float),
        "usize" | "u64" => text.parse().ok().filter(|&number: &i64| number >= 0).map(Value::Integer),
        "bool" => text.parse().ok().map(Value::Boolean),
        "Vec<String>" => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Some(Value::Array(words.map(|word| Value::String(word.into())).collect()))
        }
        _ => Some(Value::String(text.into())),
    };
    value.map_or(Parsed::Nothing, Parsed::Value)
}

fn table_of<T: Serialize>(value: &T) -> Table {
    // Settings are tables of numbers, words and lists: all that a run file holds.
    Table::try_from(value).unwrap_or_default()
}

/// The setting as a person types it; empty where it is absent.
fn text_of(values: &Table, key: &str) -> String {
    let found = match key.split_once('.') {
        None => values.get(key),
        Some((section, name)) => {
            values.get(section).and_then(Value::as_table).and_then(|inner| inner.get(name))
        }
    };
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        Some(Value::Float(number)) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        // Rust writes 0.5 and 1; toml would write 1.0.
        Some(Value::Float(number)) => number.to_string(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// The table that a key's last part stands in, and that part.
fn home<'t, 'k>(values: &'t mut Table, key: &'k str) -> Option<(&'t mut Table, &'k str)> {
    match key.split_once('.') {
        None => Some((values, key)),
        Some((section, name)) => Some((values.get_mut(section)?.as_table_mut()?, name)),
    }
}

fn insert(values: &mut Table, key: &str, value: Value) -> bool {
    home(values, key).map(|(table, name)| _ = table.insert(name.to_string(), value)).is_some()
}

fn remove(values: &mut Table, key: &str) -> bool {
    home(values, key).map(|(table, name)| _ = table.remove(name)).is_some()
}
