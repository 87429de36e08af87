//! How it is trained.

use super::Next;
use crate::form::Fields;
use crate::state::{Page, Phase, View};
use attune::config::{DataConfig, Run, Setting, TrainConfig};
use attune::methods::{KINDS, MethodConfig};
use leptos::prelude::*;

/// Settings that most runs decide; the others are folded.
const FIRST: &[&str] = &[
    "method.rank",
    "method.alpha",
    "train.learning_rate",
    "train.epochs",
    "train.max_steps",
    "train.batch_size",
    "data.max_length",
    "data.eval_fraction",
];

/// Everything that belongs to this view: what the page decides by itself is not among it.
fn settings(run: &Run) -> impl Iterator<Item = &'static Setting> + use<> {
    let kind = kind_of(&run.method);
    let method =
        KINDS.iter().filter(move |(name, _)| *name == kind).flat_map(|(_, settings)| settings.iter());
    let data = DataConfig::SETTINGS
        .iter()
        .filter(|setting| !["path", "eval_path", "columns"].contains(&setting.name));
    let seed = Run::SETTINGS.iter().filter(|setting| setting.name == "seed");
    method.chain(TrainConfig::SETTINGS).chain(data).chain(seed)
}

fn kind_of(method: &MethodConfig) -> &'static str {
    match method {
        MethodConfig::Lora(_) => "lora",
        MethodConfig::Full(_) => "full",
    }
}

#[component]
pub fn Tune(page: Page) -> impl IntoView {
    let kind = Memo::new(move |_| page.run.with(|run| kind_of(&run.method)));
    let disabled = Signal::derive(move || !page.is_free() || page.phase.get() == Phase::Training);
    let choose = move |event| {
        let method = serde_json::from_value(serde_json::json!({ "kind": event_target_value(&event) }));
        // The options below are the kinds that there are.
        if let Ok(method) = method {
            page.run.update(|run| run.method = method);
        }
    };
    let options = KINDS.iter().map(|&(name, _)| {
        view! { <option value=name selected=move || kind.get() == name>{name}</option> }
    });
    let fields = move |is_first: bool| {
        // Follows the method, not every change of a value: a field keeps its focus.
        _ = kind.get();
        let run = page.run.get_untracked();
        let settings: Vec<_> =
            settings(&run).filter(|setting| FIRST.contains(&setting.key().as_str()) == is_first).collect();
        view! { <Fields value=page.run settings disabled /> }
    };
    let rate = move || page.run.with(|run| format!("Learning rate in force: {:e}", run.learning_rate()));
    view! {
        <p class="lead">"Defaults are those of Hugging Face's Trainer and PEFT. Every setting is one of the run file."</p>
        <div class="fields">
            <div class="field">
                <label for="method">"method"</label>
                <select id="method" disabled=disabled prop:value=move || kind.get() on:change=choose aria-describedby="method-doc">{options.collect_view()}</select>
                <p class="hint" id="method-doc">{move || match kind.get() {
                    "full" => "Every weight of the model is trained: needs several times the model's memory.",
                    _ => "Low-rank adapters (2106.09685): few weights are trained, the model stays as it is.",
                }}</p>
            </div>
        </div>
        {move || fields(true)}
        <p class="hint">{rate}</p>
        <details class="fold">
            <summary>"All other settings"</summary>
            {move || fields(false)}
        </details>
        <Next page to=View::Train when=true />
    }
}
