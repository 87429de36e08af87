//! How it is trained.

use super::needs::Needs;
use super::{Busy, Next};
use crate::form::Fields;
use crate::state::{Page, Phase, View, first_run};
use crate::words::{fill, t};
use attune::config::{Group, Run, Setting, table};
use attune::methods::{KINDS, MethodConfig};
use leptos::prelude::*;

/// The settings of a heading that a run with this method has.
fn settings(kind: &str, group: Group) -> Vec<&'static Setting> {
    let of_method = KINDS.iter().filter(|(name, _)| *name == kind).flat_map(|(_, settings)| settings.iter());
    let all = of_method.chain(table().filter(|setting| setting.section != "method"));
    all.filter(|setting| setting.look.group == Some(group)).collect()
}

fn kind_of(method: &MethodConfig) -> &'static str {
    match method {
        MethodConfig::Lora(_) => "lora",
        MethodConfig::Full(_) => "full",
    }
}

/// What people call a method, and what it does.
fn words_of(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "full" => {
            ("Full tuning", "Every weight of the model is trained: needs several times the model's memory.")
        }
        _ => ("LoRA", "Low-rank adapters (2106.09685): few weights are trained, the model stays as it is."),
    }
}

#[component]
pub fn Tune(page: Page) -> impl IntoView {
    // Whoever looks at the settings has seen them.
    page.is_tuned.set(true);
    let kind = Memo::new(move |_| page.run.with(|run| kind_of(&run.method)));
    let disabled = Signal::derive(move || page.phase.get() == Phase::Training);
    let group = move |group: Group| {
        // Follows the method, not every change of a value: a field keeps its focus.
        let (first, more): (Vec<_>, Vec<_>) =
            settings(kind.get(), group).into_iter().partition(|setting| setting.look.is_first);
        section(page, group, first, more, disabled, kind)
    };
    view! {
        <p class="lead">{t("Defaults are those of Hugging Face's Trainer and PEFT. Every setting is one of the run file.")}</p>
        <super::take_home::Continues page />
        <Needs page />
        {move || Group::ALL.into_iter().map(group).collect_view()}
        <Busy page view=View::Tune />
        <super::take_home::BringBack page view=View::Tune />
        <Next page to=View::Train when=Signal::derive(move || crate::forecast::to_mend(page).is_empty()) />
        {move || mend_first(page)}
    }
}

/// Says which fields keep the run from starting; nothing where none does.
pub fn mend_first(page: Page) -> Option<impl IntoView> {
    let labels = crate::forecast::to_mend(page);
    let text = || fill("To be mended first: {settings}.", &[("settings", &labels.join(", "))]);
    (!labels.is_empty()).then(|| view! { <p class="note" id="to-mend">{text()}</p> })
}

fn section(
    page: Page,
    group: Group,
    first: Vec<&'static Setting>,
    more: Vec<&'static Setting>,
    disabled: Signal<bool>,
    kind: Memo<&'static str>,
) -> AnyView {
    let title = t(group.title());
    let heading = title.clone();
    let method = (group == Group::Method).then(|| method_field(page, disabled, kind));
    let rate = (group == Group::Schedule).then(|| {
        let rate = move || page.run.with(Run::learning_rate);
        view! { <p class="hint">{move || fill("Learning rate in force: {rate}", &[("rate", &format!("{:e}", rate()))])}</p> }
    });
    let fields = move |settings: Vec<&'static Setting>| {
        let of_method = page.run.with_untracked(|run| run.method.clone());
        let defaults = Run { method: default_of(&of_method), ..first_run() };
        (!settings.is_empty()).then(|| {
            view! { <Fields value=page.run settings defaults bad=page.bad problems=page.problems disabled /> }
        })
    };
    if first.is_empty() && method.is_none() {
        return view! {
            <details class="fold"><summary>{title}</summary>{fields(more)}</details>
        }
        .into_any();
    }
    let folded = (!more.is_empty()).then(|| {
        let summary = fill("More on {group}", &[("group", &title.to_lowercase())]);
        view! { <details class="fold"><summary>{summary}</summary>{fields(more)}</details> }
    });
    view! {
        <section class="group" aria-label=title>
            <h3>{heading}</h3>
            {method}
            {fields(first)}
            {rate}
            {folded}
        </section>
    }
    .into_any()
}

fn default_of(method: &MethodConfig) -> MethodConfig {
    match method {
        MethodConfig::Lora(_) => MethodConfig::Lora(Default::default()),
        MethodConfig::Full(_) => MethodConfig::Full(Default::default()),
    }
}

fn method_field(page: Page, disabled: Signal<bool>, kind: Memo<&'static str>) -> AnyView {
    let choose = move |event| {
        let method = serde_json::from_value(serde_json::json!({ "kind": event_target_value(&event) }));
        // The options below are the kinds that there are.
        if let Ok(method) = method {
            page.bad.update(|bad| bad.retain(|bad| !bad.key.starts_with("method.")));
            page.run.update(|run| run.change_method(method));
        }
    };
    let options = KINDS.iter().map(|&(name, _)| {
        view! { <option value=name selected=move || kind.get() == name>{t(words_of(name).0)}</option> }
    });
    view! {
        <div class="fields">
            <div class="field">
                <label for="method">{t("Method")}</label>
                <select id="method" disabled=disabled prop:value=move || kind.get() on:change=choose aria-describedby="method-doc">{options.collect_view()}</select>
                <p class="hint" id="method-doc">{move || t(words_of(kind.get()).1)}</p>
            </div>
        </div>
    }
    .into_any()
}
