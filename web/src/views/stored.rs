//! What earlier visits left in this browser: models, runs, and a run that was cut off.

use super::compare;
use crate::client;
use crate::hub;
use crate::state::{Page, Phase, Source, View};
use crate::units::{bytes, count};
use crate::views::{data, model};
use crate::words::{counted, fill, t};
use attune::methods::MethodConfig;
use attune::protocol::{Command, StoredFile, StoredRun, Unfinished};
use leptos::prelude::*;

/// What can be done with something stored.
struct Stored {
    /// Folder or file.
    key: String,
    /// What people call it.
    name: String,
    /// Where its deletion is said to have failed.
    view: View,
    is_open: Signal<bool>,
    can_open: bool,
    open: Callback<()>,
}

/// The buttons of something stored. Deleting takes a second click on the same button.
fn buttons(page: Page, stored: Stored) -> impl IntoView {
    let Stored { key, name, view, is_open, can_open, open } = stored;
    let open_label = fill("Open {name}", &[("name", &name)]);
    view! {
        <button aria-label=open_label disabled=move || !page.is_free() || !can_open || is_open.get() on:click=move |_| open.run(())>{t("Open")}</button>
        {delete(page, key, name, view, is_open)}
    }
}

/// Deletes at the second click.
fn delete(page: Page, key: String, name: String, view: View, is_open: Signal<bool>) -> impl IntoView {
    let is_sure = RwSignal::new(false);
    let delete_label = move || {
        let label = if is_sure.get() { "Delete {name} for good" } else { "Delete {name}" };
        fill(label, &[("name", &name)])
    };
    let delete = move |_| {
        if !is_sure.get_untracked() {
            return is_sure.set(true);
        }
        page.ticked.update(|ticked| ticked.retain(|ticked| *ticked != key));
        client::work(page, view, Command::Remove { key: key.clone() });
        client::list(page);
    };
    view! {
        <button class="quiet" class:danger=move || is_sure.get() aria-label=delete_label
            disabled=move || !page.is_free() || is_open.get() on:click=delete>
            {move || t(if is_sure.get() { "Delete for good" } else { "Delete" })}
        </button>
        <Show when=move || is_sure.get()>
            <button class="quiet" on:click=move |_| is_sure.set(false)>{t("Keep it")}</button>
        </Show>
    }
}

/// Stored models, to be opened or deleted.
#[component]
pub fn Models(page: Page) -> impl IntoView {
    let row = move |stored: StoredFile| {
        let StoredFile { key, name, n_bytes } = stored;
        // A model of the hub is called as the command line takes it.
        let is_file = name.ends_with(".gguf") && !name.contains('/');
        let stem = if is_file { model::stem(&name).to_string() } else { name };
        let is_open = {
            let key = key.clone();
            Signal::derive(move || {
                page.model.with(Option::is_some)
                    && page.source.with(|source| source.as_ref().is_some_and(|s| s.key == key))
            })
        };
        let open = {
            let (key, stem) = (key.clone(), stem.clone());
            Callback::new(move |()| model::open(page, View::Model, key.clone(), stem.clone()))
        };
        let stored = Stored { key, name: stem.clone(), view: View::Model, is_open, can_open: true, open };
        view! {
            <li>
                <div class="what"><strong>{stem}</strong><span class="hint">{move || is_open.get().then(|| t("open"))}</span></div>
                <span class="number">{bytes(n_bytes)}</span>
                <div class="actions">{buttons(page, stored)}</div>
            </li>
        }
    };
    let half = move |unfinished: Unfinished| {
        let Unfinished { key, name, n_bytes, hub_id } = unfinished;
        let go_on = fill("Go on with {name}", &[("name", &name)]);
        let go_on = hub_id.map(|id| {
            view! { <button aria-label=go_on disabled=move || !page.is_free() on:click=move |_| hub::open(page, id.clone())>{t("Go on")}</button> }
        });
        view! {
            <li>
                <div class="what"><strong>{name.clone()}</strong><span class="hint">{t("not whole yet")}</span></div>
                <span class="number">{bytes(n_bytes)}</span>
                <div class="actions">
                    {go_on}
                    {delete(page, key, name.clone(), View::Model, Signal::derive(|| false))}
                </div>
            </li>
        }
    };
    let is_something =
        move || page.stored.with(|stored| !stored.models.is_empty() || !stored.unfinished.is_empty());
    let room = move || {
        page.room.get().map(|room| {
            let sizes = fill(
                "{used} kept, {left} left.",
                &[("used", &bytes(room.used)), ("left", &bytes(room.left))],
            );
            let promise = match room.is_promised {
                true => t("It stays until you delete it."),
                false => t("The browser may clear it when space runs short; take home what matters."),
            };
            view! { <p class="hint" id="room">{sizes}" "{promise}</p> }
        })
    };
    view! {
        <Show when=is_something>
            <section class="card" id="stored-models">
                <h3>{t("In this browser")}</h3>
                <ul class="stored">
                    {move || page.stored.get().models.into_iter().map(row).collect_view()}
                    {move || page.stored.get().unfinished.into_iter().map(half).collect_view()}
                </ul>
                {room}
            </section>
        </Show>
    }
}

/// Stored runs, the newest first.
#[component]
pub fn Runs(page: Page) -> impl IntoView {
    let renaming = RwSignal::new(None::<String>);
    let row = move |stored: StoredRun| {
        let out = stored.run.out.clone();
        let (name, facts, figures) = (name_of(&stored), about(&stored), figures_of(&stored));
        let is_open = {
            let out = out.clone();
            Signal::derive(move || page.begun.with(|run| run.as_ref().is_some_and(|run| run.out == out)))
        };
        let is_ticked = {
            let out = out.clone();
            Signal::derive(move || page.ticked.with(|ticked| ticked.contains(&out)))
        };
        let is_full = move || !is_ticked.get() && page.ticked.with(|ticked| ticked.len() >= compare::MOST);
        let tick = {
            let out = out.clone();
            move |event| {
                page.ticked.update(|ticked| {
                    ticked.retain(|ticked| *ticked != out);
                    if event_target_checked(&event) {
                        ticked.push(out.clone());
                    }
                })
            }
        };
        let is_renamed = {
            let out = out.clone();
            Signal::derive(move || renaming.with(|renaming| renaming.as_ref() == Some(&out)))
        };
        let rename = {
            let out = out.clone();
            Callback::new(move |name: String| {
                renaming.set(None);
                client::work(page, View::Train, Command::Rename { key: out.clone(), name });
                client::list(page);
            })
        };
        let labels = ["Compare {name}", "Rename {name}", "Name of {name}"]
            .map(|label| fill(label, &[("name", &name)]));
        let [tick_label, rename_label, field_label] = labels;
        let given = stored.name.clone().unwrap_or_default();
        let can_open = stored.is_done || stored.has_checkpoint;
        let key = out.clone();
        let open = Callback::new(move |()| go_back(page, stored.clone()));
        let actions = Stored { key, name: name.clone(), view: View::Train, is_open, can_open, open };
        view! {
            <li>
                <label class="check what">
                    <input type="checkbox" aria-label=tick_label prop:checked=move || is_ticked.get() disabled=is_full on:change=tick />
                    <span><strong>{name}</strong><span class="hint">{facts}</span></span>
                </label>
                <span class="number">{figures}</span>
                <div class="actions">
                    {buttons(page, actions)}
                    <button class="quiet" aria-label=rename_label aria-expanded=move || is_renamed.get().to_string() disabled=move || !page.is_free()
                        on:click=move |_| renaming.set((!is_renamed.get_untracked()).then(|| out.clone()))>{t("Rename")}</button>
                </div>
                <Show when=move || is_renamed.get()>
                    <input type="text" class="rename" maxlength="100" aria-label=field_label.clone() placeholder=t("Name, then Enter") prop:value=given.clone()
                        on:change=move |event| rename.run(event_target_value(&event)) />
                </Show>
            </li>
        }
    };
    view! {
        <Show when=move || page.stored.with(|stored| !stored.runs.is_empty())>
            <section class="card" id="stored-runs">
                <h3>{t("Runs in this browser")}</h3>
                <p class="hint">{t("Tick two or more to compare them.")}</p>
                <ul class="stored">{move || page.stored.get().runs.into_iter().map(row).collect_view()}</ul>
            </section>
        </Show>
    }
}

/// Offers the newest run that was cut off, until something else is begun.
#[component]
pub fn Unfinished(page: Page) -> impl IntoView {
    let cut = move || {
        // While a model is opened none is.
        if page.model.with(Option::is_some) || page.phase.get() != Phase::Idle || !page.is_free() {
            return None;
        }
        page.stored
            .with(|stored| stored.runs.first().filter(|run| !run.is_done && run.has_checkpoint).cloned())
    };
    let offer = move |run: StoredRun| {
        let text =
            fill("A run was cut off: {name}, {facts}.", &[("name", &name_of(&run)), ("facts", &about(&run))]);
        view! {
            <div class="card offer" id="unfinished">
                <p>{text}</p>
                <div class="actions">
                    <button class="primary" id="go-back" disabled=move || !page.is_free() on:click=move |_| go_back(page, run.clone())>{t("Go back to it")}</button>
                </div>
            </div>
        }
    };
    move || cut().map(offer)
}

/// Opens a run's model and rows again, then the run itself.
fn go_back(page: Page, stored: StoredRun) {
    page.view.set(View::Train);
    let StoredRun { run, model, data: rows, is_done, .. } = stored.clone();
    model::open(page, View::Train, model, run.model.clone());
    client::figures(&run.out);
    page.returning.set(Some(stored));
    // A run that was brought back has its rows elsewhere.
    if !rows.is_empty() {
        let name = run.data.path.clone().unwrap_or_default();
        page.rows.set(Some(Source { key: rows.clone(), name: name.clone() }));
        data::read(page, View::Train, Source { key: rows, name }, &run);
    }
    if is_done {
        client::work(page, View::Train, Command::Reopen { run: Box::new(run) });
    }
}

/// What a run is called: its own name, its number, or when it began.
pub fn name_of(stored: &StoredRun) -> String {
    match (&stored.name, stored.number) {
        (Some(name), _) => name.clone(),
        (None, 0) => began(&stored.run.out),
        (None, number) => fill("Run {n}", &[("n", &number)]),
    }
}

/// A run's folder is named after the moment it began.
fn began(out: &str) -> String {
    let millis = out.rsplit('/').next().and_then(|name| name.parse::<f64>().ok());
    let date = millis.map(|millis| js_sys::Date::new(&millis.into()));
    let text = date.map(|date| String::from(date.to_locale_string("default", &js_sys::Object::new())));
    text.unwrap_or_else(|| out.to_string())
}

/// Model, rows, method, how far and when.
fn about(stored: &StoredRun) -> String {
    let method = match &stored.run.method {
        MethodConfig::Lora(lora) => fill("LoRA, rank {rank}", &[("rank", &lora.rank)]),
        MethodConfig::Full(_) => t("full tuning"),
    };
    let at = match (&stored.last_step, stored.is_done) {
        (None, _) => t("no step"),
        (Some(step), true) => counted(step.step, "{n} step", "{n} steps"),
        (Some(step), false) => {
            let (n, total) = (count(step.step), count(step.total_steps));
            fill("step {n} of {total}", &[("n", &n), ("total", &total)])
        }
    };
    let rows = stored.run.data.path.as_deref().unwrap_or_default();
    let parts = [stored.run.model.clone(), rows.to_string(), method, at, began(&stored.run.out)];
    parts.join(" · ")
}

/// Loss, held-out loss and size.
fn figures_of(stored: &StoredRun) -> String {
    let mut parts = Vec::new();
    if let Some(step) = &stored.last_step {
        parts.push(fill("loss {loss}", &[("loss", &format!("{:.3}", step.loss))]));
    }
    if let Some(eval) = &stored.last_eval {
        parts.push(fill("held out {loss}", &[("loss", &format!("{:.3}", eval.eval_loss))]));
    }
    parts.push(bytes(stored.n_bytes));
    parts.join(" · ")
}
