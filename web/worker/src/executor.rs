//! Runs the worker's one task. Each turn is a task of the browser's event loop of its own, so that messages,
//! such as the wish to stop, come through between two turns however busy the task is.

use crate::faults;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use wasm_bindgen::JsCast;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::Closure;
use web_sys::{MessageChannel, MessagePort};

thread_local! {
    static TASK: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>> = const { RefCell::new(None) };
    static BELL: RefCell<Option<MessagePort>> = const { RefCell::new(None) };
    static RUNG: Cell<bool> = const { Cell::new(false) };
}

struct Bell;

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        ring();
    }
}

/// Asks for a turn, once however often it is called before the turn comes.
fn ring() {
    if RUNG.replace(true) {
        return;
    }
    BELL.with_borrow(|bell| {
        if let Some(bell) = bell {
            // Posting null to a channel of our own cannot fail.
            _ = bell.post_message(&JsValue::NULL);
        }
    });
}

fn turn() {
    RUNG.set(false);
    if faults::has_ended() {
        return;
    }
    // Taken out, so that whatever it calls may ring.
    let Some(mut task) = TASK.take() else { return };
    let waker = Waker::from(Arc::new(Bell));
    if task.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
        TASK.set(Some(task));
    }
}

/// Starts the task.
///
/// # Errors
/// A browser without message channels.
pub fn run(task: impl Future<Output = ()> + 'static) -> Result<(), JsValue> {
    let channel = MessageChannel::new()?;
    let on_message = Closure::<dyn FnMut()>::new(turn);
    channel.port2().set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    // Lives as long as the worker.
    on_message.forget();
    BELL.set(Some(channel.port1()));
    TASK.set(Some(Box::pin(task)));
    ring();
    Ok(())
}
