//! Which model.

use super::{Busy, Next};
use crate::client;
use crate::files::{DropZone, FileHandle};
use crate::samples::{Sample, Samples};
use crate::state::{Page, Source, View};
use crate::units::{bytes, count, short};
use crate::words::{fill, t};
use attune::protocol::{Command, ModelCard, Request};
use leptos::prelude::*;
use web_sys::File;

/// Where models are kept between visits.
const FOLDER: &str = "models";

#[component]
pub fn Model(page: Page, samples: RwSignal<Samples>) -> impl IntoView {
    let on_files = Callback::new(move |files: Vec<FileHandle>| {
        let files: Vec<File> = files.into_iter().map(FileHandle::take).collect();
        open_files(page, &files);
    });
    let sample = move |sample: Sample| {
        let ending = sample.file.rsplit_once('.').map_or("", |(_, ending)| ending);
        let key = format!("{FOLDER}/{}.{ending}", sample.name);
        let (file, name) = (sample.file.clone(), sample.name.clone());
        let open = move |_| {
            let fetch = Request::Fetch { url: format!("samples/{file}"), key: key.clone() };
            client::ask(page, View::Model, fetch, &[]);
            open(page, key.clone(), name.clone());
        };
        view! {
            <button class="card choice" disabled=move || !page.is_free() on:click=open>
                <strong>{t(&sample.title)}</strong>
                <span>{t(&sample.about)}</span>
                <span class="hint">{bytes(sample.n_bytes)}</span>
            </button>
        }
    };
    view! {
        <p class="lead">{t("A small model to start from. Its weights stay in this browser.")}</p>
        <div class="columns">
            {move || samples.get().models.into_iter().map(sample).collect_view()}
            <DropZone id="model-files" multiple=true accept=".safetensors,.json,.gguf,.jinja,.txt,.model"
                label="Open model files" hint="a .gguf file, or config.json, *.safetensors, tokenizer.json and tokenizer_config.json together"
                on_files />
        </div>
        <super::hub::Hub page />
        <super::stored::Models page />
        <Busy page view=View::Model />
        {move || page.model.get().map(|card| view! { <Card card /> })}
        <Next page to=View::Data when=Signal::derive(move || page.model.with(Option::is_some)) />
    }
}

/// Opens a stored model.
pub fn open(page: Page, key: String, name: String) {
    page.source.set(Some(Source { key: key.clone(), name: name.clone() }));
    page.rows.set(None);
    client::work(page, View::Model, Command::OpenModel { key, name });
    client::list(page);
}

fn open_files(page: Page, files: &[File]) {
    let names: Vec<String> = files.iter().map(File::name).collect();
    let gguf = names.iter().find(|name| name.to_ascii_lowercase().ends_with(".gguf"));
    match gguf {
        Some(name) => {
            client::ask(page, View::Model, Request::Import { folder: FOLDER.into() }, files);
            let key = format!("{FOLDER}/{name}");
            page.importing.set(Some(key.clone()));
            open(page, key, stem(name).to_string());
        }
        None => {
            let name = free_name(page);
            let key = format!("{FOLDER}/{name}");
            page.importing.set(Some(key.clone()));
            client::ask(page, View::Model, Request::Import { folder: key.clone() }, files);
            open(page, key, name);
        }
    }
}

/// Files that are chosen have lost their folder's name, and earlier models keep theirs.
fn free_name(page: Page) -> String {
    let is_taken = |name: &str| {
        page.stored.with_untracked(|stored| stored.models.iter().any(|model| model.name == name))
    };
    let numbered = (2..).map(|number| format!("model-{number}"));
    std::iter::once("model".to_string()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default()
}

/// A file's name without its ending.
pub fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[component]
fn Card(card: ModelCard) -> impl IntoView {
    let facts = [
        ("Architecture", card.architecture),
        ("Parameters", short(card.n_params)),
        ("Size as stored", bytes(card.n_bytes)),
        ("Layers × width", format!("{} × {}", card.n_layers, card.hidden_size)),
        ("Vocabulary", count(card.vocab_size)),
        ("Context", fill("{n} tokens", &[("n", &count(card.max_positions))])),
        ("Chat template", t(if card.has_chat_template { "yes" } else { "none: continues text" })),
        ("Licence", card.license.unwrap_or_else(|| t("not stated"))),
    ];
    view! {
        <section class="card" id="model-card" aria-label=t("The opened model")>
            <h3>{card.name}</h3>
            <dl class="facts">
                {facts.into_iter().map(|(name, value)| view! { <div><dt>{t(name)}</dt><dd>{value}</dd></div> }).collect_view()}
            </dl>
        </section>
    }
}
