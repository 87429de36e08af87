//! Several runs in one chart, and the settings that set them apart.

use super::charts::{held_out, points};
use super::stored::name_of;
use crate::chart::{self, Line, Size};
use crate::client;
use crate::state::Page;
use crate::words::t;
use attune::config::differences;
use attune::curves::smoothed;
use attune::protocol::StoredRun;
use leptos::prelude::*;

/// More lines than this cannot be told apart.
pub const MOST: usize = 6;

/// The ticked runs.
#[component]
pub fn Compare(page: Page) -> impl IntoView {
    let is_narrow = chart::narrow();
    // The run at hand has its figures here already; those of others are read when they are ticked.
    let asked = StoredValue::new(Vec::<String>::new());
    Effect::new(move || {
        let open = page.begun.with(|run| run.as_ref().map(|run| run.out.clone()));
        let known = |key: &String| page.figures.with(|all| all.iter().any(|figures| figures.key == *key));
        asked.update_value(|asked| asked.retain(|key| !known(key)));
        for key in page.ticked.get() {
            if Some(&key) != open.as_ref() && !known(&key) && !asked.with_value(|asked| asked.contains(&key))
            {
                client::figures(&key);
                asked.update_value(|asked| asked.push(key));
            }
        }
    });
    let runs = move || -> Vec<StoredRun> {
        let ticked = page.ticked.get();
        page.stored
            .with(|stored| stored.runs.iter().filter(|run| ticked.contains(&run.run.out)).cloned().collect())
    };
    let drawing = move || {
        let mut lines = Vec::new();
        let mut last_step = 1;
        for (index, stored) in runs().iter().enumerate() {
            let is_open = page.begun.with(|run| run.as_ref().is_some_and(|run| run.out == stored.run.out));
            let (steps, evals) = if is_open {
                (page.steps.get(), page.evals.get())
            } else {
                let of = |all: &Vec<attune::protocol::Figures>| {
                    all.iter().find(|figures| figures.key == stored.run.out).cloned().unwrap_or_default()
                };
                let figures = page.figures.with(of);
                (figures.steps, figures.evals)
            };
            last_step = last_step.max(steps.last().map_or(1, |step| step.step));
            let loss = smoothed(&points(&steps, |step| step.loss));
            let label = short(stored, index);
            lines.push(Line { label, ..Line::new(&format!("run c{index}"), loss) });
            let held = Line::new(&format!("run held c{index}"), held_out(&evals));
            lines.push(Line { mark: Some(index), ..held });
        }
        chart::draw(Size::Main, is_narrow.get(), last_step, &lines, None)
    };
    let key = |(index, stored): (usize, StoredRun)| {
        let swatch = format!(
            r#"<path class="line run c{index}" d="M0 6H36"/><path class="mark run held c{index}" d="{}"/>"#,
            chart::mark(index, 18.0, 6.0)
        );
        let name = format!("{}: {}", short(&stored, index), name_of(&stored));
        view! { <li><svg viewBox="0 0 36 12" aria-hidden="true" inner_html=swatch></svg>{name}</li> }
    };
    let table = move || {
        let runs = runs();
        let settings: Vec<_> = runs.iter().map(|stored| &stored.run).collect();
        let found = differences(&settings).unwrap_or_default();
        if found.is_empty() {
            return view! { <p class="hint">{t("These runs have the same settings.")}</p> }.into_any();
        }
        let head = runs.iter().enumerate().map(|(index, stored)| {
            view! { <th scope="col">{short(stored, index)}</th> }
        });
        let row = |difference: attune::config::Difference| {
            let value = |value: Option<String>| view! { <td>{value.unwrap_or("–".into())}</td> };
            view! { <tr><th scope="row"><code>{difference.key}</code></th>{difference.values.into_iter().map(value).collect_view()}</tr> }
        };
        view! {
            <div class="wide" tabindex="0" role="region" aria-label=t("Settings that differ")>
                <table class="files" id="differences">
                    <thead><tr><th scope="col">{t("Settings that differ")}</th>{head.collect_view()}</tr></thead>
                    <tbody>{found.into_iter().map(row).collect_view()}</tbody>
                </table>
            </div>
        }
        .into_any()
    };
    view! {
        <Show when=move || { runs().len() > 1 }>
            <section class="card" id="compare">
                <h3>{t("Runs compared")}</h3>
                <svg class="chart" viewBox=move || chart::view_box(Size::Main, is_narrow.get()) role="img"
                    aria-label=t("Losses of the ticked runs by step") inner_html=drawing></svg>
                <p class="hint">{t("Lines are the smoothed loss, marks the held-out loss.")}</p>
                <ul class="keys">{move || runs().into_iter().enumerate().map(key).collect_view()}</ul>
                {table}
            </section>
        </Show>
    }
}

/// What a run is called where there is room for a sign only.
fn short(stored: &StoredRun, index: usize) -> String {
    if stored.number > 0 {
        stored.number.to_string()
    } else {
        ["a", "b", "c", "d", "e", "f"][index % MOST].into()
    }
}
