//! What the run left, to be saved, and what was saved before, to be brought back.

use super::Busy;
use crate::client;
use crate::files::{DropZone, FileHandle};
use crate::state::{Page, View};
use crate::units::bytes;
use crate::words::{fill, t};
use attune::methods::MethodConfig;
use attune::protocol::{Command, Parcel, Request, Returned, SourceChange, StoredFile, Trained};
use leptos::prelude::*;

/// Bytes of a number in a merged model.
const BYTES_F32: u64 = 4;

#[component]
pub fn TakeHome(page: Page) -> impl IntoView {
    view! {
        {move || match page.trained.get() {
            None => view! { <p class="note">{t("A run leaves its adapter, its settings and its figures here.")}</p> }.into_any(),
            Some(trained) => view! { <Result page trained /> }.into_any(),
        }}
        <Busy page view=View::TakeHome />
        <BringBack page view=View::TakeHome />
    }
}

#[component]
fn Result(page: Page, trained: Trained) -> impl IntoView {
    let is_adapter = trained.is_adapter;
    let size_of =
        |name: &str| trained.files.iter().find(|file| file.name == name).map_or(0, |file| file.n_bytes);
    let adapter_size = size_of("adapter_config.json") + size_of("adapter_model.safetensors");
    let model_size = match is_adapter {
        true => {
            page.model.with_untracked(|card| card.as_ref().map_or(0, |card| BYTES_F32 * card.n_params as u64))
        }
        false => size_of("model.safetensors"),
    };
    let further = move |_| {
        let out = page.begun.get_untracked().map(|run| run.out);
        page.run.update(|run| (run.adapter, run.method) = (out, MethodConfig::default()));
        page.view.set(View::Tune);
    };
    let files = trained.files.into_iter().map(move |StoredFile { key, name, n_bytes }| {
        let save = {
            let name = name.clone();
            move || give(page, key.clone(), name.clone())
        };
        file_row(page, name, Some(n_bytes), save)
    });
    let made = [Parcel::Csv, Parcel::Log]
        .map(move |parcel| file_row(page, parcel.file_name().to_string(), None, move || pack(page, parcel)));
    view! {
        <Show when=move || is_adapter>
            <section class="card">
                <h3>{t("The adapter")}</h3>
                <p>{t("What was learned, without the model, in PEFT's format: for PEFT, for the command line, or for this page another day.")}</p>
                <div class="actions">
                    <Save page parcel=Parcel::Adapter id="save-adapter" size=adapter_size />
                    <button id="further" on:click=further disabled=move || !page.is_free()>{t("Train it further")}</button>
                </div>
                <Snippet label="Command line" code=ADAPTER_CLI />
                <Snippet label="PEFT" code=ADAPTER_PEFT />
            </section>
        </Show>
        <section class="card">
            <h3>{t("The whole model")}</h3>
            <p>{t("The model with what was learned folded in, as a folder that transformers and the command line open by itself.")}</p>
            <div class="actions"><Save page parcel=Parcel::Merged id="save-merged" size=model_size /></div>
            <Snippet label="Command line" code=MERGED_CLI />
            <Snippet label="transformers" code=MERGED_TRANSFORMERS />
        </section>
        // A model that was tuned in full comes back as a model.
        <Show when=move || is_adapter>
            <section class="card">
                <h3>{t("The run")}</h3>
                <p>{t("Settings, figures and result in one archive. Dropped below, in this browser or another, it is the run again.")}</p>
                <div class="actions"><Save page parcel=Parcel::Run id="save-run" size=adapter_size /></div>
                <Snippet label="Command line" code=RUN_CLI />
            </section>
        </Show>
        <section class="card">
            <h3>{t("Single files")}</h3>
            <table class="files"><tbody>{files.collect_view()}{made.into_iter().collect_view()}</tbody></table>
        </section>
    }
}

/// Makes a file and saves it. Its size is an estimate until it is made.
#[component]
fn Save(page: Page, parcel: Parcel, id: &'static str, size: u64) -> impl IntoView {
    let name = parcel.file_name();
    let known = move || {
        let found =
            page.packed.with(|packed| packed.iter().find(|file| file.name == name).map(|file| file.n_bytes));
        found.map_or_else(|| fill("about {size}", &[("size", &bytes(size))]), bytes)
    };
    view! {
        <button class="primary" id=id disabled=move || !page.is_free() on:click=move |_| pack(page, parcel)>
            {fill("Save {name}", &[("name", &name)])}
        </button>
        <span class="hint size">{known}</span>
    }
}

fn file_row(page: Page, name: String, n_bytes: Option<u64>, save: impl Fn() + 'static) -> impl IntoView {
    let label = fill("Save {name}", &[("name", &name)]);
    view! {
        <tr>
            <th scope="row">{t(about(&name))}<span class="hint">{name}</span></th>
            <td class="number">{n_bytes.map(bytes)}</td>
            <td><button aria-label=label disabled=move || !page.is_free() on:click=move |_| save()>{t("Save")}</button></td>
        </tr>
    }
}

/// Makes a file; once it is made, the client asks for it.
fn pack(page: Page, parcel: Parcel) {
    client::work(page, View::TakeHome, Command::Pack { parcel });
}

/// Asks for a stored file to be saved.
pub fn give(page: Page, key: String, name: String) {
    client::ask(page, View::TakeHome, Request::Give { key, name }, &[]);
}

fn about(name: &str) -> &'static str {
    match name {
        "adapter_config.json" => "Adapter settings",
        "adapter_model.safetensors" => "Adapter weights",
        "run.toml" => "Run file: repeats this run on the command line, or here",
        "metrics.jsonl" => "Figures of every step, as the command line writes them",
        "metrics.csv" => "The same figures for a spreadsheet",
        "training-log.txt" => "The same figures as lines to read",
        "model.safetensors" => "Tuned weights",
        "config.json" => "Model settings",
        _ => "Tokenizer",
    }
}

const ADAPTER_CLI: &str = "unzip adapter.zip -d adapter\nattune chat --model MODEL --adapter adapter";
const ADAPTER_PEFT: &str = "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\nmodel = AutoModelForCausalLM.from_pretrained(\"MODEL\")\nmodel = PeftModel.from_pretrained(model, \"adapter\")";
const MERGED_CLI: &str = "unzip merged.zip -d merged\nattune chat --model merged";
const MERGED_TRANSFORMERS: &str = "from transformers import AutoModelForCausalLM, AutoTokenizer\n\nmodel = AutoModelForCausalLM.from_pretrained(\"merged\")\ntokenizer = AutoTokenizer.from_pretrained(\"merged\")";
const RUN_CLI: &str = "unzip run.zip -d run\nattune train run/run.toml --model MODEL --data ROWS --out again";

/// Lines to be copied.
#[component]
fn Snippet(label: &'static str, code: &'static str) -> impl IntoView {
    let is_copied = RwSignal::new(false);
    let copy = move |_| {
        // A browser that refuses leaves the text to be marked by hand.
        _ = window().navigator().clipboard().write_text(code);
        is_copied.set(true);
        set_timeout(move || is_copied.set(false), std::time::Duration::from_secs(2));
    };
    let label = t(label);
    let copy_label = fill("Copy: {name}", &[("name", &label)]);
    view! {
        <div class="snippet">
            <div class="snippet-head">
                <span class="hint">{label.clone()}</span>
                <button class="quiet" aria-label=copy_label on:click=copy>{move || t(if is_copied.get() { "Copied" } else { "Copy" })}</button>
            </div>
            <pre class="code" tabindex="0" role="region" aria-label=label>{code}</pre>
        </div>
    }
}

/// Takes in an adapter, a run file, or the archive of either.
#[component]
pub fn BringBack(page: Page, view: View) -> impl IntoView {
    let on_files = Callback::new(move |files: Vec<FileHandle>| {
        let files: Vec<_> = files.into_iter().map(FileHandle::take).collect();
        // A folder of its own, as for every run.
        let folder = format!("runs/{}", js_sys::Date::now() as u64);
        page.returned.set(None);
        client::ask(page, view, Request::Import { folder: folder.clone() }, &files);
        client::work(page, view, Command::BringBack { folder });
        client::list(page);
    });
    let told =
        move || page.returned.get().map(|returned| view! { <div id="returned">{said(&returned)}</div> });
    view! {
        <section class="card">
            <h3>{t("Bring back")}</h3>
            <DropZone id="bring-back" multiple=true accept=".zip,.toml,.json,.jsonl,.safetensors"
                label="Open an adapter or a run" hint="adapter.zip, run.zip, run.toml, or adapter_config.json and adapter_model.safetensors together"
                disabled=Signal::derive(move || !page.is_free()) on_files />
            <div role="status">{told}</div>
        </section>
    }
}

/// What came back, and what it names that is not open.
fn said(returned: &Returned) -> impl IntoView + use<> {
    let mut lines = Vec::new();
    if returned.run.is_some() {
        lines.push(t("The adapter is in place: Try lets it speak, and it can be trained further."));
    }
    if returned.settings.is_some() {
        lines.push(t("The settings of the run are in force."));
    }
    for SourceChange { what, then, now } in &returned.differences {
        let is_model = what == "model";
        let english = match (is_model, now.is_some()) {
            (true, true) => "It was made with the model {then}; {now} is open.",
            (true, false) => "It was made with the model {then}: open that first.",
            (false, true) => "It learned from {then}; {now} is open.",
            (false, false) => "It learned from {then}: open that to train again.",
        };
        let now = now.clone().unwrap_or_default();
        lines.push(fill(english, &[("then", then), ("now", &now)]));
    }
    lines.into_iter().map(|line| view! { <p>{line}</p> }).collect_view()
}

/// Says that the next run continues from an adapter, and how not to.
#[component]
pub fn Continues(page: Page) -> impl IntoView {
    let is_continued = move || page.run.with(|run| run.adapter.is_some());
    view! {
        <Show when=is_continued>
            <div class="card offer" id="continues">
                <p>{t("The next run trains the adapter further that was made last or brought back. Its method and targets stay as they are.")}</p>
                <button on:click=move |_| page.run.update(|run| run.adapter = None)>{t("Begin a fresh one instead")}</button>
            </div>
        </Show>
    }
}
