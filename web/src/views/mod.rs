//! One file a view.

pub mod charts;
pub mod compare;
pub mod data;
pub mod hub;
pub mod model;
pub mod needs;
pub mod report;
pub mod stored;
pub mod take_home;
pub mod train;
pub mod try_out;
pub mod tune;

use crate::client;
use crate::state::{Asked, Page, View};
use crate::units::bytes;
use crate::words::{fill, t};
use leptos::prelude::*;

/// How far unfinished work is, where its end is known.
#[component]
pub fn Busy(page: Page, view: View) -> impl IntoView {
    // A forecast follows every change of a setting: it would flicker.
    let is_shown = move |asked: &Asked| asked.view == view && !(asked.is_quiet && view == View::Tune);
    let is_here = move || page.asked.with(|asked| asked.first().is_some_and(is_shown));
    let text = move || {
        page.progress.get().map_or_else(
            || t("working"),
            |progress| match ["fetching", "copying"].iter().any(|task| progress.task.starts_with(task)) {
                true if progress.total == 0 => {
                    format!("{}: {}", task_words(&progress.task), bytes(progress.done))
                }
                true => fill(
                    "{task}: {done} of {total}",
                    &[
                        ("task", &task_words(&progress.task)),
                        ("done", &bytes(progress.done)),
                        ("total", &bytes(progress.total)),
                    ],
                ),
                false => task_words(&progress.task),
            },
        )
    };
    let task = Memo::new(move |_| {
        page.progress.with(|progress| progress.as_ref().map_or_else(|| t("working"), |p| task_words(&p.task)))
    });
    let share = move || {
        page.progress.get().map_or(0.0, |p| if p.total > 0 { p.done as f64 / p.total as f64 } else { 0.0 })
    };
    view! {
        <Show when=is_here>
            <div class="busy">
                <progress max="1" value=share aria-label=t("progress")></progress>
                // Numbers that run are for the eye; heard is what they are about.
                <span class="visually-hidden" role="status">{move || task.get()}</span>
                <span aria-hidden="true">{text}</span>
                // What is fetched goes on from where it was stopped.
                <Show when=move || page.hub.is_fetching.get()>
                    <button class="quiet" id="stop-fetch" on:click=move |_| client::stop()>{t("Stop")}</button>
                </Show>
            </div>
        </Show>
    }
}

/// A task in the visitor's language: as a whole, or its verb before a file's name.
fn task_words(task: &str) -> String {
    match task.split_once(' ') {
        Some((verb, name)) if t(task) == task => format!("{} {name}", t(verb)),
        _ => t(task),
    }
}

/// Leads on once a step is done.
#[component]
pub fn Next(page: Page, to: View, #[prop(into)] when: Signal<bool>) -> impl IntoView {
    view! {
        <Show when=move || when.get()>
            <button class="primary next" on:click=move |_| page.view.set(to)>{fill("On to {view}", &[("view", &t(to.title()))])}</button>
        </Show>
    }
}
