//! Files that come from and go to the user's disk.

use crate::words::t;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{DragEvent, Event, File, FileList, HtmlAnchorElement, HtmlInputElement, Url};

/// Offers a file to be saved; its bytes are copied by the browser.
pub fn save(file: &File, name: &str) {
    let Ok(url) = Url::create_object_url_with_blob(file) else { return };
    let document = document();
    if let Ok(link) = document.create_element("a") {
        let link: HtmlAnchorElement = link.unchecked_into();
        link.set_href(&url);
        link.set_download(name);
        link.click();
    }
    // The browser holds the bytes from the click on; a minute is for those that ask where to save first.
    set_timeout(move || _ = Url::revoke_object_url(&url), std::time::Duration::from_secs(60));
}

/// A file made of text that was typed.
pub fn of_text(text: &str, name: &str) -> Option<File> {
    File::new_with_str_sequence(&js_sys::Array::of1(&text.into()), name).ok()
}

fn listed(list: Option<FileList>) -> Vec<File> {
    let Some(list) = list else { return Vec::new() };
    (0..list.length()).filter_map(|index| list.get(index)).collect()
}

/// A place to drop files on, or to choose them from.
#[component]
pub fn DropZone(
    /// Name of the input, for labels and tests.
    id: &'static str,
    /// What is wanted.
    label: &'static str,
    /// Which kinds, in smaller print.
    hint: &'static str,
    /// Endings that the dialogue offers.
    accept: &'static str,
    /// Whether several files belong together.
    multiple: bool,
    /// Whether nothing can be taken in now.
    #[prop(into)]
    disabled: Signal<bool>,
    on_files: Callback<Vec<FileHandle>>,
) -> impl IntoView {
    let is_over = RwSignal::new(false);
    let choose = move |event: Event| {
        let input: HtmlInputElement = event_target(&event);
        let files = listed(input.files());
        // The same file chosen again is a wish to read it again.
        input.set_value("");
        if !disabled.get_untracked() {
            give(on_files, files);
        }
    };
    let over = move |event: DragEvent| {
        event.prevent_default();
        is_over.set(!disabled.get_untracked());
    };
    let drop = move |event: DragEvent| {
        event.prevent_default();
        is_over.set(false);
        if !disabled.get_untracked() {
            give(on_files, listed(event.data_transfer().and_then(|data| data.files())));
        }
    };
    view! {
        <label class="drop" class:over=is_over for=id on:dragover=over on:dragleave=move |_| is_over.set(false) on:drop=drop>
            <input id=id type="file" class="visually-hidden" accept=accept multiple=multiple disabled=move || disabled.get() on:change=choose />
            <span class="drop-label">{t(label)}</span>
            <span class="hint">{t(hint)}</span>
        </label>
    }
}

/// A file in the hands of the page; the page has one thread, which is all that `Send` is about here.
pub type FileHandle = send_wrapper::SendWrapper<File>;

fn give(on_files: Callback<Vec<FileHandle>>, files: Vec<File>) {
    if !files.is_empty() {
        on_files.run(files.into_iter().map(FileHandle::new).collect());
    }
}
