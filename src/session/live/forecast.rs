//! What a run would need, and whether its settings are right, asked before it begins.

use super::{Opened, Rows, Session, Tell};
use crate::config::Run;
use crate::device;
use crate::estimate::{Kernels, Known, Rate, RowSize, estimate, flop_per_token};
use crate::ops;
use crate::protocol::{Estimate, RateFrom, SettingProblem, StepMetrics, Update};
use crate::store::Store;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Where the store keeps how fast its devices were: operations a second by device name.
const SPEEDS_KEY: &str = "speeds.json";
/// The file is ours; anything larger is not.
const TEXT_LIMIT: u64 = 1 << 16;
/// The first step of a run pays for what later ones find ready.
const WARM_UP_STEPS: usize = 1;

impl<S: Store> Session<S> {
    /// Problems of the settings, and an estimate where there are none and a model is opened.
    pub(super) async fn forecast(
        &mut self,
        run: Run,
        limit_bytes: Option<u64>,
        tell: Tell<'_>,
    ) -> Result<()> {
        let mut problems = problems_of(&run);
        let mut estimated = None;
        if problems.is_empty() && self.model.is_some() {
            let rate = self.rate().await;
            if let (Some(opened), rows) = (&self.model, self.data.as_ref()) {
                let known = self.known(opened, rows, rate, limit_bytes);
                match estimate(known, &run) {
                    Ok(found) => estimated = Some(found),
                    Err(error) => problems = setting_problems(error),
                }
            }
        }
        let estimate = estimated.map(Box::<Estimate>::new);
        tell(Update::Estimated { problems, estimate });
        Ok(())
    }

    fn known<'a>(
        &self,
        opened: &'a Opened,
        rows: Option<&'a Rows>,
        rate: Option<Rate>,
        limit_bytes: Option<u64>,
    ) -> Known<'a> {
        Known {
            spec: &opened.spec,
            rows: rows.map_or(&[], |rows| &rows.sizes),
            held_out: None,
            held: Some(opened.held),
            kernels: Kernels::of(&self.device),
            rate,
            limit_bytes: limit_bytes.or_else(|| device::memory_limit(&self.device)),
        }
    }

    /// How fast the device is: as earlier steps were, else as a product is.
    async fn rate(&mut self) -> Option<Rate> {
        if self.rate.is_none() {
            let speeds = self.speeds().await;
            self.rate = match speeds.get(&self.device) {
                Some(&flop_per_sec) => Some(Rate { flop_per_sec, from: RateFrom::Steps }),
                // Without a rate there is no time, and nothing else is lost.
                None => match device::open(&self.device) {
                    Ok(device) => ops::product_rate(&device).await.ok().map(Rate::of_product),
                    Err(_) => None,
                },
            };
        }
        self.rate
    }

    async fn speeds(&self) -> BTreeMap<String, f64> {
        let bytes = self.store.read_all(SPEEDS_KEY, TEXT_LIMIT).await.unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Learns from a run's steps how fast the device is.
    pub(super) async fn learn_rate(&mut self, run: &Run, steps: &[StepMetrics]) {
        let mut rates: Vec<f64> = steps.iter().skip(WARM_UP_STEPS).map(|step| step.tokens_per_sec).collect();
        rates.sort_by(f64::total_cmp);
        let Some(&median) = rates.get(rates.len() / 2) else { return };
        let Some(opened) = &self.model else { return };
        let known = self.known(opened, self.data.as_ref(), None, None);
        let Ok(Some(flop_per_token)) = flop_per_token(known, run) else { return };
        let flop_per_sec = median * flop_per_token;
        self.rate = Some(Rate { flop_per_sec, from: RateFrom::Steps });
        let mut speeds = self.speeds().await;
        speeds.insert(self.device.clone(), flop_per_sec);
        if let Ok(json) = serde_json::to_vec(&speeds) {
            // A figure for the next visit: a full store has worse things to say.
            _ = self.store.write(SPEEDS_KEY, &json).await;
        }
    }
}

/// Sizes of the rows of a file.
pub(super) fn sizes(rows: &[crate::data::Encoded]) -> Vec<RowSize> {
    rows.iter().map(RowSize::of).collect()
}

/// Settings out of range. Model and rows are the session's own, whatever the run says of them.
fn problems_of(run: &Run) -> Vec<SettingProblem> {
    let mut run = Run { model: "opened".into(), ..run.clone() };
    run.data.path = Some("read".into());
    run.validate().err().map_or(Vec::new(), setting_problems)
}

fn setting_problems(error: Error) -> Vec<SettingProblem> {
    match error {
        Error::Inputs(several) => several.into_iter().flat_map(setting_problems).collect(),
        Error::Input { place, problem, expected } => {
            vec![SettingProblem { key: place, found: problem, expected }]
        }
        // What a method asks for and this model cannot give.
        other => {
            let (key, expected) = ("method.kind".into(), "a method that this model can be trained by".into());
            vec![SettingProblem { key, found: other.to_string(), expected }]
        }
    }
}
