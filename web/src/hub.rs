//! The model hub as the page knows it: what is looked for and found, and the token that opens gated models.

use crate::client;
use crate::state::{Page, View};
use attune::protocol::{FoundModel, HubAccess, Request, StoredFile};
use leptos::prelude::*;
use std::time::Duration;

/// Typing goes on within this time.
const PAUSE: Duration = Duration::from_millis(300);
/// Shorter texts find everything.
const SHORTEST: usize = 2;
/// Where a browser keeps the token, if that is wanted.
const STORED: &str = "hub-token";

/// All signals; copied freely.
#[derive(Clone, Copy)]
pub struct Hub {
    /// What is typed into the search field.
    pub text: RwSignal<String>,
    /// What was found for which text, or why nothing was.
    pub found: RwSignal<Option<Found>>,
    /// A repository whose GGUF files have to be chosen from.
    pub choice: RwSignal<Option<(String, Vec<StoredFile>)>>,
    /// Whether a model is being fetched.
    pub is_fetching: RwSignal<bool>,
    pub token: RwSignal<String>,
    /// Whether the token outlives the visit.
    pub is_token_kept: RwSignal<bool>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub text: String,
    pub models: Vec<FoundModel>,
    pub problem: Option<String>,
}

fn kept() -> Option<web_sys::Storage> {
    window().local_storage().ok().flatten()
}

impl Hub {
    pub fn new() -> Self {
        let token = kept().and_then(|kept| kept.get_item(STORED).ok().flatten()).unwrap_or_default();
        Self {
            text: RwSignal::new(String::new()),
            found: RwSignal::new(None),
            choice: RwSignal::new(None),
            is_fetching: RwSignal::new(false),
            is_token_kept: RwSignal::new(!token.is_empty()),
            token: RwSignal::new(token),
        }
    }

    fn access(&self) -> HubAccess {
        let token = self.token.get_untracked().trim().to_string();
        HubAccess { endpoint: endpoint(), token: (!token.is_empty()).then_some(token) }
    }

    /// Keeps the token, or forgets what was kept.
    pub fn keep_token(&self) {
        let Some(kept) = kept() else { return };
        _ = match self.is_token_kept.get_untracked() {
            true => kept.set_item(STORED, self.token.get_untracked().trim()),
            false => kept.remove_item(STORED),
        };
    }

    /// Looks for what is typed, once typing pauses.
    pub fn search(self, text: String) {
        self.text.set(text.clone());
        self.choice.set(None);
        set_timeout(
            move || {
                let wanted = text.trim().to_string();
                if self.text.with_untracked(|now| *now != text) {
                    return;
                }
                if wanted.chars().count() < SHORTEST {
                    return self.found.set(None);
                }
                client::post(&Request::Search { text: wanted, hub: self.access() }, &[]);
            },
            PAUSE,
        );
    }

    /// Takes in what was found, unless something else is wanted by now.
    pub fn hear(&self, found: Found) {
        if self.text.with_untracked(|text| text.trim() == found.text) {
            self.found.set(Some(found));
        }
    }
}

/// Fetches a model, unless it is here, and opens it.
pub fn open(page: Page, id: String) {
    page.hub.choice.set(None);
    page.hub.is_fetching.set(true);
    let hub = page.hub.access();
    client::ask(page, View::Model, Request::FetchModel { id, hub }, &[]);
}

/// The hub's address: whoever serves the page may name another.
pub fn endpoint() -> String {
    let meta = document().query_selector("meta[name=hub]").ok().flatten();
    let address = meta.and_then(|meta| meta.get_attribute("content")).unwrap_or_default();
    address.trim_end_matches('/').to_string()
}

/// `owner/name…` in what is typed or pasted; a model's address on the hub counts too.
pub fn id_in(text: &str) -> Option<String> {
    let text = text.trim();
    // What follows owner and name in an address leads to a page of the model.
    let text = match text.strip_prefix(&endpoint()) {
        Some(path) => path.split('/').filter(|part| !part.is_empty()).take(2).collect::<Vec<_>>().join("/"),
        None => text.to_string(),
    };
    let is_id = text.split_once('/').is_some_and(|(owner, name)| !owner.is_empty() && !name.is_empty());
    (is_id && !text.contains([' ', '\\']) && !text.contains("//")).then_some(text)
}
