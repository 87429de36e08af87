//! Which model.

use super::{Busy, Next};
use crate::client;
use crate::files::{DropZone, FileHandle};
use crate::samples::{Sample, Samples};
use crate::state::{Page, Source, View};
use crate::units::{bytes, count, short};
use attune::protocol::{Command, ModelCard, Request};
use leptos::prelude::*;
use web_sys::File;

const FOLDER: &str = "model";

#[component]
pub fn Model(page: Page, samples: RwSignal<Samples>) -> impl IntoView {
    let on_files = Callback::new(move |files: Vec<FileHandle>| {
        let files: Vec<File> = files.into_iter().map(FileHandle::take).collect();
        open_files(page, &files);
    });
    let sample = move |sample: Sample| {
        let key = format!("models/{}", sample.file);
        let (file, name) = (sample.file.clone(), sample.name.clone());
        let open = move |_| {
            let fetch = Request::Fetch { url: format!("samples/{file}"), key: key.clone() };
            client::ask(page, View::Model, fetch, &[]);
            open(page, key.clone(), name.clone());
        };
        view! {
            <button class="card choice" disabled=move || !page.is_free() on:click=open>
                <strong>{sample.title}</strong>
                <span>{sample.about}</span>
                <span class="hint">{bytes(sample.n_bytes)}</span>
            </button>
        }
    };
    view! {
        <p class="lead">"A small model to start from. Its weights stay in this browser."</p>
        <div class="columns">
            {move || samples.get().models.into_iter().map(sample).collect_view()}
            <DropZone id="model-files" multiple=true accept=".safetensors,.json,.gguf,.jinja,.txt,.model"
                label="Open model files" hint="a .gguf file, or config.json, *.safetensors, tokenizer.json and tokenizer_config.json together"
                on_files />
        </div>
        <Busy page view=View::Model />
        {move || page.model.get().map(|card| view! { <Card card /> })}
        <Next page to=View::Data when=Signal::derive(move || page.model.with(Option::is_some)) />
    }
}

fn open(page: Page, key: String, name: String) {
    page.source.set(Some(Source { key: key.clone(), name: name.clone() }));
    client::work(page, View::Model, Command::OpenModel { key, name });
}

fn open_files(page: Page, files: &[File]) {
    client::ask(page, View::Model, Request::Attach { folder: FOLDER.into() }, files);
    let names: Vec<String> = files.iter().map(File::name).collect();
    let gguf = names.iter().find(|name| name.to_ascii_lowercase().ends_with(".gguf"));
    match gguf {
        Some(name) => {
            let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
            open(page, format!("attached/{FOLDER}/{name}"), stem.to_string());
        }
        None => open(page, format!("attached/{FOLDER}"), "model".to_string()),
    }
}

#[component]
fn Card(card: ModelCard) -> impl IntoView {
    let facts = [
        ("Architecture", card.architecture),
        ("Parameters", short(card.n_params)),
        ("Size as stored", bytes(card.n_bytes)),
        ("Layers × width", format!("{} × {}", card.n_layers, card.hidden_size)),
        ("Vocabulary", count(card.vocab_size)),
        ("Context", format!("{} tokens", count(card.max_positions))),
        ("Chat template", if card.has_chat_template { "yes" } else { "none: continues text" }.to_string()),
    ];
    view! {
        <section class="card" id="model-card" aria-label="The opened model">
            <h3>{card.name}</h3>
            <dl class="facts">
                {facts.into_iter().map(|(name, value)| view! { <div><dt>{name}</dt><dd>{value}</dd></div> }).collect_view()}
            </dl>
        </section>
    }
}
