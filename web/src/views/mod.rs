//! One file a view.

pub mod charts;
pub mod compare;
pub mod data;
pub mod model;
pub mod needs;
pub mod stored;
pub mod take_home;
pub mod train;
pub mod try_out;
pub mod tune;

use crate::state::{Page, View};
use crate::units::bytes;
use leptos::prelude::*;

/// How far unfinished work is, where its end is known.
#[component]
pub fn Busy(page: Page, view: View) -> impl IntoView {
    let is_here = move || page.asked.with(|asked| asked.first() == Some(&view));
    let text = move || {
        page.progress.get().map_or("working".to_string(), |progress| {
            match ["fetching", "copying"].iter().any(|task| progress.task.starts_with(task)) {
                true => format!("{}: {} of {}", progress.task, bytes(progress.done), bytes(progress.total)),
                false => progress.task,
            }
        })
    };
    let share = move || {
        page.progress.get().map_or(0.0, |p| if p.total > 0 { p.done as f64 / p.total as f64 } else { 0.0 })
    };
    view! {
        <Show when=is_here>
            <div class="busy" role="status">
                <progress max="1" value=share aria-label="progress"></progress>
                <span>{text}</span>
            </div>
        </Show>
    }
}

/// Leads on once a step is done.
#[component]
pub fn Next(page: Page, to: View, #[prop(into)] when: Signal<bool>) -> impl IntoView {
    view! {
        <Show when=move || when.get()>
            <button class="primary next" on:click=move |_| page.view.set(to)>{format!("On to {}", to.title())}</button>
        </Show>
    }
}
