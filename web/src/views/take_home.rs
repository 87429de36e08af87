//! What the run left, to be saved.

use super::Busy;
use crate::client;
use crate::state::{Page, View};
use crate::units::bytes;
use attune::protocol::{Command, Request, StoredFile, Trained};
use leptos::prelude::*;

#[component]
pub fn TakeHome(page: Page) -> impl IntoView {
    view! {
        {move || match page.trained.get() {
            None => view! { <p class="note">"A run leaves its adapter, its settings and its figures here."</p> }.into_any(),
            Some(trained) => view! { <Result page trained /> }.into_any(),
        }}
        <Busy page view=View::TakeHome />
    }
}

#[component]
fn Result(page: Page, trained: Trained) -> impl IntoView {
    let folder = page.begun.get_untracked().map(|run| run.out).unwrap_or_default();
    let archive = move |_| {
        client::work(page, View::TakeHome, Command::Pack);
        give(page, format!("{folder}/adapter.zip"), "adapter.zip".into());
    };
    let row = move |file: StoredFile| {
        let StoredFile { key, name, n_bytes } = file;
        let label = format!("Save {name}");
        let save = {
            let name = name.clone();
            move |_| give(page, key.clone(), name.clone())
        };
        view! {
            <tr>
                <th scope="row">{about(&name)}<span class="hint">{name}</span></th>
                <td class="number">{bytes(n_bytes)}</td>
                <td><button aria-label=label disabled=move || !page.is_free() on:click=save>"Save"</button></td>
            </tr>
        }
    };
    view! {
        <Show when=move || trained.is_adapter>
            <section class="card">
                <h3>"The adapter"</h3>
                <p>"In PEFT's format, as one archive. Unpacked, it works with PEFT and with the command line."</p>
                <div class="actions">
                    <button class="primary" id="save-adapter" disabled=move || !page.is_free() on:click=archive.clone()>"Save adapter.zip"</button>
                </div>
                <pre class="code" tabindex="0">"unzip adapter.zip -d adapter\nattune generate --model MODEL --adapter adapter --prompt \"…\""</pre>
            </section>
        </Show>
        <section class="card">
            <h3>"Single files"</h3>
            <table class="files"><tbody>{trained.files.into_iter().map(row).collect_view()}</tbody></table>
        </section>
    }
}

fn give(page: Page, key: String, name: String) {
    client::ask(page, View::TakeHome, Request::Give { key, name }, &[]);
}

fn about(name: &str) -> &'static str {
    match name {
        "adapter_config.json" => "Adapter settings",
        "adapter_model.safetensors" => "Adapter weights",
        "run.toml" => "Run file: repeats this run on the command line",
        "metrics.jsonl" => "Figures of every step",
        "model.safetensors" => "Tuned weights",
        "config.json" => "Model settings",
        _ => "Tokenizer",
    }
}
