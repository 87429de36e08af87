//! The page's words in the visitor's language. A sentence's English is its key, as in gettext, so code reads as it
//! looks; other languages are tables in `web/words`, fetched when they are chosen and held beside the code.

use crate::served;
use crate::units::count;
use leptos::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Display;

/// A language of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    English,
    Chinese,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// As `lang` takes it.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-Hans",
        }
    }

    /// What its speakers call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Chinese => "简体中文",
        }
    }

    fn of_tag(tag: &str) -> Option<Self> {
        match tag.split('-').next()? {
            "en" => Some(Self::English),
            "zh" => Some(Self::Chinese),
            _ => None,
        }
    }
}

thread_local! {
    static TABLE: RefCell<HashMap<String, String>> = RefCell::new(HashMap::new());
    /// Counts the choices: the last one is meant, whichever table comes last.
    static CHOICES: Cell<u32> = const { Cell::new(0) };
}

/// Where a browser keeps the choice.
const STORED: &str = "language";

/// `english` in the language in force; English where the table lacks it.
pub fn t(english: &str) -> String {
    TABLE.with_borrow(|table| table.get(english).cloned()).unwrap_or_else(|| english.to_string())
}

/// Like [`t`], with the places `{name}` filled.
pub fn fill(english: &str, values: &[(&str, &dyn Display)]) -> String {
    values
        .iter()
        .fold(t(english), |text, (name, value)| text.replace(&format!("{{{name}}}"), &value.to_string()))
}

/// [`fill`] with `{n}`, in the singular for 1.
pub fn counted(n: usize, one: &str, many: &str) -> String {
    fill(if n == 1 { one } else { many }, &[("n", &count(n))])
}

/// The language in force. Whatever shows words is built anew when it changes.
pub fn start() -> RwSignal<Language> {
    let language = RwSignal::new(Language::English);
    let stored =
        window().local_storage().ok().flatten().and_then(|kept| kept.get_item(STORED).ok().flatten());
    let wanted = stored.or_else(|| window().navigator().language());
    if let Some(Language::Chinese) = wanted.as_deref().and_then(Language::of_tag) {
        choose(language, Language::Chinese);
    }
    language
}

/// Fetches the table and switches; where it cannot be had the language stays.
pub fn choose(language: RwSignal<Language>, to: Language) {
    let number = CHOICES.get() + 1;
    CHOICES.set(number);
    leptos::task::spawn_local(async move {
        let table = match to {
            Language::English => Some(HashMap::new()),
            other => served::json(&format!("./{}.json", other.tag())).await,
        };
        if CHOICES.get() != number {
            return;
        }
        // Built anew, the field of languages shows the one in force.
        let Some(table) = table else { return language.update(|_| ()) };
        TABLE.set(table);
        if let Some(root) = document().document_element() {
            _ = root.set_attribute("lang", to.tag());
        }
        // A browser that keeps nothing asks again next time.
        if let Ok(Some(kept)) = window().local_storage() {
            _ = kept.set_item(STORED, to.tag());
        }
        language.set(to);
    });
}
