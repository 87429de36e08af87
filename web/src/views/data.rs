//! Which rows, what is wrong with them, and what of them is learned.

use super::{Busy, Next};
use crate::client;
use crate::files::{self, DropZone, FileHandle};
use crate::form::Fields;
use crate::samples::{Sample, Samples};
use crate::state::{Page, Source, View};
use crate::units::{bytes, count};
use attune::config::{DataConfig, Setting};
use attune::protocol::{Command, DataView, LengthBucket, Request, ShownRow};
use leptos::prelude::*;
use web_sys::File;

const FOLDER: &str = "data";

/// Settings that the view itself answers.
const HIDDEN: &[&str] = &["path", "eval_path"];

#[component]
pub fn Data(page: Page, samples: RwSignal<Samples>) -> impl IntoView {
    let chosen = page.rows;
    let pasted = RwSignal::new(String::new());
    let disabled = Signal::derive(move || !page.is_free() || page.model.with(Option::is_none));
    let attach = move |file: &File| {
        client::ask(page, View::Data, Request::Import { folder: FOLDER.into() }, std::slice::from_ref(file));
        let name = file.name();
        chosen.set(Some(Source { key: format!("{FOLDER}/{name}"), name }));
        reread(page, chosen);
    };
    let on_files = Callback::new(move |files: Vec<FileHandle>| {
        if let (Some(file), false) = (files.into_iter().next(), disabled.get_untracked()) {
            attach(&file);
        }
    });
    let use_pasted = move |_| {
        let text = pasted.get_untracked();
        // The first sign tells rows of JSON from plain text, as it does in a file without an ending.
        let name = if text.trim_start().starts_with('{') { "pasted.jsonl" } else { "pasted.txt" };
        if let Some(file) = files::of_text(&text, name) {
            attach(&file);
        }
    };
    let sample = move |sample: Sample| {
        let (key, file, name) = (format!("data/{}", sample.file), sample.file.clone(), sample.file.clone());
        let open = move |_| {
            let fetch = Request::Fetch { url: format!("samples/{file}"), key: key.clone() };
            client::ask(page, View::Data, fetch, &[]);
            chosen.set(Some(Source { key: key.clone(), name: name.clone() }));
            reread(page, chosen);
        };
        view! {
            <button class="card choice" disabled=disabled on:click=open>
                <strong>{sample.title}</strong>
                <span>{sample.about}</span>
                <span class="hint">{bytes(sample.n_bytes)}</span>
            </button>
        }
    };
    // Another way of reading shows at once.
    let settings = Memo::new(move |_| page.run.with(|run| run.data.clone()));
    Effect::watch(move || settings.get(), move |_, _, _| reread(page, chosen), false);
    let fields: Vec<&'static Setting> =
        DataConfig::SETTINGS.iter().filter(|setting| !HIDDEN.contains(&setting.name)).collect();
    view! {
        <p class="lead">"Rows to learn from: prompts with completions, conversations, or plain text."</p>
        <Show when=move || page.model.with(Option::is_none)>
            <p class="note">"Open a model first: its tokenizer decides what a row costs."</p>
        </Show>
        <div class="columns">
            {move || samples.get().data.into_iter().map(sample).collect_view()}
            <DropZone id="data-file" multiple=false accept=".jsonl,.ndjson,.json,.csv,.tsv,.parquet,.txt,.md,.gz"
                label="Open a data file" hint="JSONL, JSON, CSV, TSV, Parquet or text, gzip accepted" on_files />
        </div>
        <details class="fold">
            <summary>"Paste rows"</summary>
            <label class="visually-hidden" for="pasted">"Rows"</label>
            <textarea id="pasted" rows="6" spellcheck="false"
                placeholder="{\"prompt\": \"The capital of France is\", \"completion\": \" Paris.\"}"
                prop:value=move || pasted.get() on:input=move |event| pasted.set(event_target_value(&event))></textarea>
            <button disabled=move || disabled.get() || pasted.with(|text| text.trim().is_empty()) on:click=use_pasted>"Use these rows"</button>
        </details>
        <details class="fold">
            <summary>"How rows are read"</summary>
            <Fields value=page.run settings=fields bad=page.bad problems=page.problems disabled=Signal::derive(move || !page.is_free()) />
        </details>
        <Busy page view=View::Data />
        {move || page.data.get().map(|data| view! { <Report data /> })}
        <Next page to=View::Tune when=Signal::derive(move || page.data.with(|data| data.as_ref().is_some_and(|data| data.report.n_rows > 0))) />
    }
}

/// Reads the data file in use again, as the settings now say.
pub fn reread(page: Page, chosen: RwSignal<Option<Source>>) {
    let Some(Source { key, name }) = chosen.get_untracked() else { return };
    let settings = page.run.with_untracked(|run| run.data.clone());
    client::work(page, View::Data, Command::ReadData { key, name, settings });
}

#[component]
fn Report(data: DataView) -> impl IntoView {
    let DataView { name, report, rows } = data;
    let words = serde_json::to_value(report.shape).ok();
    let shape = words.as_ref().and_then(|word| word.as_str()).unwrap_or("not told").to_string();
    let mut facts =
        vec![("Rows", count(report.n_rows)), ("Shape", shape), ("Repeated", count(report.duplicates.len()))];
    let lengths = report.tokens.as_ref().map(|tokens| {
        facts.extend([
            ("Tokens", count(tokens.n_tokens)),
            ("Learned", format!("{} %", tokens.n_target_tokens * 100 / tokens.n_tokens.max(1))),
            ("Median, longest", format!("{}, {}", tokens.median, tokens.longest)),
            ("Cut", count(tokens.truncated.len())),
        ]);
        view! { <Lengths bars=tokens.lengths.clone() /> }
    });
    let problems = (report.n_bad_rows > 0 || !report.problems.is_empty()).then(|| {
        let heading = match report.n_bad_rows {
            0 => "Problems".to_string(),
            1 => "1 bad row".to_string(),
            n => format!("{} bad rows", count(n)),
        };
        let lines = report.problems.clone().into_iter().map(|line| view! { <li>{line}</li> });
        view! { <div class="failure"><strong>{heading}</strong><ul class="problems" tabindex="0" aria-label="Problems">{lines.collect_view()}</ul></div> }
    });
    let notes = report.notes.clone().into_iter().map(|note| view! { <p class="note">{note}</p> });
    view! {
        <section class="card" id="data-card" aria-label="The data">
            <h3>{name}</h3>
            <dl class="facts">
                {facts.into_iter().map(|(name, value)| view! { <div><dt>{name}</dt><dd>{value}</dd></div> }).collect_view()}
            </dl>
            {problems}
            {notes.collect_view()}
            {lengths}
        </section>
        <section class="card" aria-label="The first rows, token by token">
            <h3>"What is learned"</h3>
            <p class="legend"><span class="token learned">"learned"</span><span class="token context">"context"</span></p>
            <ol class="rows" tabindex="0" aria-label="The first rows">{rows.into_iter().map(|row| view! { <Tokens row /> }).collect_view()}</ol>
        </section>
    }
}

#[component]
fn Lengths(bars: Vec<LengthBucket>) -> impl IntoView {
    let most = bars.iter().map(|bar| bar.n_rows).max().unwrap_or(1).max(1);
    let bar = move |bar: LengthBucket| {
        view! {
            <tr>
                <th scope="row">{format!("to {}", bar.up_to_tokens)}</th>
                <td><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect width=100.0 * bar.n_rows as f64 / most as f64 height="8" rx="1" /></svg></td>
                <td class="number">{count(bar.n_rows)}</td>
            </tr>
        }
    };
    view! {
        <table class="lengths">
            <caption>"Rows by tokens"</caption>
            <tbody>{bars.into_iter().map(bar).collect_view()}</tbody>
        </table>
    }
}

#[component]
fn Tokens(row: ShownRow) -> impl IntoView {
    let token = |token: attune::protocol::ShownToken| {
        let class = if token.weight > 0.0 { "token learned" } else { "token context" };
        view! { <span class=class>{token.text}</span> }
    };
    view! {
        <li>
            <span class="line" aria-label="line">{row.line}</span>
            <span class="tokens">{row.tokens.into_iter().map(token).collect_view()}</span>
        </li>
    }
}
