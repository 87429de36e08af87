//! Training as it goes.

use super::{Busy, Next};
use crate::chart::LossChart;
use crate::client;
use crate::forecast;
use crate::state::{Page, Phase, View};
use crate::units::{count, duration};
use attune::config::Run;
use attune::methods::MethodConfig;
use attune::protocol::{Command, StepMetrics};
use leptos::prelude::*;

#[component]
pub fn Train(page: Page) -> impl IntoView {
    let missing = move || {
        let no_rows = page.data.with(|data| data.as_ref().is_none_or(|data| data.report.n_rows == 0));
        let mut missing = Vec::new();
        if page.model.with(Option::is_none) {
            missing.push("a model");
        }
        if no_rows {
            missing.push("data");
        }
        missing
    };
    let is_stopping = RwSignal::new(false);
    let can_begin =
        Signal::derive(move || page.is_free() && missing().is_empty() && forecast::to_mend(page).is_empty());
    let begin = move |_| {
        // A folder of its own for each run; the time keeps them apart and in order.
        let out = format!("runs/{}", js_sys::Date::now() as u64);
        let run = Run { out, ..page.run.get_untracked() };
        page.forget_run();
        page.is_tuned.set(true);
        is_stopping.set(false);
        page.begun.set(Some(run.clone()));
        page.phase.set(Phase::Training);
        client::work(page, View::Train, Command::Train { run: Box::new(run) });
        client::list(page);
    };
    let resume = move |_| {
        if let Some(run) = page.begun.get_untracked() {
            is_stopping.set(false);
            page.phase.set(Phase::Training);
            client::work(page, View::Train, Command::Resume { run: Box::new(run) });
            client::list(page);
        }
    };
    let keep = move |_| {
        if let Some(run) = page.begun.get_untracked() {
            client::work(page, View::Train, Command::Keep { run: Box::new(run) });
            client::list(page);
        }
    };
    let stop = move |_| {
        is_stopping.set(true);
        client::stop();
    };
    let is_lora = move || {
        page.begun.with(|run| run.as_ref().is_some_and(|run| matches!(run.method, MethodConfig::Lora(_))))
    };
    let when = move |phases: &'static [Phase]| move || phases.contains(&page.phase.get());
    view! {
        <Show when=move || !missing().is_empty()>
            <p class="note">{move || format!("Still missing: {}.", missing().join(" and "))}</p>
        </Show>
        {move || super::tune::mend_first(page)}
        <div class="actions">
            <Show when=when(&[Phase::Idle, Phase::Done])>
                <button class="primary" id="start" disabled=move || !can_begin.get() on:click=begin>
                    {move || if page.phase.get() == Phase::Done { "Start another run" } else { "Start" }}
                </button>
            </Show>
            <Show when=when(&[Phase::Training])>
                <button id="stop" disabled=move || is_stopping.get() on:click=stop>
                    {move || if is_stopping.get() { "Stopping after this step" } else { "Stop" }}
                </button>
            </Show>
            <Show when=when(&[Phase::Stopped])>
                <button class="primary" id="resume" disabled=move || !page.is_free() on:click=resume>"Resume"</button>
                <Show when=is_lora>
                    <button id="keep" disabled=move || !page.is_free() on:click=keep>"Keep what is learned"</button>
                </Show>
                <button disabled=move || !can_begin.get() on:click=begin>"Start over"</button>
            </Show>
        </div>
        <Busy page view=View::Train />
        <Figures page />
        <section class="card" aria-label="Loss">
            <h3>"Loss"</h3>
            <LossChart page />
        </section>
        {move || page.notes.get().into_iter().map(|note| view! { <p class="note">{note}</p> }).collect_view()}
        <super::stored::Runs page />
        <Next page to=View::Try when=Signal::derive(move || page.phase.get() == Phase::Done) />
    }
}

#[component]
fn Figures(page: Page) -> impl IntoView {
    let last = move || page.steps.with(|steps| steps.last().cloned());
    let of = move |write: fn(&StepMetrics) -> String| move || last().as_ref().map_or("–".to_string(), write);
    let left = |step: &StepMetrics| {
        let per_step = step.elapsed_secs / step.step.max(1) as f64;
        duration(per_step * step.total_steps.saturating_sub(step.step) as f64)
    };
    let held_out = move || page.evals.with(|evals| evals.last().map(|eval| format!("{:.4}", eval.eval_loss)));
    view! {
        <dl class="facts big" id="figures">
            <div><dt>"Step"</dt><dd id="step">{of(|step| format!("{} of {}", count(step.step), count(step.total_steps)))}</dd></div>
            <div><dt>"Loss"</dt><dd id="loss">{of(|step| format!("{:.4}", step.loss))}</dd></div>
            <div><dt>"Held-out loss"</dt><dd>{move || held_out().unwrap_or("–".into())}</dd></div>
            <div><dt>"Tokens a second"</dt><dd>{of(|step| count(step.tokens_per_sec as usize))}</dd></div>
            <div><dt>"Learning rate"</dt><dd>{of(|step| format!("{:.2e}", step.lr))}</dd></div>
            <div><dt>"Gradient norm"</dt><dd>{of(|step| format!("{:.3}", step.grad_norm))}</dd></div>
            <div><dt>"Elapsed"</dt><dd>{of(|step| duration(step.elapsed_secs))}</dd></div>
            <div><dt>"Left"</dt><dd>{of(left)}</dd></div>
        </dl>
    }
}
