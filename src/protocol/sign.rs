//! Early signs of trouble, in words. What finds them is `train`'s watch.

use serde::{Deserialize, Serialize};

/// Something in a run's figures that its owner should know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sign {
    /// What it is.
    pub kind: SignKind,
    /// Optimizer step at which it showed.
    pub step: usize,
    /// Step of the figure it is compared with.
    pub since: usize,
    /// That figure: a loss in nats, or a gradient norm.
    pub before: f64,
    /// The figure now.
    pub now: f64,
    /// Highest learning rate so far.
    pub lr: f64,
}

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignKind {
    /// The loss is above where it began.
    LossRising,
    /// Half of what the loss had fallen is lost again.
    LearningLost,
    /// Gradients grow, and the loss does not fall.
    GradientsGrowing,
    /// The loss stays where it began.
    NotLearning,
    /// The held-out loss rises and the training loss falls.
    Overfitting,
}

impl Sign {
    /// What it means and what to do, with places `{name}` for [`values`](Self::values): a page has the sentence in
    /// other languages.
    pub fn sentence(&self) -> &'static str {
        match self.kind {
            SignKind::LossRising => {
                "The loss is rising: {before} at first, {now} at step {step}. The learning rate, {lr} at its highest, is \
                 probably too high: stop, and start again with a third of it, or with more warm-up steps."
            }
            SignKind::LearningLost => {
                "The loss had fallen to {before} by step {since} and is back at {now} at step {step}. Updates this large \
                 undo what was learned: start again with a learning rate below {lr}."
            }
            SignKind::GradientsGrowing => {
                "The gradient norm has grown from about {before} to {now} at step {step}, and the loss does not fall. \
                 This often comes before a run diverges: a learning rate below {lr} or more warm-up steps help."
            }
            SignKind::NotLearning => {
                "The loss has hardly changed: {before} at first, {now} at step {step}. Unless the model knows these rows \
                 already, the learning rate, {lr} at its highest, is too low: try ten times as much."
            }
            SignKind::Overfitting => {
                "The held-out loss was lowest at step {since}, {before}, and is {now} at step {step}, while the training \
                 loss falls: the rows are being learned by heart. Stop here; the next run wants fewer epochs or more \
                 rows, and load_best_model_at_end keeps the best step."
            }
        }
    }

    /// What the places of the sentence hold.
    pub fn values(&self) -> [(&'static str, String); 5] {
        [
            ("before", format!("{:.3}", self.before)),
            ("now", format!("{:.3}", self.now)),
            ("step", self.step.to_string()),
            ("since", self.since.to_string()),
            ("lr", format!("{:e}", self.lr)),
        ]
    }
}

impl std::fmt::Display for Sign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fill = |text: String, (name, value): (&str, String)| text.replace(&format!("{{{name}}}"), &value);
        f.write_str(&self.values().into_iter().fold(self.sentence().to_string(), fill))
    }
}
