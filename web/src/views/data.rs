//! Which rows, and how they are read.

use super::{Busy, Next, report};
use crate::client;
use crate::files::{self, DropZone, FileHandle};
use crate::form::Fields;
use crate::samples::{Sample, Samples};
use crate::state::{Page, Source, View};
use crate::units::bytes;
use crate::words::t;
use attune::config::{DataConfig, Run, Setting};
use attune::protocol::{Command, Request};
use leptos::prelude::*;
use std::cell::RefCell;
use web_sys::File;

const FOLDER: &str = "data";

/// Settings that the view itself answers.
const HIDDEN: &[&str] = &["path", "eval_path", "columns"];

thread_local! {
    /// What was read last, and how.
    static READ: RefCell<Option<(Source, DataConfig, u64)>> = const { RefCell::new(None) };
}

#[component]
pub fn Data(page: Page, samples: RwSignal<Samples>) -> impl IntoView {
    let pasted = RwSignal::new(String::new());
    let disabled = Signal::derive(move || !page.is_free() || page.model.with(Option::is_none));
    let attach = move |file: &File| {
        // A folder of its own: another file of this name is another file, and earlier runs resume with theirs.
        let folder = format!("{FOLDER}/{}", js_sys::Date::now() as u64);
        let name = file.name();
        let key = format!("{folder}/{name}");
        client::ask(page, View::Data, Request::Import { folder }, std::slice::from_ref(file));
        choose(page, Source { key, name });
    };
    let on_files = Callback::new(move |files: Vec<FileHandle>| {
        if let Some(file) = files.into_iter().next() {
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
        let (file, name) = (sample.file.clone(), sample.file.clone());
        let key = format!("{FOLDER}/samples/{file}");
        let open = move |_| {
            let fetch = Request::Fetch { url: format!("samples/{file}"), key: key.clone() };
            client::ask(page, View::Data, fetch, &[]);
            choose(page, Source { key: key.clone(), name: name.clone() });
        };
        view! {
            <button class="card choice" disabled=disabled on:click=open>
                <strong>{t(&sample.title)}</strong>
                <span>{t(&sample.about)}</span>
                <span class="hint">{bytes(sample.n_bytes)}</span>
            </button>
        }
    };
    let fields: Vec<&'static Setting> =
        DataConfig::SETTINGS.iter().filter(|setting| !HIDDEN.contains(&setting.name)).collect();
    view! {
        <p class="lead">{t("Rows to learn from: prompts with completions, conversations, or plain text.")}</p>
        <Show when=move || page.model.with(Option::is_none)>
            <p class="note">{t("Open a model first: its tokenizer decides what a row costs.")}</p>
        </Show>
        <div class="columns">
            {move || samples.get().data.into_iter().map(sample).collect_view()}
            <DropZone id="data-file" multiple=false accept=".jsonl,.ndjson,.json,.csv,.tsv,.parquet,.txt,.md,.gz"
                label="Open a data file" hint="JSONL, JSON, CSV, TSV, Parquet or text, gzip accepted" disabled on_files />
        </div>
        <details class="fold">
            <summary>{t("Paste rows")}</summary>
            <label class="visually-hidden" for="pasted">{t("Rows")}</label>
            <textarea id="pasted" rows="6" spellcheck="false"
                placeholder="{\"prompt\": \"The capital of France is\", \"completion\": \" Paris.\"}"
                prop:value=move || pasted.get() on:input=move |event| pasted.set(event_target_value(&event))></textarea>
            <button disabled=move || disabled.get() || pasted.with(|text| text.trim().is_empty()) on:click=use_pasted>{t("Use these rows")}</button>
        </details>
        <details class="fold">
            <summary>{t("How rows are read")}</summary>
            <Fields value=page.run settings=fields bad=page.bad problems=page.problems disabled=Signal::derive(move || !page.is_free()) />
        </details>
        <Busy page view=View::Data />
        {move || page.data.get().map(|data| report::report(page, data))}
        <Next page to=View::Tune when=Signal::derive(move || page.data.with(|data| data.as_ref().is_some_and(|data| data.report.n_rows > 0))) />
    }
}

/// Reads a file that was chosen just now; which columns another file had means nothing for it.
fn choose(page: Page, source: Source) {
    page.run.update(|run| run.data.columns = None);
    page.rows.set(Some(source.clone()));
    let run = page.run.get_untracked();
    read(page, View::Data, source, &run);
}

/// Reads a file as a run's settings say.
pub fn read(page: Page, view: View, source: Source, run: &Run) {
    let Source { key, name } = source.clone();
    client::work(page, view, Command::ReadData { key, name, settings: run.data.clone(), seed: run.seed });
    READ.set(Some((source, of_reading(&run.data), run.seed)));
}

/// The settings without the files' names, which a run file has and the page has not.
fn of_reading(settings: &DataConfig) -> DataConfig {
    DataConfig { path: None, eval_path: None, ..settings.clone() }
}

/// Reads the file in use again whenever its settings change, in whichever view.
pub fn follow(page: Page) {
    let settings = Memo::new(move |_| page.run.with(|run| (of_reading(&run.data), run.seed)));
    let again = move |(settings, seed): &(DataConfig, u64), _: Option<&_>, _: Option<()>| {
        let Some(source) = page.rows.get_untracked() else { return };
        let is_new = READ.with_borrow(|read| {
            read.as_ref().is_none_or(|(of, how, with)| (of, how, with) != (&source, settings, seed))
        });
        if is_new {
            let run = page.run.get_untracked();
            read(page, page.view.get_untracked(), source, &run);
        }
    };
    Effect::watch(move || settings.get(), again, false);
}
