//! The worker as the page sees it: typed requests out, typed replies in.

use crate::files;
use crate::state::{Asked, Page, View, Worker as State};
use crate::views::{model, take_home};
use crate::words::{fill, t};
use attune::protocol::{Command, Reply, Request, Update};
use leptos::prelude::{Update as _, *};
use std::cell::{Cell, RefCell};
use wasm_bindgen::prelude::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{File, MessageEvent, Worker, WorkerOptions, WorkerType};

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
    /// Counts the workers: what an earlier one still says is nobody's.
    static NUMBER: Cell<u32> = const { Cell::new(0) };
}

/// Held by a worker as long as it lives; see `worker.js`.
const LOCK: &str = "attune";

/// Where the worker computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// The GPU if there is one that is worth it and computes rightly.
    Best,
    /// Any GPU, even a program on the CPU that stands in for one.
    WebGpu,
    Cpu,
    /// The CPU, for this reason.
    CpuBecause(String),
}

impl Device {
    /// As the page's address asks for it.
    pub fn asked(search: &str) -> Self {
        let is = |part: &str| search.split(['?', '&']).any(|one| one == part);
        match (is("device=cpu"), is("device=webgpu")) {
            (true, _) => Self::Cpu,
            (_, true) => Self::WebGpu,
            _ => Self::Best,
        }
    }

    /// What `worker.js` reads as its name.
    fn query(&self) -> String {
        match self {
            Self::Best => String::new(),
            Self::WebGpu => "device=webgpu".into(),
            Self::Cpu => "device=cpu".into(),
            Self::CpuBecause(reason) => {
                format!("device=cpu&because={}", js_sys::encode_uri_component(reason))
            }
        }
    }
}

/// Starts a worker in the place of the one before. Where it dies before it is ready on the GPU, it is started again
/// on the CPU.
pub fn start(page: Page, device: Device) {
    let number = NUMBER.get() + 1;
    NUMBER.set(number);
    if let Some(worker) = WORKER.take() {
        worker.terminate();
    }
    page.worker.set(State::Loading { done: 0, total: 0 });
    // What was asked of the one before, this one never hears.
    page.asked.set(Vec::new());
    let options = WorkerOptions::new();
    options.set_type(WorkerType::Module);
    options.set_name(&device.query());
    let worker = match Worker::new_with_options("./worker.js", &options) {
        Ok(worker) => worker,
        Err(error) => {
            return page.worker.set(State::Dead(format!("the worker could not be started: {error:?}")));
        }
    };
    let on_death = device.clone();
    let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        if NUMBER.get() == number {
            hear(page, &on_death, &event.data());
        }
    });
    worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    let on_error = Closure::<dyn FnMut(web_sys::Event)>::new(move |event: web_sys::Event| {
        event.prevent_default();
        if NUMBER.get() == number {
            let message = js_sys::Reflect::get(&event, &"message".into()).ok();
            died(page, &device, &message.and_then(|text| text.as_string()).unwrap_or_default());
        }
    });
    worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
    // Both live as long as the worker.
    on_message.forget();
    on_error.forget();
    WORKER.set(Some(worker));
}

/// Starts a worker after one that died. Settings stay; what else the page knew of models and runs, it asks anew.
pub fn restart(page: Page, device: Device) {
    page.forget_worker();
    start(page, device);
}

/// Notices a worker that dies without a word, as when the browser ends it: its lock falls to the page then.
fn watch(page: Page, device: &Device) {
    let (number, device) = (NUMBER.get(), device.clone());
    let on_lock = Closure::once_into_js(move || {
        if NUMBER.get() == number {
            died(page, &device, &t("the browser ended it"));
        }
    });
    // web-sys counts locks among what may still change.
    let ask = || {
        let locks = js_sys::Reflect::get(&window().navigator(), &"locks".into())?;
        let request: js_sys::Function = js_sys::Reflect::get(&locks, &"request".into())?.unchecked_into();
        request.call2(&locks, &LOCK.into(), &on_lock)
    };
    // A browser without locks has no worker: `worker.js` asks for one first.
    _ = ask();
}

fn hear(page: Page, device: &Device, message: &JsValue) {
    let parts = js_sys::Array::from(message);
    let json = parts.get(0).as_string().unwrap_or_default();
    match serde_json::from_str::<Reply>(&json) {
        Ok(Reply::Gone { message }) => died(page, device, &message),
        Ok(reply) => {
            if let (Reply::File { name }, Ok(file)) = (&reply, parts.get(1).dyn_into::<File>()) {
                files::save(&file, name);
            }
            let is_ready = matches!(reply, Reply::Ready { .. });
            let is_wanted =
                page.asked.with_untracked(|asked| asked.first().is_some_and(|asked| !asked.is_quiet));
            let is_failure = is_wanted && matches!(reply, Reply::Failed { .. });
            // What is in the store now is opened like anything else that is there.
            if let Reply::Fetched { key, name } = &reply {
                page.hub.is_fetching.set(false);
                model::open(page, View::Model, key.clone(), name.clone());
            }
            // It was asked for to be saved.
            if let Reply::Update(Update::Packed(file)) = &reply {
                take_home::give(page, file.key.clone(), file.name.clone());
            }
            page.hear(reply);
            if is_failure && page.hub.is_fetching.get_untracked() {
                page.hub.is_fetching.set(false);
                list(page);
            }
            // Where a model was refused, what was chosen for it is not in use.
            if is_failure && page.model.with_untracked(Option::is_none) && is_over(page) {
                page.source.set(None);
                page.rows.set(None);
            }
            // Files that turn out to be no model are not kept; whether they are one, opening them tells.
            if is_failure
                && is_over(page)
                && let Some(key) = page.importing.try_update(Option::take).flatten()
            {
                quietly(page, page.view.get_untracked(), Command::Remove { key });
                list(page);
            }
            if is_ready {
                watch(page, device);
                list(page);
            }
        }
        Err(error) => {
            page.worker.set(State::Dead(format!("the page does not understand its worker: {error}")))
        }
    }
}

/// Whether all is done that somebody asked for.
fn is_over(page: Page) -> bool {
    page.asked.with_untracked(|asked| asked.iter().all(|asked| asked.is_quiet))
}

fn died(page: Page, device: &Device, message: &str) {
    let was_starting = matches!(page.worker.get_untracked(), State::Loading { .. });
    if was_starting && matches!(device, Device::Best | Device::WebGpu) {
        let reason = fill("its worker stopped at the start: {message}", &[("message", &message)]);
        return start(page, Device::CpuBecause(reason));
    }
    NUMBER.set(NUMBER.get() + 1);
    if let Some(worker) = WORKER.take() {
        worker.terminate();
    }
    // The one thing that a wasm program cannot say itself.
    let message = match message.ends_with("RuntimeError: unreachable") || message.contains("RangeError") {
        true => t("memory may have run out; a smaller batch_size or max_length needs less"),
        false => message.to_string(),
    };
    page.worker.set(State::Dead(fill(
        "The worker stopped: {message}. Models and runs are kept, and a run goes on from its last checkpoint.",
        &[("message", &message)],
    )));
    page.cut_off();
    page.progress.set(None);
    page.asked.set(Vec::new());
}

/// Asks for work; its failure is said in `view`.
pub fn work(page: Page, view: View, command: Command) {
    ask(page, view, Request::Work(command), &[]);
}

/// Asks for anything that is answered, with the files it is about.
pub fn ask(page: Page, view: View, request: Request, files: &[File]) {
    page.failure.set(None);
    page.asked.update(|asked| asked.push(Asked { view, is_quiet: false }));
    post(&request, files);
}

/// Asks what is stored, once what was asked before is done.
pub fn list(page: Page) {
    quietly(page, page.view.get_untracked(), Command::List);
}

/// Asks for the figures of a stored run; answered whatever else is under way.
pub fn figures(key: &str) {
    post(&Request::Figures { key: key.into() }, &[]);
}

/// Asks for what nobody asked for: what failed before stays said.
pub fn quietly(page: Page, view: View, command: Command) {
    page.asked.update(|asked| asked.push(Asked { view, is_quiet: true }));
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
