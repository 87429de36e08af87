//! Models of the hub: search, names, and the token for gated ones.

use crate::hub::{self, Found};
use crate::state::Page;
use crate::units::{bytes, short64};
use crate::words::{fill, t};
use attune::protocol::{FoundModel, StoredFile};
use leptos::prelude::*;

/// Results that are shown.
const N_SHOWN: usize = 20;

#[component]
pub fn Hub(page: Page) -> impl IntoView {
    let hub = page.hub;
    let by_name = move || hub.text.with(|text| hub::id_in(text));
    let enter = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        if let (Some(id), true) = (by_name(), page.is_free()) {
            hub::open(page, id);
        }
    };
    view! {
        <section class="card" id="hub" aria-label=t("From the hub")>
            <h3>{t("From the hub")}</h3>
            <form class="field" on:submit=enter>
                <label for="hub-search">{t("Search, or a model's name")}</label>
                <input id="hub-search" type="search" autocomplete="off" spellcheck="false" placeholder="owner/name" aria-describedby="hub-doc"
                    prop:value=move || hub.text.get() on:input=move |event| hub.search(event_target_value(&event)) />
                <p class="hint" id="hub-doc">{fill("Models of text generation at {hub}. Only what you type here and the files you ask for are requested; your data stays.", &[("hub", &hub::endpoint())])}</p>
            </form>
            {move || by_name().map(|id| named(page, id))}
            <div role="status">{move || hub.found.get().map(|found| results(page, found))}</div>
            {move || hub.choice.get().map(|(id, files)| choice(page, id, files))}
            {token(page)}
        </section>
    }
}

fn open_button(page: Page, id: String, label: String) -> AnyView {
    view! { <button disabled=move || !page.is_free() on:click=move |_| hub::open(page, id.clone())>{label}</button> }.into_any()
}

fn named(page: Page, id: String) -> AnyView {
    let label = fill("Open {name}", &[("name", &id)]);
    view! { <div class="actions" id="hub-named">{open_button(page, id, label)}</div> }.into_any()
}

fn results(page: Page, found: Found) -> AnyView {
    if let Some(problem) = found.problem {
        return view! { <p class="failure" id="hub-problem">{problem}</p> }.into_any();
    }
    if found.models.is_empty() {
        return view! { <p class="hint">{fill("Nothing that can be loaded is called {text}.", &[("text", &found.text)])}</p> }.into_any();
    }
    let hits = found.models.into_iter().take(N_SHOWN).map(|model| hit(page, model));
    view! { <ul class="hits" id="hub-found" aria-label=t("Models found, small ones first")>{hits.collect_view()}</ul> }.into_any()
}

fn hit(page: Page, model: FoundModel) -> AnyView {
    let mut facts = Vec::new();
    facts.extend(model.n_params.map(|n| fill("{n} parameters", &[("n", &short64(n))])));
    if model.is_gguf {
        facts.push("GGUF".to_string());
    }
    facts.push(fill("{n} downloads", &[("n", &short64(model.downloads))]));
    facts.push(fill("{n} likes", &[("n", &short64(model.likes))]));
    facts.push(model.license.unwrap_or_else(|| t("licence not stated")));
    if model.is_gated {
        facts.push(t("gated: needs a token"));
    }
    let id = model.id.clone();
    view! {
        <li>
            <span><strong>{model.id}</strong><span class="hint">{facts.join(", ")}</span></span>
            {open_button(page, id, t("Open"))}
        </li>
    }
    .into_any()
}

fn choice(page: Page, id: String, files: Vec<StoredFile>) -> AnyView {
    let heading = fill("Files of {name}: choose one", &[("name", &id)]);
    let file = move |file: StoredFile| {
        let id = format!("{id}:{}", file.key);
        view! {
            <li>
                <span><strong>{file.name}</strong><span class="hint">{bytes(file.n_bytes)}</span></span>
                {open_button(page, id, t("Open"))}
            </li>
        }
    };
    view! {
        <div id="hub-files">
            <p>{heading.clone()}</p>
            <ul class="hits" aria-label=heading>{files.into_iter().map(file).collect_view()}</ul>
        </div>
    }
    .into_any()
}

fn token(page: Page) -> AnyView {
    let hub = page.hub;
    let typed = move |event| {
        hub.token.set(event_target_value(&event));
        hub.keep_token();
    };
    let kept = move |event| {
        hub.is_token_kept.set(event_target_checked(&event));
        hub.keep_token();
    };
    view! {
        <details class="fold" id="hub-access">
            <summary>{t("Access token for gated models")}</summary>
            <div class="field">
                <label for="hub-token">{t("Token")}</label>
                <input id="hub-token" type="password" autocomplete="off" spellcheck="false" aria-describedby="hub-token-doc"
                    prop:value=move || hub.token.get() on:change=typed />
                <p class="hint" id="hub-token-doc">{fill("Sent to {hub} alone. It is forgotten when this page closes, unless you tick the box.", &[("hub", &hub::endpoint())])}</p>
            </div>
            <label class="check"><input id="hub-keep" type="checkbox" prop:checked=move || hub.is_token_kept.get() on:change=kept />{t("Keep it in this browser")}</label>
        </details>
    }
    .into_any()
}
