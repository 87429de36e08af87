//! Talking with the result, beside the model it came from.

use super::Busy;
use crate::client;
use crate::form::{Fields, Place};
use crate::state::{Page, View};
use crate::talk::Said;
use crate::units::count;
use crate::words::{counted, fill, t};
use attune::config::{GenerateConfig, Setting};
use attune::protocol::{Answer, Command, Voice};
use leptos::ev::KeyboardEvent;
use leptos::prelude::*;

const BOTH: &[Voice] = &[Voice::Tuned, Voice::Base];

#[component]
pub fn TryOut(page: Page) -> impl IntoView {
    let talk = page.talk;
    let has_template =
        move || page.model.with(|card| card.as_ref().is_some_and(|card| card.has_chat_template));
    let is_tuned = move || page.trained.with(Option::is_some);
    let is_off = move || {
        !page.is_free()
            || page.model.with(Option::is_none)
            || talk.draft.with(|draft| draft.trim().is_empty())
    };
    let ask = move |voices: &[Voice]| {
        if is_off() {
            return;
        }
        for (voice, prompt) in talk.ask(voices) {
            let sampling = page.sampling.get_untracked();
            let seed = page.run.with_untracked(|run| run.seed);
            client::work(page, View::Try, Command::Generate { prompt, voice, sampling, seed });
        }
    };
    let press = move |event: KeyboardEvent| {
        // A word that is still being composed is ended by the same key.
        if event.key() == "Enter" && !event.shift_key() && !event.is_composing() {
            event.prevent_default();
            ask(if is_tuned() { BOTH } else { &[Voice::Base] });
        }
    };
    let example = move |_| {
        if !talk.next_example() {
            let run = page.begun.get_untracked().unwrap_or_else(|| page.run.get_untracked());
            client::work(page, View::Try, Command::Examples { run: Box::new(run) });
        }
    };
    let which = move || {
        talk.examples.get().map(|(examples, at)| match examples.rows.get(at) {
            None => t("No row has a question and an answer."),
            Some(row) => {
                let held_out = "Held-out row {n} of {total}, line {line}: training did not see it.";
                let trained = "Row {n} of {total}, line {line}: training sees it, as no rows are held out.";
                let values: [(&str, &dyn std::fmt::Display); 3] =
                    [("n", &(at + 1)), ("total", &examples.rows.len()), ("line", &row.line)];
                fill(if examples.is_held_out { held_out } else { trained }, &values)
            }
        })
    };
    let fields: Vec<&'static Setting> = GenerateConfig::SETTINGS.iter().collect();
    let n_exchanges = Memo::new(move |_| talk.exchanges.with(Vec::len));
    view! {
        <Show when=move || page.model.with(Option::is_none)>
            <p class="note">{t("Open a model first.")}</p>
        </Show>
        {move || (0..n_exchanges.get()).map(|index| view! { <Shown page index /> }).collect_view()}
        <Show when=move || talk.is_chat.get()>
            <details class="fold">
                <summary>{t("System message")}</summary>
                <textarea id="system" rows="2" aria-label=t("System message") prop:value=move || talk.system.get()
                    on:input=move |event| talk.system.set(event_target_value(&event))></textarea>
            </details>
        </Show>
        <label for="prompt">{move || if talk.is_chat.get() { t("Message") } else { t("Text to continue") }}</label>
        <textarea id="prompt" rows="3" aria-describedby="prompt-hint" prop:value=move || talk.draft.get() on:keydown=press
            on:input=move |event| talk.draft.set(event_target_value(&event))></textarea>
        <p class="hint" id="prompt-hint">{t("Enter sends, Shift+Enter begins a new line.")} " " {which}</p>
        <Show when=has_template>
            <label class="check">
                <input type="checkbox" prop:checked=move || talk.is_chat.get() on:change=move |event| talk.is_chat.set(event_target_checked(&event)) />
                {t("as a message, in the model's chat template")}
            </label>
        </Show>
        <div class="actions">
            <Show when=is_tuned fallback=move || view! {
                <button class="primary" id="ask-base" disabled=is_off on:click=move |_| ask(&[Voice::Base])>{t("Ask the base model")}</button>
            }>
                <button class="primary" id="ask-both" disabled=is_off on:click=move |_| ask(BOTH)>{t("Ask both")}</button>
                <button id="ask-tuned" disabled=is_off on:click=move |_| ask(&[Voice::Tuned])>{t("Tuned only")}</button>
                <button id="ask-base" disabled=is_off on:click=move |_| ask(&[Voice::Base])>{t("Base only")}</button>
            </Show>
            <Show when=move || !talk.speaking.with(Vec::is_empty)>
                <button id="stop-talk" on:click=move |_| client::stop()>{t("Stop")}</button>
            </Show>
            <Show when=move || page.data.with(Option::is_some)>
                <button id="example" disabled=move || !page.is_free() on:click=example>{t("A row of your data")}</button>
            </Show>
            <Show when=move || { n_exchanges.get() > 0 }>
                <button class="quiet" id="clear" disabled=move || !page.is_free() on:click=move |_| talk.clear()>{t("Clear")}</button>
            </Show>
        </div>
        <Busy page view=View::Try />
        <details class="fold">
            <summary>{t("Sampling")}</summary>
            <Fields value=page.sampling settings=fields place=Place::Part disabled=Signal::derive(move || !page.is_free()) />
        </details>
    }
}

/// A question with what was said to it.
#[component]
fn Shown(page: Page, index: usize) -> impl IntoView {
    let talk = page.talk;
    let exchange = talk.exchanges.with_untracked(|all| all.get(index).cloned()).unwrap_or_default();
    let is_last = talk.exchanges.with_untracked(Vec::len) == index + 1;
    let card = move |voice: Voice| {
        let said = Memo::new(move |_| {
            talk.exchanges.with(|all| all.get(index).and_then(|one| one.said(voice).cloned()))
        });
        let is_on = move || is_last && talk.speaking.with(|speaking| speaking.first() == Some(&voice));
        let (heading, id) = match voice {
            Voice::Tuned => (t("Tuned"), "said-tuned"),
            Voice::Base => (t("Base"), "said-base"),
        };
        let label = heading.clone();
        view! {
            <section class="card said" class:speaking=is_on aria-label=label>
                <h3>{heading}</h3>
                <p id=is_last.then_some(id) class="text" aria-live="polite">{move || said.get().map(|said| said.text)}</p>
                <p class="hint end">{move || said.get().and_then(|Said { end, .. }| end).map(ending)}</p>
            </section>
        }
    };
    let voices = BOTH.iter().filter(|&&voice| exchange.said(voice).is_some());
    view! {
        <section class="exchange" aria-label=t("Question and answers")>
            <p class="question">{exchange.question.clone()}</p>
            <div class="columns">
                {voices.map(|&voice| card(voice)).collect_view()}
                {exchange.expected.clone().map(|expected| view! {
                    <section class="card said expected" aria-label=t("Your data")>
                        <h3>{t("Your data")}</h3>
                        <p class="text">{expected}</p>
                    </section>
                })}
            </div>
        </section>
    }
}

/// How an answer ended, and how fast it came.
fn ending(answer: Answer) -> String {
    let why = match answer.finish_reason.as_str() {
        "eos" => t("ended by itself"),
        "stop" => t("ended at a stop text"),
        "length" => t("cut at max new tokens"),
        _ => t("stopped"),
    };
    let tokens = counted(answer.n_tokens, "{n} token", "{n} tokens");
    let rate = answer.n_tokens as f64 / answer.duration_secs.max(1e-6);
    let rate = if rate < 10.0 { format!("{rate:.1}") } else { count(rate as usize) };
    format!("{tokens}, {}, {why}", fill("{n} tokens/s", &[("n", &rate)]))
}
