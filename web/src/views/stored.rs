//! What earlier visits left in this browser: models, runs, and a run that was cut off.

use crate::client;
use crate::hub;
use crate::state::{Page, Phase, Source, View};
use crate::units::{bytes, count};
use crate::views::{data, model};
use crate::words::{fill, t};
use attune::methods::MethodConfig;
use attune::protocol::{Command, StoredFile, StoredRun, Unfinished};
use leptos::prelude::*;

/// Stored models, to be opened or deleted.
#[component]
pub fn Models(page: Page) -> impl IntoView {
    let row = move |stored: StoredFile| {
        let StoredFile { key, name, n_bytes } = stored;
        let is_open = {
            let key = key.clone();
            move || {
                page.model.with(Option::is_some)
                    && page.source.with(|source| source.as_ref().is_some_and(|s| s.key == key))
            }
        };
        let stem = if name.ends_with(".gguf") { model::stem(&name).to_string() } else { name.clone() };
        let open = {
            let (key, stem) = (key.clone(), stem.clone());
            move |_| model::open(page, key.clone(), stem.clone())
        };
        let (open_label, delete_label) =
            (fill("Open {name}", &[("name", &stem)]), fill("Delete {name}", &[("name", &stem)]));
        let is_used = is_open.clone();
        view! {
            <tr>
                <th scope="row">{stem}<span class="hint">{move || if is_open() { t("open") } else { String::new() }}</span></th>
                <td class="number">{bytes(n_bytes)}</td>
                <td class="actions">
                    <button aria-label=open_label disabled=move || !page.is_free() on:click=open>{t("Open")}</button>
                    <button class="quiet" aria-label=delete_label disabled=move || !page.is_free() || is_used() on:click=move |_| remove(page, View::Model, key.clone())>{t("Delete")}</button>
                </td>
            </tr>
        }
    };
    let half = move |unfinished: Unfinished| {
        let Unfinished { key, name, n_bytes, hub_id } = unfinished;
        let (go_on, delete) =
            (fill("Go on with {name}", &[("name", &name)]), fill("Delete {name}", &[("name", &name)]));
        let go_on = hub_id.map(|id| {
            view! { <button aria-label=go_on disabled=move || !page.is_free() on:click=move |_| hub::open(page, id.clone())>{t("Go on")}</button> }
        });
        view! {
            <tr>
                <th scope="row">{name}<span class="hint">{t("not whole yet")}</span></th>
                <td class="number">{bytes(n_bytes)}</td>
                <td class="actions">
                    {go_on}
                    <button class="quiet" aria-label=delete disabled=move || !page.is_free() on:click=move |_| remove(page, View::Model, key.clone())>{t("Delete")}</button>
                </td>
            </tr>
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
                <table class="files"><tbody>
                    {move || page.stored.get().models.into_iter().map(row.clone()).collect_view()}
                    {move || page.stored.get().unfinished.into_iter().map(half).collect_view()}
                </tbody></table>
                {room}
            </section>
        </Show>
    }
}

/// Stored runs, the newest first.
#[component]
pub fn Runs(page: Page) -> impl IntoView {
    let row = move |stored: StoredRun| {
        let out = stored.run.out.clone();
        let is_open = {
            let out = out.clone();
            move || page.begun.with(|run| run.as_ref().is_some_and(|run| run.out == out))
        };
        let is_used = is_open.clone();
        let (name, facts) = (began(&stored.run.out), about(&stored));
        let loss = stored.steps.last().map_or("–".to_string(), |step| format!("{:.4}", step.loss));
        let held_out = stored.evals.last().map_or("–".to_string(), |eval| format!("{:.4}", eval.eval_loss));
        let (open_label, delete_label) =
            (format!("Open the run of {name}"), format!("Delete the run of {name}"));
        let can_open = stored.is_done || stored.has_checkpoint;
        view! {
            <tr>
                <th scope="row">{name}<span class="hint">{facts}</span></th>
                <td class="number">{loss}</td>
                <td class="number">{held_out}</td>
                <td class="number">{bytes(stored.n_bytes)}</td>
                <td class="actions">
                    <button aria-label=open_label disabled=move || !page.is_free() || !can_open || is_open() on:click=move |_| go_back(page, stored.clone())>"Open"</button>
                    <button class="quiet" aria-label=delete_label disabled=move || !page.is_free() || is_used() on:click=move |_| remove(page, View::Train, out.clone())>"Delete"</button>
                </td>
            </tr>
        }
    };
    view! {
        <Show when=move || page.stored.with(|stored| !stored.runs.is_empty())>
            <section class="card" id="stored-runs">
                <h3>"Runs in this browser"</h3>
                <div class="wide" tabindex="0" role="region" aria-label="Runs in this browser">
                    <table class="files">
                        <thead><tr><th scope="col">"Began"</th><th scope="col" class="number">"Loss"</th><th scope="col" class="number">"Held out"</th><th scope="col" class="number">"Size"</th><th scope="col"><span class="visually-hidden">"Actions"</span></th></tr></thead>
                        <tbody>{move || page.stored.get().runs.into_iter().map(row).collect_view()}</tbody>
                    </table>
                </div>
            </section>
        </Show>
    }
}

/// Offers the newest run that was cut off, until something else is begun.
#[component]
pub fn Unfinished(page: Page) -> impl IntoView {
    let cut = move || {
        if page.model.with(Option::is_some) || page.phase.get() != Phase::Idle {
            return None;
        }
        page.stored
            .with(|stored| stored.runs.first().filter(|run| !run.is_done && run.has_checkpoint).cloned())
    };
    let offer = move |run: StoredRun| {
        let text = format!("A run was cut off: {}, {}.", began(&run.run.out), about(&run));
        view! {
            <div class="card offer" id="unfinished">
                <p>{text}</p>
                <div class="actions">
                    <button class="primary" id="go-back" disabled=move || !page.is_free() on:click=move |_| go_back(page, run.clone())>"Go back to it"</button>
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
    model::open(page, model, run.model.clone());
    page.returning.set(Some(stored));
    let name = run.data.path.clone().unwrap_or_default();
    page.rows.set(Some(Source { key: rows.clone(), name: name.clone() }));
    data::read(page, View::Train, Source { key: rows, name }, &run);
    if is_done {
        client::work(page, View::Train, Command::Reopen { run: Box::new(run) });
    }
}

fn remove(page: Page, view: View, key: String) {
    client::work(page, view, Command::Remove { key });
    client::list(page);
}

/// A run's folder is named after the moment it began.
fn began(out: &str) -> String {
    let millis = out.rsplit('/').next().and_then(|name| name.parse::<f64>().ok());
    let date = millis.map(|millis| js_sys::Date::new(&millis.into()));
    let text = date.map(|date| String::from(date.to_locale_string("default", &js_sys::Object::new())));
    text.unwrap_or_else(|| out.to_string())
}

fn about(stored: &StoredRun) -> String {
    let method = match &stored.run.method {
        MethodConfig::Lora(lora) => format!("LoRA rank {}", lora.rank),
        MethodConfig::Full(_) => "full tuning".to_string(),
    };
    let at = match (stored.steps.last(), stored.is_done) {
        (None, _) => "no step".to_string(),
        (Some(step), true) => format!("{} steps", count(step.step)),
        (Some(step), false) => format!("step {} of {}", count(step.step), count(step.total_steps)),
    };
    format!("{}, {method}, {at}", stored.run.model)
}
