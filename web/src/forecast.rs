//! Asks the worker what the run would need, and what is wrong with its settings, whenever something changes.

use crate::client;
use crate::state::{Page, Phase, View, Worker};
use crate::words::t;
use attune::config::table;
use attune::protocol::Command;
use leptos::prelude::*;
use std::time::Duration;

/// Key of the method, which is no setting of the table.
pub const METHOD: &str = "method.kind";

/// A hand that types or clicks on is not answered in between.
const PAUSE: Duration = Duration::from_millis(120);

/// Keeps the forecast up to date as long as the page lives.
pub fn watch(page: Page) {
    let generation = StoredValue::new(0usize);
    Effect::new(move |_| {
        page.run.track();
        page.model.track();
        page.data.track();
        let is_ready = matches!(page.worker.get(), Worker::Ready(_)) && page.phase.get() != Phase::Training;
        generation.update_value(|n| *n += 1);
        if !is_ready {
            return;
        }
        let asked = generation.get_value();
        let ask = move || {
            if generation.get_value() == asked {
                let run = Box::new(page.run.get_untracked());
                client::quietly(page, View::Tune, Command::Estimate { run, limit_bytes: None });
            }
        };
        set_timeout(ask, PAUSE);
    });
}

/// Labels of the settings that have to be mended before a run; empty where all are right.
pub fn to_mend(page: Page) -> Vec<String> {
    let mut labels: Vec<String> = page.bad.with(|bad| bad.iter().map(|bad| label_of(&bad.key)).collect());
    page.problems.with(|problems| {
        for problem in problems {
            let label = label_of(&problem.key);
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
    });
    labels
}

/// What a form calls the setting of this key.
pub fn label_of(key: &str) -> String {
    if key == METHOD {
        return t("Method");
    }
    let setting = table().find(|setting| setting.key() == key);
    setting.map_or_else(|| key.to_string(), |setting| t(&setting.label()))
}
