//! Training as it goes.

use super::charts::Charts;
use super::compare::Compare;
use super::{Busy, Next};
use crate::client;
use crate::forecast;
use crate::state::{Page, Phase, View, Worker};
use crate::units::{bytes, count, duration};
use crate::words::{fill, t};
use attune::config::Run;
use attune::methods::MethodConfig;
use attune::protocol::{Command, Sample, Sign, StepMetrics};
use leptos::prelude::*;
use std::fmt::Display;

#[component]
pub fn Train(page: Page) -> impl IntoView {
    let missing = move || {
        let no_rows = page.data.with(|data| data.as_ref().is_none_or(|data| data.report.n_rows == 0));
        match (page.model.with(Option::is_none), no_rows) {
            (true, true) => Some("Still missing: a model and data."),
            (true, false) => Some("Still missing: a model."),
            (false, true) => Some("Still missing: data."),
            (false, false) => None,
        }
    };
    let is_stopping = RwSignal::new(false);
    let can_begin =
        Signal::derive(move || page.is_free() && missing().is_none() && forecast::to_mend(page).is_empty());
    let go = move |run: Run, command: fn(Box<Run>) -> Command| {
        is_stopping.set(false);
        // What was read of it before is not all of it any more.
        page.figures.update(|figures| figures.retain(|figures| figures.key != run.out));
        page.phase.set(Phase::Training);
        client::work(page, View::Train, command(Box::new(run)));
        client::list(page);
    };
    let begin = move |_| {
        // A folder of its own for each run; the time keeps them apart and in order.
        let out = format!("runs/{}", js_sys::Date::now() as u64);
        let run = Run { out, ..page.run.get_untracked() };
        page.forget_run();
        page.is_tuned.set(true);
        page.begun.set(Some(run.clone()));
        go(run, |run| Command::Train { run });
    };
    let resume = move |_| {
        if let Some(run) = page.begun.get_untracked() {
            go(run, |run| Command::Resume { run });
        }
    };
    let keep = move || {
        if let Some(run) = page.begun.get_untracked() {
            client::work(page, View::Train, Command::Keep { run: Box::new(run) });
            client::list(page);
        }
    };
    let stop = move || {
        is_stopping.set(true);
        client::stop();
    };
    let is_lora = move || {
        page.begun.with(|run| run.as_ref().is_some_and(|run| matches!(run.method, MethodConfig::Lora(_))))
    };
    let when = move |phases: &'static [Phase]| move || phases.contains(&page.phase.get());
    let start = move || t(if page.phase.get() == Phase::Done { "Start another run" } else { "Start" });
    let pause = move || t(if is_stopping.get() { "Stopping after this step" } else { "Pause" });
    view! {
        {move || missing().map(|missing| view! { <p class="note">{t(missing)}</p> })}
        {move || super::tune::mend_first(page)}
        <div class="actions">
            <Show when=when(&[Phase::Idle, Phase::Done])>
                <button class="primary" id="start" disabled=move || !can_begin.get() on:click=begin>{start}</button>
            </Show>
            <Show when=when(&[Phase::Training])>
                <button id="stop" disabled=move || is_stopping.get() on:click=move |_| stop()>{pause}</button>
                <Show when=is_lora>
                    <button id="stop-keep" disabled=move || is_stopping.get() on:click=move |_| { stop(); keep(); }>{t("Stop and keep")}</button>
                </Show>
            </Show>
            <Show when=when(&[Phase::Stopped])>
                <button class="primary" id="resume" disabled=move || !page.is_free() on:click=resume>{t("Resume")}</button>
                <Show when=is_lora>
                    <button id="keep" disabled=move || !page.is_free() on:click=move |_| keep()>{t("Keep what is learned")}</button>
                </Show>
                <button disabled=move || !can_begin.get() on:click=begin>{t("Start over")}</button>
            </Show>
        </div>
        <Show when=when(&[Phase::Idle, Phase::Done])><Prompts page /></Show>
        <Show when=when(&[Phase::Stopped])>
            <p class="hint">{t("Paused at a checkpoint. It can be resumed exactly, now or after the page was closed.")}</p>
        </Show>
        <Busy page view=View::Train />
        <div role="status" class="signs">{move || page.signs.get().iter().map(sign).collect_view()}</div>
        <Figures page />
        <Charts page />
        <Samples page />
        {move || page.notes.get().into_iter().map(|note| view! { <p class="note">{note}</p> }).collect_view()}
        <Compare page />
        <super::stored::Runs page />
        <Next page to=View::Try when=Signal::derive(move || page.phase.get() == Phase::Done) />
    }
}

/// Prompts of one's own, beside those of the rows.
#[component]
fn Prompts(page: Page) -> impl IntoView {
    let text = move || page.run.with(|run| run.train.sample_prompts.join("\n"));
    let change = move |event| {
        let text = event_target_value(&event);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        page.run.update(|run| run.train.sample_prompts = lines.map(str::to_string).collect());
    };
    view! {
        <details class="fold">
            <summary>{t("Prompts to answer on the way")}</summary>
            <label class="hint" for="sample-prompts">{t("One a line. They are answered before the first step and at every evaluation, besides those of the first rows.")}</label>
            <textarea id="sample-prompts" rows="3" prop:value=text on:change=change></textarea>
        </details>
    }
}

/// A sign of trouble in the language in force.
fn sign(sign: &Sign) -> impl IntoView + use<> {
    let values = sign.values();
    let values: Vec<(&str, &dyn Display)> =
        values.iter().map(|(name, value)| (*name, value as &dyn Display)).collect();
    view! { <p class="sign">{fill(sign.sentence(), &values)}</p> }
}

#[component]
fn Figures(page: Page) -> impl IntoView {
    let last = move |write: fn(&StepMetrics) -> String| {
        move || page.steps.with(|steps| steps.last().map_or("–".to_string(), write))
    };
    let left = |step: &StepMetrics| {
        let per_step = step.elapsed_secs / step.step.max(1) as f64;
        duration(per_step * step.total_steps.saturating_sub(step.step) as f64)
    };
    let at = |step: &StepMetrics| {
        fill("{n} of {total}", &[("n", &count(step.step)), ("total", &count(step.total_steps))])
    };
    let held_out = move || {
        page.evals.with(|evals| evals.last().map_or("–".into(), |eval| format!("{:.4}", eval.eval_loss)))
    };
    let is_on_gpu =
        move || page.worker.with(|worker| matches!(worker, Worker::Ready(device) if device.name == "webgpu"));
    let of_what = move || if is_on_gpu() { t("Memory, without the GPU's") } else { t("Memory") };
    let memory = move || page.memory.get().map_or("–".into(), bytes);
    view! {
        <dl class="facts big" id="figures">
            <div><dt>{t("Step")}</dt><dd id="step">{last(at)}</dd></div>
            <div><dt>{t("Loss")}</dt><dd id="loss">{last(|step| format!("{:.4}", step.loss))}</dd></div>
            <div><dt>{t("Held-out loss")}</dt><dd>{held_out}</dd></div>
            <div><dt>{t("Tokens a second")}</dt><dd>{last(|step| count(step.tokens_per_sec as usize))}</dd></div>
            <div><dt>{t("Elapsed")}</dt><dd>{last(|step| duration(step.elapsed_secs))}</dd></div>
            <div><dt>{t("Left")}</dt><dd>{last(left)}</dd></div>
            <div><dt>{of_what}</dt><dd id="memory">{memory}</dd></div>
        </dl>
    }
}

/// The same prompts, answered as training goes; the newest answer first.
#[component]
fn Samples(page: Page) -> impl IntoView {
    let answer = |sample: &Sample| {
        let step =
            if sample.step == 0 { t("before") } else { fill("step {step}", &[("step", &sample.step)]) };
        view! { <div><dt class="hint">{step}</dt><dd>{sample.text.trim().to_string()}</dd></div> }
    };
    let all = move || {
        page.samples.with(|samples| {
            let mut prompts: Vec<&String> = Vec::new();
            for sample in samples {
                if !prompts.contains(&&sample.prompt) {
                    prompts.push(&sample.prompt);
                }
            }
            let of = |prompt: &String| {
                let answers = samples.iter().rev().filter(|sample| sample.prompt == *prompt).map(answer);
                view! { <div class="sample"><p class="prompt">{prompt.clone()}</p><dl>{answers.collect_view()}</dl></div> }
            };
            prompts.into_iter().map(of).collect_view()
        })
    };
    view! {
        <Show when=move || page.samples.with(|samples| !samples.is_empty())>
            <section class="card" id="samples">
                <h3>{t("What it says")}</h3>
                <div class="samples" tabindex="0" role="region" aria-label=t("What it says")>{all}</div>
            </section>
        </Show>
    }
}
