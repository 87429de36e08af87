//! The worker's loop: requests in, session, replies out.

use crate::opfs::Opfs;
use crate::{choose, executor, faults, fetch, hub, import, post};
use attune::protocol::{Command, Control, Event, Reply, Request, Update};
use attune::session::{Session, figures, sweep};
use attune::{Error, Result};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Poll, Waker};
use wasm_bindgen::prelude::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{AbortController, AbortSignal, File, MessageEvent};

thread_local! {
    static QUEUE: RefCell<VecDeque<Asked>> = const { RefCell::new(VecDeque::new()) };
    static WAITING: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static STOP: Cell<bool> = const { Cell::new(false) };
    /// Breaks the connections of the request under way.
    static ABORT: RefCell<Option<AbortController>> = const { RefCell::new(None) };
    /// For what is read while the session works.
    static STORED: RefCell<Option<Opfs>> = const { RefCell::new(None) };
}

/// A request that waits for its turn.
struct Asked {
    request: Request,
    files: Vec<File>,
    /// Whether a stop came before its turn.
    is_stopped: bool,
}

/// Listens to the page and starts the loop.
pub fn begin() {
    faults::listen();
    let on_message = Closure::<dyn FnMut(MessageEvent)>::new(|event: MessageEvent| receive(&event.data()));
    post::scope().set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    // Lives as long as the worker.
    on_message.forget();
    if executor::run(work()).is_err() {
        fail("this browser has no message channels".into(), false);
    }
}

/// A stop is heard at once, and figures are read at once; everything else waits for its turn. Who stops a voice wants
/// the next one to be silent too.
fn receive(message: &JsValue) {
    let parts: Vec<JsValue> = js_sys::Array::from(message).to_vec();
    let json = parts.first().and_then(JsValue::as_string).unwrap_or_default();
    match serde_json::from_str(&json) {
        Ok(Request::Stop) => {
            STOP.set(true);
            ABORT.with_borrow(|controller| controller.iter().for_each(AbortController::abort));
            QUEUE.with_borrow_mut(|queue| {
                for asked in queue {
                    asked.is_stopped |= matches!(asked.request, Request::Work(Command::Generate { .. }));
                }
            });
        }
        // Looking for models waits for no work.
        Ok(Request::Search { text, hub }) => wasm_bindgen_futures::spawn_local(hub::search(text, hub)),
        Ok(Request::Figures { key }) => wasm_bindgen_futures::spawn_local(read_figures(key)),
        Ok(request) => {
            let files = parts.into_iter().skip(1).filter_map(|part| part.dyn_into().ok()).collect();
            QUEUE.with_borrow_mut(|queue| queue.push_back(Asked { request, files, is_stopped: false }));
            if let Some(waker) = WAITING.take() {
                waker.wake();
            }
        }
        Err(error) => {
            fail(format!("internal error: the worker does not understand the page: {error}"), false)
        }
    }
}

async fn next() -> Asked {
    std::future::poll_fn(|context| match QUEUE.with_borrow_mut(VecDeque::pop_front) {
        Some(request) => Poll::Ready(request),
        None => {
            WAITING.set(Some(context.waker().clone()));
            Poll::Pending
        }
    })
    .await
}

async fn work() {
    let stored = match Opfs::open().await {
        Ok(stored) => stored,
        Err(error) => return fail(error.to_string(), false),
    };
    let device = choose::choose().await;
    if device.name == "webgpu" {
        faults::watch();
    }
    STORED.set(Some(stored.clone()));
    let mut session = Session::new(stored.clone(), device.name.clone());
    post::reply(&Reply::Ready { device });
    // This worker alone has the store, see `worker.js`. What cannot be removed now is there the next time.
    _ = stored.sweep().await;
    _ = sweep(&stored).await;
    loop {
        let Asked { request, files, is_stopped } = next().await;
        STOP.set(false);
        // Every browser that has a worker has it.
        ABORT.set(AbortController::new().ok());
        let outcome = match request {
            _ if is_stopped => Err(Error::Interrupted("the answer".into())),
            Request::Work(command) => work_on(&mut session, command).await,
            Request::Import { folder } => import::import(&stored, &folder, &files).await,
            Request::Fetch { url, key } => fetch::fetch(&stored, &url, &key).await,
            Request::FetchModel { id, hub } => hub::open(&stored, &id, &hub).await,
            Request::Give { key, name } => give(&stored, &key, name).await,
            // Heard on arrival.
            Request::Stop | Request::Search { .. } | Request::Figures { .. } => Ok(()),
        };
        match outcome {
            Ok(()) => post::reply(&Reply::Done),
            Err(error) => fail(error.to_string(), matches!(error, Error::Interrupted(_))),
        }
    }
}

/// Given off when the page wants the work under way to end.
pub fn stop_signal() -> Option<AbortSignal> {
    ABORT.with_borrow(|controller| controller.as_ref().map(AbortController::signal))
}

async fn work_on(session: &mut Session<Opfs>, command: Command) -> Result<()> {
    session
        .handle(command, &mut |update| {
            let is_step = matches!(update, Update::Event(Event::Step(_)));
            post::reply(&Reply::Update(update));
            if is_step {
                post::reply(&Reply::Memory { n_bytes: memory() });
            }
            if STOP.get() { Control::Stop } else { Control::Continue }
        })
        .await
}

/// Bytes of this module's memory: pages of 64 KiB, which are never given back.
fn memory() -> u64 {
    core::arch::wasm32::memory_size(0) as u64 * 65_536
}

async fn read_figures(key: String) {
    let Some(stored) = STORED.with_borrow(Option::clone) else { return };
    let update = match figures(&stored, &key).await {
        Ok(figures) => Update::Figures(Box::new(figures)),
        Err(error) => Update::Event(Event::Note { message: format!("{key}: {error}") }),
    };
    post::reply(&Reply::Update(update));
}

async fn give(stored: &Opfs, key: &str, name: String) -> Result<()> {
    let file = stored.file(key).await?;
    post::send(&Reply::File { name }, &[file.into()]);
    Ok(())
}

fn fail(message: String, is_stop: bool) {
    post::reply(&Reply::Failed { message, is_stop });
}
