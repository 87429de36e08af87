//! The worker as the page sees it: typed requests out, typed replies in.

use crate::files;
use crate::state::{Page, View, Worker as State};
use crate::views::model;
use attune::protocol::{Command, Reply, Request};
use leptos::prelude::*;
use std::cell::RefCell;
use wasm_bindgen::prelude::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{File, MessageEvent, Worker, WorkerOptions, WorkerType};

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// Where the worker computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The GPU if there is one that computes rightly.
    Best,
    Cpu,
}

/// Starts the worker. Where it dies before it is ready on the GPU, it is started again on the CPU.
pub fn start(page: Page, device: Device) {
    let options = WorkerOptions::new();
    options.set_type(WorkerType::Module);
    let address = match device {
        Device::Best => "./worker.js",
        Device::Cpu => "./worker.js?device=cpu",
    };
    let worker = match Worker::new_with_options(address, &options) {
        Ok(worker) => worker,
        Err(error) => {
            return page.worker.set(State::Dead(format!("the worker could not be started: {error:?}")));
        }
    };
    let on_message =
        Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| hear(page, &event.data()));
    worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    let on_error = Closure::<dyn FnMut(web_sys::Event)>::new(move |event: web_sys::Event| {
        event.prevent_default();
        let message = js_sys::Reflect::get(&event, &"message".into()).ok().and_then(|text| text.as_string());
        died(page, device, message.unwrap_or_default());
    });
    worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
    // Both live as long as the worker.
    on_message.forget();
    on_error.forget();
    WORKER.set(Some(worker));
}

fn hear(page: Page, message: &JsValue) {
    let parts = js_sys::Array::from(message);
    let json = parts.get(0).as_string().unwrap_or_default();
    match serde_json::from_str::<Reply>(&json) {
        Ok(reply) => {
            if let (Reply::File { name }, Ok(file)) = (&reply, parts.get(1).dyn_into::<File>()) {
                files::save(&file, name);
            }
            let (is_ready, is_failure) =
                (matches!(reply, Reply::Ready { .. }), matches!(reply, Reply::Failed { .. }));
            // What is in the store now is opened like anything else that is there.
            if let Reply::Fetched { key, name } = &reply {
                page.hub.is_fetching.set(false);
                model::open(page, key.clone(), name.clone());
            }
            page.hear(reply);
            if is_failure && page.hub.is_fetching.get_untracked() {
                page.hub.is_fetching.set(false);
                list(page);
            }
            // Files that turn out to be no model are not kept.
            if is_failure && let Some(key) = page.importing.try_update(Option::take).flatten() {
                quietly(page, Command::Remove { key });
                list(page);
            }
            if is_ready {
                list(page);
            }
        }
        Err(error) => {
            page.worker.set(State::Dead(format!("the page does not understand its worker: {error}")))
        }
    }
}

fn died(page: Page, device: Device, message: String) {
    if let Some(worker) = WORKER.take() {
        worker.terminate();
    }
    let was_starting = matches!(page.worker.get_untracked(), State::Loading { .. });
    if was_starting && device == Device::Best {
        return start(page, Device::Cpu);
    }
    let advice = "Reload the page: models and runs are kept, and a run goes on from its last checkpoint.";
    page.worker.set(State::Dead(format!("The worker stopped: {message}. {advice}")));
    page.asked.set(Vec::new());
}

/// Asks for work; its failure is said in `view`.
pub fn work(page: Page, view: View, command: Command) {
    ask(page, view, Request::Work(command), &[]);
}

/// Asks for anything that is answered, with the files it is about.
pub fn ask(page: Page, view: View, request: Request, files: &[File]) {
    page.failure.set(None);
    page.asked.update(|asked| asked.push(view));
    post(&request, files);
}

/// Asks what is stored, once what was asked before is done.
pub fn list(page: Page) {
    quietly(page, Command::List);
}

/// Asks for what nobody asked for: what failed before stays said.
fn quietly(page: Page, command: Command) {
    page.asked.update(|asked| asked.push(page.view.get_untracked()));
    post(&Request::Work(command), &[]);
}

/// Asks the work under way to stop.
pub fn stop() {
    post(&Request::Stop, &[]);
}

/// Sends a request; those that are answered by nothing of their own are not counted.
pub fn post(request: &Request, files: &[File]) {
    // Settings are numbers and words, which JSON always writes.
    let json = serde_json::to_string(request).unwrap_or_default();
    let message = js_sys::Array::of1(&json.into());
    files.iter().for_each(|file| _ = message.push(file));
    WORKER.with_borrow(|worker| {
        if let Some(worker) = worker {
            // A string and file handles can always be cloned.
            _ = worker.post_message(&message);
        }
    });
}
