//! The figures of the run as curves, with one reader for all of them.

use crate::chart::{self, Line, Size};
use crate::state::Page;
use crate::words::{fill, t};
use attune::curves::{Point, smoothed};
use attune::protocol::{EvalMetrics, StepMetrics};
use leptos::prelude::*;

/// The values of a figure by step.
pub fn points(steps: &[StepMetrics], value: fn(&StepMetrics) -> f64) -> Vec<Point> {
    steps.iter().map(|step| (step.step as f64, value(step))).collect()
}

/// Held-out losses by step.
pub fn held_out(evals: &[EvalMetrics]) -> Vec<Point> {
    evals.iter().map(|eval| (eval.step as f64, eval.eval_loss)).collect()
}

/// Loss and held-out loss, learning rate and gradient norm, and what they are at one step.
#[component]
pub fn Charts(page: Page) -> impl IntoView {
    let is_narrow = chart::narrow();
    // The step that is read; the last one where nobody chose.
    let at = RwSignal::new(None::<usize>);
    let total = move || page.steps.with(|steps| steps.last().map_or(1, |step| step.total_steps));
    let done = move || page.steps.with(|steps| steps.last().map_or(0, |step| step.step));
    let drawn = now_and_then(page);
    let figure = move |title: &'static str, size: Size, lines: fn(Page) -> Vec<Line>| {
        let drawing = move || {
            drawn.track();
            let (is_narrow, at) = (is_narrow.get(), at.get());
            untrack(|| chart::draw(size, is_narrow, total(), &lines(page), at))
        };
        let said = move || {
            drawn.track();
            untrack(|| summary(page, title))
        };
        let follow = move |event: leptos::ev::PointerEvent| {
            at.set(chart::step_at(&event, size, is_narrow.get_untracked(), total()).filter(|_| done() > 0));
        };
        view! {
            <svg class="chart" viewBox=move || chart::view_box(size, is_narrow.get()) role="img"
                aria-label=said on:pointermove=follow on:pointerleave=move |_| at.set(None)
                inner_html=drawing></svg>
        }
    };
    let read = move || read_out(page, at.get());
    view! {
        <section class="card" id="charts" aria-label=t("Curves")>
            <h3>{t("Loss")}</h3>
            <figure>
                {figure("Loss", Size::Main, loss_lines)}
                <figcaption class="legend">
                    <span class="key raw">{t("each step")}</span>
                    <span class="key smooth">{t("smoothed")}</span>
                    <Show when=move || page.evals.with(|evals| !evals.is_empty())>
                        <span class="key held">{t("held out")}</span>
                    </Show>
                </figcaption>
            </figure>
            <div class="columns">
                <figure><figcaption class="hint">{t("Learning rate")}</figcaption>{figure("Learning rate", Size::Small, rate_lines)}</figure>
                <figure><figcaption class="hint">{t("Gradient norm")}</figcaption>{figure("Gradient norm", Size::Small, norm_lines)}</figure>
            </div>
            <Show when=move || { done() > 0 }>
                <div class="reader">
                    <label class="visually-hidden" for="read-step">{t("Step to read")}</label>
                    <input type="range" id="read-step" min="1" max=done prop:value=move || at.get().unwrap_or_else(done)
                        aria-valuetext=read on:input=move |event| at.set(event_target_value(&event).parse().ok()) />
                    <p class="hint" id="read-out">{read}</p>
                </div>
            </Show>
        </section>
    }
}

/// Changes soon after the figures change, but not more often than an eye follows: a tiny model makes a hundred steps
/// a second, and drawing each would keep the page from answering.
fn now_and_then(page: Page) -> RwSignal<()> {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(250);
    let drawn = RwSignal::new(());
    let is_due = StoredValue::new(false);
    Effect::new(move |_| {
        page.steps.track();
        page.evals.track();
        if !is_due.get_value() {
            is_due.set_value(true);
            // The view may be gone by then.
            let draw = move || _ = is_due.try_set_value(false).is_none().then(|| drawn.try_set(()));
            set_timeout(draw, PAUSE);
        }
    });
    drawn
}

fn loss_lines(page: Page) -> Vec<Line> {
    let raw = page.steps.with(|steps| points(steps, |step| step.loss));
    let smooth = Line::new("smooth", smoothed(&raw));
    let held = Line { mark: Some(0), ..Line::new("held", page.evals.with(|evals| held_out(evals))) };
    vec![Line::new("raw", raw), smooth, held]
}

fn rate_lines(page: Page) -> Vec<Line> {
    vec![Line::new("smooth", page.steps.with(|steps| points(steps, |step| step.lr)))]
}

fn norm_lines(page: Page) -> Vec<Line> {
    let raw = page.steps.with(|steps| points(steps, |step| step.grad_norm));
    let smooth = Line::new("smooth", smoothed(&raw));
    vec![Line::new("raw", raw), smooth]
}

/// What a curve says to those who do not see it.
fn summary(page: Page, title: &str) -> String {
    let value = match title {
        "Learning rate" => |step: &StepMetrics| format!("{:.2e}", step.lr),
        "Gradient norm" => |step: &StepMetrics| format!("{:.3}", step.grad_norm),
        _ => |step: &StepMetrics| format!("{:.3}", step.loss),
    };
    page.steps.with(|steps| match (steps.first(), steps.last()) {
        (Some(first), Some(last)) => fill(
            "{what} from {before} at step {first} to {now} at step {last}",
            &[
                ("what", &t(title)),
                ("before", &value(first)),
                ("first", &first.step),
                ("now", &value(last)),
                ("last", &last.step),
            ],
        ),
        _ => fill("{what}; no step yet", &[("what", &t(title))]),
    })
}

/// All figures at the step nearest to `at`.
fn read_out(page: Page, at: Option<usize>) -> String {
    let text = page.steps.with(|steps| {
        let at = at.unwrap_or(usize::MAX);
        let index = steps.partition_point(|step| step.step < at).min(steps.len().saturating_sub(1));
        let step = steps.get(index)?;
        let smooth = smoothed(&points(steps, |step| step.loss)).get(index).map_or(step.loss, |point| point.1);
        let text = fill(
            "Step {step}: loss {loss}, smoothed {smooth}, learning rate {lr}, gradient norm {norm}",
            &[
                ("step", &step.step),
                ("loss", &format!("{:.4}", step.loss)),
                ("smooth", &format!("{smooth:.4}")),
                ("lr", &format!("{:.2e}", step.lr)),
                ("norm", &format!("{:.3}", step.grad_norm)),
            ],
        );
        Some((step.step, text))
    });
    let Some((step, mut text)) = text else { return String::new() };
    let eval = page.evals.with(|evals| evals.iter().rev().find(|eval| eval.step <= step).cloned());
    if let Some(eval) = eval {
        text += &fill(
            "; held-out loss {loss} at step {step}",
            &[("loss", &format!("{:.4}", eval.eval_loss)), ("step", &eval.step)],
        );
    }
    text
}
