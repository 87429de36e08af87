//! The frame: what the page is, the way through, and the view that is open.

use crate::client::{self, Device};
use crate::forecast;
use crate::samples;
use crate::state::{Page, Phase, View, Worker};
use crate::units::{bytes, short};
use crate::views;
use crate::words::{self, Language, counted, fill, t};
use leptos::prelude::*;
use wasm_bindgen::JsCast;

/// The whole page.
#[component]
pub fn App() -> impl IntoView {
    let page = Page::new();
    let samples = samples::list();
    let search = window().location().search().unwrap_or_default();
    client::start(page, Device::asked(&search));
    forecast::watch(page);
    views::data::follow(page);
    let language = words::start();
    Effect::watch(move || page.view.get(), |_, _, _| begin_at_the_top(), false);
    let body = move || match page.view.get() {
        View::Model => view! { <views::model::Model page samples /> }.into_any(),
        View::Data => view! { <views::data::Data page samples /> }.into_any(),
        View::Tune => view! { <views::tune::Tune page /> }.into_any(),
        View::Train => view! { <views::train::Train page /> }.into_any(),
        View::Try => view! { <views::try_out::TryOut page /> }.into_any(),
        View::TakeHome => view! { <views::take_home::TakeHome page /> }.into_any(),
    };
    let all = move || {
        // What was chosen and done is in `page`, so that everything may be built anew in another language.
        language.track();
        view! {
            <header class="top">
                <h1>"attune"</h1>
                <p class="claim">{t("Fine-tunes a small language model in this tab. Nothing leaves your machine.")}</p>
                <Languages language />
                <Chip page />
            </header>
            <div class="frame">
                <Rail page />
                <main>
                    <h2 tabindex="-1">{move || t(page.view.get().title())}</h2>
                    <Failure page />
                    <views::stored::Unfinished page />
                    {body}
                </main>
            </div>
        }
    };
    view! { {all} }
}

/// Another view is read from its heading on, by eye and by ear.
fn begin_at_the_top() {
    window().scroll_to_with_x_and_y(0.0, 0.0);
    let heading = document().query_selector("main h2").ok().flatten();
    if let Some(heading) = heading.and_then(|heading| heading.dyn_into::<web_sys::HtmlElement>().ok()) {
        // A heading that cannot be focused is read all the same.
        _ = heading.focus();
    }
}

#[component]
fn Languages(language: RwSignal<Language>) -> impl IntoView {
    let choose = move |event| {
        let tag = event_target_value(&event);
        if let Some(to) = Language::ALL.into_iter().find(|one| one.tag() == tag) {
            words::choose(language, to);
        }
    };
    let options = Language::ALL.map(|one| {
        view! { <option value=one.tag() lang=one.tag() selected=move || language.get() == one>{one.name()}</option> }
    });
    view! { <select id="language" class="quiet" aria-label="Language 语言" on:change=choose>{options.collect_view()}</select> }
}

/// Where the worker computes.
#[component]
fn Chip(page: Page) -> impl IntoView {
    let text = move || match page.worker.get() {
        Worker::Loading { total: 0, done: 0 } => t("starting"),
        Worker::Loading { done, total: 0 } => fill("loading, {n}", &[("n", &bytes(done))]),
        // A GPU is tried out first, which takes moments.
        Worker::Loading { done, total } if done >= total => t("getting ready"),
        Worker::Loading { done, total } => fill("loading, {n} %", &[("n", &(done * 100 / total))]),
        Worker::Ready(device) if device.name == "webgpu" => format!("WebGPU: {}", device.description),
        Worker::Ready(device) => format!("CPU: {}", t(&device.description)),
        Worker::Dead(_) => t("stopped"),
    };
    let why = move || match page.worker.get() {
        Worker::Ready(device) => device.reason,
        _ => None,
    };
    let limits = move || match page.worker.get() {
        Worker::Ready(device) => device.limits,
        _ => None,
    };
    let kind = move || match page.worker.get() {
        Worker::Loading { .. } => "chip waiting",
        Worker::Ready(device) if device.name == "webgpu" => "chip good",
        Worker::Ready(_) => "chip fair",
        Worker::Dead(_) => "chip bad",
    };
    view! {
        <div class="device" role="status">
            <span class=kind id="device">{text}</span>
            <span class="hint">{move || why().map(|reason| fill("because {reason}", &[("reason", &t(&reason))]))}</span>
            <span class="hint">{move || limits().map(|limits| fill("tensors up to {tensor}, buffers up to {buffer}", &[("tensor", &bytes(limits.max_tensor_bytes)), ("buffer", &bytes(limits.max_buffer_bytes))]))}</span>
        </div>
    }
}

#[component]
fn Rail(page: Page) -> impl IntoView {
    let item = move |index: usize, view: View| {
        let class = move || match status(page, view) {
            Status::Done(_) => "step done",
            Status::Missing(_) => "step",
        };
        let text = move || match status(page, view) {
            Status::Done(text) | Status::Missing(text) => text,
        };
        let current = move || if page.view.get() == view { "step" } else { "false" };
        view! {
            <li>
                <button class=class aria-current=current on:click=move |_| page.view.set(view)>
                    <span class="number" aria-hidden="true">{index + 1}</span>
                    <span class="name">{t(view.title())}</span>
                    <span class="status">{text}</span>
                </button>
            </li>
        }
    };
    view! {
        <nav class="rail" aria-label=t("The way through")>
            <ol>{View::ALL.into_iter().enumerate().map(|(index, view)| item(index, view)).collect_view()}</ol>
        </nav>
    }
}

enum Status {
    Done(String),
    Missing(String),
}

/// What the rail says of a step.
fn status(page: Page, view: View) -> Status {
    let missing = |text: &str| Status::Missing(t(text));
    match view {
        View::Model => match page.model.get() {
            Some(card) => Status::Done(format!("{}, {}", card.name, short(card.n_params))),
            None => missing("choose one"),
        },
        View::Data => match page.data.get() {
            Some(data) if data.report.n_rows > 0 => {
                Status::Done(counted(data.report.n_rows, "{n} row", "{n} rows"))
            }
            Some(_) => missing("no usable row"),
            None => missing("choose a file"),
        },
        View::Tune => {
            let method = page.run.with(|run| match &run.method {
                attune::methods::MethodConfig::Lora(lora) => {
                    fill("LoRA, rank {rank}", &[("rank", &lora.rank)])
                }
                attune::methods::MethodConfig::Full(_) => t("full tuning"),
            });
            if !forecast::to_mend(page).is_empty() {
                missing("to be mended")
            } else if page.is_tuned.get() {
                Status::Done(method)
            } else {
                Status::Missing(method)
            }
        }
        View::Train => match page.phase.get() {
            Phase::Idle => missing("not started"),
            Phase::Training | Phase::Stopped => page.steps.with(|steps| {
                let word = t(if page.phase.get() == Phase::Stopped { "stopped" } else { "running" });
                let at = steps
                    .last()
                    .map_or(String::new(), |step| format!(", {}/{}", step.step, step.total_steps));
                Status::Missing(format!("{word}{at}"))
            }),
            Phase::Done => Status::Done(page.steps.with(|steps| {
                steps.last().map_or_else(|| t("done"), |step| format!("{} {:.3}", t("loss"), step.loss))
            })),
        },
        View::Try => match (page.model.get().is_some(), page.trained.get().is_some()) {
            (false, _) => missing("needs a model"),
            (true, false) => missing("base model only"),
            (true, true) => Status::Done(t("base and tuned")),
        },
        View::TakeHome => match page.trained.get() {
            Some(trained) => Status::Done(counted(trained.files.len(), "{n} file", "{n} files")),
            None => missing("needs a run"),
        },
    }
}

/// What went wrong, in the view it concerns; a dead worker concerns all, and another can be started.
#[component]
fn Failure(page: Page) -> impl IntoView {
    let text = move || match page.worker.get() {
        Worker::Dead(message) => Some(message),
        _ => page.failure.get().and_then(|(view, message)| (view == page.view.get()).then_some(message)),
    };
    let asked = || Device::asked(&window().location().search().unwrap_or_default());
    let again = client::restart;
    view! {
        <div role="alert">
            {move || text().map(|text| view! { <p class="failure" id="failure">{text}</p> })}
        </div>
        {move || matches!(page.worker.get(), Worker::Dead(_)).then(|| view! {
            <div class="actions">
                <button class="primary" id="restart" on:click=move |_| again(page, asked())>{t("Start the worker again")}</button>
                <button id="restart-cpu" on:click=move |_| again(page, Device::Cpu)>{t("Start it on the CPU")}</button>
            </div>
        })}
    }
}
