//! What the run would need, beside what the device has.

use crate::forecast::{METHOD, label_of};
use crate::form::put_all;
use crate::state::Page;
use crate::units::{bytes, count};
use crate::words::{counted, fill, t};
use attune::methods::MethodConfig;
use attune::protocol::{Advice, Estimate, RateFrom, TimeEstimate};
use leptos::prelude::*;

/// Units of the bar's drawing.
const WIDTH: f64 = 1000.0;

#[component]
pub fn Needs(page: Page) -> impl IntoView {
    let body = move || match page.estimate.get() {
        Some(estimate) => found(page, &estimate),
        None => view! { <p class="hint">{move || missing(page)}</p> }.into_any(),
    };
    view! {
        <section class="card needs" id="needs" aria-label=t("What it needs")>
            <h3>{t("What it needs")}</h3>
            {body}
        </section>
    }
}

fn missing(page: Page) -> String {
    if page.model.with(Option::is_none) {
        t("Open a model to see what tuning it needs.")
    } else if page.problems.with(|problems| !problems.is_empty()) {
        t("Settings are out of range; see below.")
    } else {
        t("Reckoning.")
    }
}

fn found(page: Page, estimate: &Estimate) -> AnyView {
    let is_over = estimate.limit_bytes.is_some_and(|limit| estimate.peak_bytes > limit);
    let peak = bytes(estimate.peak_bytes);
    let memory = match estimate.limit_bytes {
        Some(limit) if is_over => fill(
            "About {peak} of memory: more than the {limit} that this tab can have.",
            &[("peak", &peak), ("limit", &bytes(limit))],
        ),
        Some(limit) => fill(
            "About {peak} of memory at its peak, of {limit} that this tab can have.",
            &[("peak", &peak), ("limit", &bytes(limit))],
        ),
        None => fill("About {peak} of memory at its peak.", &[("peak", &peak)]),
    };
    let time = estimate.time.map_or_else(|| t("Time is told once there are rows."), time_text);
    let advice = is_over.then(|| advice(page, &estimate.advice));
    let class = if is_over { "failure" } else { "" };
    view! {
        <p id="needs-memory" class=class role="status">{memory}</p>
        {bar(estimate)}
        {legend(estimate)}
        {advice}
        <p id="needs-time">{time}</p>
    }
    .into_any()
}

/// The parts side by side, up to the limit where there is one.
fn bar(estimate: &Estimate) -> AnyView {
    let whole = estimate.limit_bytes.unwrap_or(0).max(estimate.peak_bytes).max(1) as f64;
    let at = |n: u64| (n as f64 / whole * WIDTH).to_string();
    let mut done = 0;
    let parts = estimate.memory.parts().into_iter().enumerate().map(|(index, (_, n_bytes))| {
        let (x, width) = (at(done), at(n_bytes));
        done += n_bytes;
        view! { <rect class=format!("part{index}") x=x width=width y="0" height="20" /> }
    });
    let parts = parts.collect_view();
    let limit = estimate.limit_bytes.filter(|limit| *limit < estimate.peak_bytes).map(|limit| {
        view! { <line class="limit" x1=at(limit) x2=at(limit) y1="0" y2="20" vector-effect="non-scaling-stroke" /> }
    });
    view! {
        <svg class="stack" viewBox=format!("0 0 {WIDTH} 20") preserveAspectRatio="none" aria-hidden="true">
            {parts}
            {limit}
        </svg>
    }
    .into_any()
}

/// What each part is, in words.
const PARTS: [&str; 8] = [
    "Model, as 32-bit numbers",
    "What is attached to it",
    "Values to go back to",
    "Gradients",
    "Optimizer's memory",
    "Intermediate results of a batch",
    "Scores of the next tokens",
    "Program and tokenizer",
];

fn legend(estimate: &Estimate) -> AnyView {
    let parts = estimate.memory.parts().into_iter().zip(PARTS).enumerate();
    let shown = parts.filter(|(_, ((_, n_bytes), _))| *n_bytes > 0).map(|(index, ((_, n_bytes), words))| {
        view! { <li><span class=format!("swatch part{index}")></span><span>{t(words)}</span><span class="number">{bytes(n_bytes)}</span></li> }
    });
    view! { <ul class="parts">{shown.collect_view()}</ul> }.into_any()
}

fn time_text(time: TimeEstimate) -> String {
    let steps = counted(time.total_steps, "{n} step", "{n} steps");
    let values: [(&str, &dyn std::fmt::Display); 2] = [("time", &span(time.secs)), ("steps", &steps)];
    match time.rate_from {
        RateFrom::Steps => fill("About {time} for {steps}, going by earlier steps on this device.", &values),
        RateFrom::Product => {
            fill("Roughly {time} for {steps}; the first run on this device will tell better.", &values)
        }
    }
}

/// A span of time as people say it.
fn span(secs: f64) -> String {
    let whole = |n: f64| n.round().max(1.0) as usize;
    match secs {
        ..90.0 => counted(whole(secs), "{n} second", "{n} seconds"),
        ..5400.0 => counted(whole(secs / 60.0), "{n} minute", "{n} minutes"),
        ..172_800.0 => counted(whole(secs / 3600.0), "{n} hour", "{n} hours"),
        _ => counted(whole(secs / 86_400.0), "{n} day", "{n} days"),
    }
}

fn advice(page: Page, advice: &[Advice]) -> AnyView {
    if advice.is_empty() {
        return view! { <p>{t("No setting makes it fit: choose a smaller model.")}</p> }.into_any();
    }
    let item = |advice: &Advice| {
        let words: Vec<String> = advice.changes.iter().map(change_text).collect();
        let sentence = if advice.fits { "{changes}: needs {peak}" } else { "{changes}: still needs {peak}" };
        let text = fill(sentence, &[("changes", &words.join(", ")), ("peak", &bytes(advice.peak_bytes))]);
        let changes = advice.changes.clone();
        let apply = move |_| apply(page, &changes);
        view! { <li><span>{text}</span><button type="button" on:click=apply>{t("Change it")}</button></li> }
    };
    let heading = if advice.iter().any(|advice| advice.fits) {
        t("Any of these makes it fit:")
    } else {
        t("All of this is not enough; a smaller model is:")
    };
    view! { <p>{heading}</p><ul class="advice">{advice.iter().map(item).collect_view()}</ul> }.into_any()
}

/// `Batch size 4`, `gradient checkpointing on`
fn change_text((key, value): &(String, String)) -> String {
    let label = label_of(key);
    match value.as_str() {
        "true" => fill("{setting} on", &[("setting", &label)]),
        number => {
            let value = number.parse().map_or_else(|_| number.to_string(), count);
            fill("{setting} {value}", &[("setting", &label), ("value", &value)])
        }
    }
}

fn apply(page: Page, changes: &[(String, String)]) {
    let (methods, settings): (Vec<_>, Vec<_>) = changes.iter().cloned().partition(|(key, _)| key == METHOD);
    page.run.update(|run| {
        if !methods.is_empty() {
            run.change_method(MethodConfig::default());
        }
        put_all(run, &settings);
    });
    page.bad.update(|bad| bad.retain(|bad| changes.iter().all(|(key, _)| *key != bad.key)));
}
