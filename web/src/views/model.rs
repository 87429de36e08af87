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
            open(page, View::Model, key.clone(), name.clone());
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
                disabled=Signal::derive(move || !page.is_free()) on_files />
        </div>
        <super::hub::Hub page />
        <super::stored::Models page />
        <Busy page view=View::Model />
        {move || page.model.get().map(|card| view! { <Card card /> })}
        <Next page to=View::Data when=Signal::derive(move || page.model.with(Option::is_some)) />
    }
}

/// Opens a stored model; its failure is said in `view`, and then none is open.
pub fn open(page: Page, view: View, key: String, name: String) {
    page.close();
    page.source.set(Some(Source { key: key.clone(), name: name.clone() }));
    client::work(page, view, Command::OpenModel { key, name });
    client::list(page);
}

fn open_files(page: Page, files: &[File]) {
    let gguf = files.iter().find(|file| file.name().to_ascii_lowercase().ends_with(".gguf"));
    // A GGUF file is a whole model: what came along with it is nothing that a model's folder could hold.
    let (key, name, folder, files) = match gguf {
        Some(file) => {
            let name = file.name();
            let key = format!("{FOLDER}/{name}");
            (key, stem(&name).to_string(), FOLDER.to_string(), std::slice::from_ref(file))
        }
        None => {
            let name = free_name(page);
            let key = format!("{FOLDER}/{name}");
            (key.clone(), name, key, files)
        }
    };
    client::ask(page, View::Model, Request::Import { folder }, files);
    // A model that is there already stays where its new copy fails.
    page.importing.set((!is_there(page, &key)).then(|| key.clone()));
    open(page, View::Model, key, name);
}

/// Whether a model is stored under `key`, or soon will be.
fn is_there(page: Page, key: &str) -> bool {
    let is_open =
        page.source.with_untracked(|source| source.as_ref().is_some_and(|source| source.key == key));
    let is_stored = page.stored.with_untracked(|stored| {
        let unfinished = stored.unfinished.iter().map(|model| &model.key);
        stored.models.iter().map(|model| &model.key).chain(unfinished).any(|stored| stored == key)
    });
    is_open || is_stored
}

/// Files that are chosen have lost their folder's name, and earlier models keep theirs.
fn free_name(page: Page) -> String {
    let is_taken = |name: &str| is_there(page, &format!("{FOLDER}/{name}"));
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
