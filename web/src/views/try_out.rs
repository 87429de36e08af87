//! Talking with the result, beside the model it came from.

use super::Busy;
use crate::client;
use crate::form::{Fields, Place};
use crate::state::{Page, View};
use attune::config::{GenerateConfig, Setting};
use attune::protocol::{Command, Prompt, Turn, Voice};
use leptos::prelude::*;

/// Which voices answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Both,
    Only(Voice),
}

#[component]
pub fn TryOut(page: Page) -> impl IntoView {
    let prompt = RwSignal::new(String::new());
    let has_template =
        move || page.model.with(|card| card.as_ref().is_some_and(|card| card.has_chat_template));
    let as_chat = RwSignal::new(
        page.model.with_untracked(|card| card.as_ref().is_some_and(|card| card.has_chat_template)),
    );
    let is_tuned = move || page.trained.with(Option::is_some);
    let is_off = move || !page.is_free() || page.model.with(Option::is_none) || prompt.with(String::is_empty);
    let ask = move |who: Ask| {
        let voices = match who {
            Ask::Both => vec![Voice::Tuned, Voice::Base],
            Ask::Only(voice) => vec![voice],
        };
        page.speaking.set(voices.clone());
        let text = prompt.get_untracked();
        let prompt = if as_chat.get_untracked() {
            Prompt::Chat(vec![Turn { role: "user".into(), content: text }])
        } else {
            Prompt::Text(text)
        };
        for voice in voices {
            match voice {
                Voice::Base => page.base_text.set(String::new()),
                Voice::Tuned => page.tuned_text.set(String::new()),
            }
            let sampling = page.sampling.get_untracked();
            let seed = page.run.with_untracked(|run| run.seed);
            client::work(
                page,
                View::Try,
                Command::Generate { prompt: prompt.clone(), voice, sampling, seed },
            );
        }
    };
    let fields: Vec<&'static Setting> = GenerateConfig::SETTINGS.iter().collect();
    view! {
        <Show when=move || page.model.with(Option::is_none)>
            <p class="note">"Open a model first."</p>
        </Show>
        <label for="prompt">"Prompt"</label>
        <textarea id="prompt" rows="4" prop:value=move || prompt.get() on:input=move |event| prompt.set(event_target_value(&event))></textarea>
        <Show when=has_template>
            <label class="check">
                <input type="checkbox" prop:checked=move || as_chat.get() on:change=move |event| as_chat.set(event_target_checked(&event)) />
                "as a message, in the model's chat template"
            </label>
        </Show>
        <div class="actions">
            <Show when=is_tuned fallback=move || view! {
                <button class="primary" id="ask-base" disabled=is_off on:click=move |_| ask(Ask::Only(Voice::Base))>"Ask the base model"</button>
            }>
                <button class="primary" id="ask-both" disabled=is_off on:click=move |_| ask(Ask::Both)>"Ask both"</button>
                <button id="ask-tuned" disabled=is_off on:click=move |_| ask(Ask::Only(Voice::Tuned))>"Tuned only"</button>
                <button id="ask-base" disabled=is_off on:click=move |_| ask(Ask::Only(Voice::Base))>"Base only"</button>
            </Show>
            <Show when=move || !page.speaking.with(Vec::is_empty)>
                <button on:click=move |_| client::stop()>"Stop"</button>
            </Show>
        </div>
        <details class="fold">
            <summary>"Sampling"</summary>
            <Fields value=page.sampling settings=fields place=Place::Part disabled=Signal::derive(move || !page.is_free()) />
        </details>
        <Busy page view=View::Try />
        <div class="columns">
            <Show when=is_tuned>
                <Said title="Tuned" id="said-tuned" text=page.tuned_text is_on=Signal::derive(move || speaks(page, Voice::Tuned)) />
            </Show>
            <Said title="Base" id="said-base" text=page.base_text is_on=Signal::derive(move || speaks(page, Voice::Base)) />
        </div>
    }
}

fn speaks(page: Page, voice: Voice) -> bool {
    page.speaking.with(|speaking| speaking.first() == Some(&voice))
}

#[component]
fn Said(title: &'static str, id: &'static str, text: RwSignal<String>, is_on: Signal<bool>) -> impl IntoView {
    view! {
        <section class="card said" class:speaking=is_on aria-label=title>
            <h3>{title}</h3>
            <p id=id class="text" aria-live="polite">{move || text.get()}</p>
        </section>
    }
}
