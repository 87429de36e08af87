//! Early signs of trouble, found in the figures of a run as they come. A pure function of steps and evaluations:
//! a run that is read back shows the signs that it showed while it ran, each kind once.
//!
//! Losses of single batches are noisy, so means of windows are compared, and a difference counts where it is large
//! for its noise and large in itself. The noise is that between neighbouring steps (von Neumann 1941), which a trend
//! does not inflate. In doubt nothing is said.

use crate::config::DataConfig;
use crate::protocol::{EvalMetrics, Event, Sign, SignKind, StepMetrics};
use std::ops::Range;

/// Standard errors that a difference of two windows has to have. Every step is a test, so this is far out.
const CERTAIN: f64 = 5.0;
/// The same where one of the windows is the lowest of many.
const CHOSEN: f64 = 7.0;
/// Steps after which a long run should have learned something.
const SLOW: usize = 500;
/// Steps whose rise needs no window where each of them is far out.
const JUMP: usize = 4;

/// What is remembered of a run.
pub struct Watch {
    /// Rows in their file's order get harder or easier by themselves.
    is_shuffled: bool,
    losses: Series,
    /// Natural logarithms of the gradient norms.
    norms: Series,
    /// Highest learning rate so far, and the number of steps until it was first reached.
    peak: (f64, usize),
    /// Lowest mean of a window, and the number of steps at its end.
    lowest: (f64, usize),
    evals: Vec<Seen>,
    said: Vec<SignKind>,
}

/// An evaluation and the number of steps before it.
struct Seen {
    step: usize,
    loss: f64,
    n_steps: usize,
}

/// Values with their running sums, so that the mean of any window is one subtraction.
struct Series {
    values: Vec<f64>,
    /// Sum of the first n values.
    sums: Vec<f64>,
    /// Sum of the squared differences between neighbours among the first n values.
    squares: Vec<f64>,
    /// Largest of the first n values.
    largest: Vec<f64>,
}

impl Series {
    fn new() -> Self {
        Self { values: Vec::new(), sums: vec![0.0], squares: vec![0.0], largest: vec![f64::NEG_INFINITY] }
    }

    fn push(&mut self, value: f64) {
        let n = self.values.len();
        let difference = self.values.last().map_or(0.0, |last| value - last);
        self.sums.push(self.sums[n] + value);
        self.squares.push(self.squares[n] + difference * difference);
        self.largest.push(self.largest[n].max(value));
        self.values.push(value);
    }

    fn len(&self) -> usize {
        self.values.len()
    }

    /// Mean of the values from `from` up to `to`; the window must not be empty.
    fn mean(&self, from: usize, to: usize) -> f64 {
        (self.sums[to] - self.sums[from]) / (to - from) as f64
    }

    /// Squared standard error of that mean.
    fn error(&self, from: usize, to: usize) -> f64 {
        let n = (to - from) as f64;
        (self.squares[to] - self.squares[from + 1]) / (2.0 * (n - 1.0).max(1.0)) / n
    }

    /// Standard error of the difference of two windows' means. The noise of a few values is easily underestimated, and
    /// a window chosen for its low mean has little of it: that of the whole run counts at least.
    fn apart(&self, one: Range<usize>, other: Range<usize>) -> f64 {
        let all = self.error(0, self.len()) * self.len() as f64;
        let error = |of: Range<usize>| self.error(of.start, of.end).max(all / of.len() as f64);
        (error(one) + error(other)).sqrt()
    }

    fn lowest_of_last(&self, n: usize) -> f64 {
        self.values.iter().rev().take(n).copied().fold(f64::INFINITY, f64::min)
    }
}

impl Watch {
    /// A watch over a run that has not begun.
    pub fn new(data: &DataConfig) -> Self {
        Self {
            is_shuffled: data.shuffle,
            losses: Series::new(),
            norms: Series::new(),
            peak: (0.0, 0),
            lowest: (f64::INFINITY, 0),
            evals: Vec::new(),
            said: Vec::new(),
        }
    }

    /// Takes in what happened; a sign where one shows for the first time.
    pub fn see(&mut self, event: &Event) -> Option<Sign> {
        let sign = match event {
            Event::Step(step) => self.step(step),
            Event::Eval(eval) => self.eval(eval),
            _ => None,
        }?;
        self.said.push(sign.kind);
        Some(sign)
    }

    fn step(&mut self, metrics: &StepMetrics) -> Option<Sign> {
        self.losses.push(metrics.loss);
        self.norms.push(metrics.grad_norm.max(1e-12).ln());
        let n = self.losses.len();
        // A schedule that falls has rounding in it.
        if metrics.lr > self.peak.0 * (1.0 + 1e-9) {
            self.peak = (metrics.lr, n);
        }
        let window = (metrics.total_steps / 20).clamp(8, 64);
        if n >= window {
            let mean = self.losses.mean(n - window, n);
            if mean < self.lowest.0 {
                self.lowest = (mean, n);
            }
        }
        if !self.is_shuffled {
            return None;
        }
        let found = self.jumped(n).or_else(|| self.rising(n, window)).or_else(|| self.lost(n, window));
        let found = found.or_else(|| self.growing(n)).or_else(|| self.flat(n, metrics.total_steps));
        found.map(|(kind, since, before, now)| self.sign(kind, metrics.step, since, before, now))
    }

    fn sign(&self, kind: SignKind, step: usize, since: usize, before: f64, now: f64) -> Sign {
        Sign { kind, step, since, before, now, lr: self.peak.0 }
    }

    fn is_new(&self, kind: SignKind) -> bool {
        !self.said.contains(&kind)
    }

    /// Every one of the last losses is twice as high as any loss of the first half.
    fn jumped(&self, n: usize) -> Option<Found> {
        if n < 2 * JUMP || !self.is_new(SignKind::LossRising) {
            return None;
        }
        let before = self.losses.largest[n / 2];
        let is_far = self.losses.lowest_of_last(JUMP) > 2.0 * before + 0.5;
        let first = self.losses.mean(0, n / 2);
        is_far.then(|| (SignKind::LossRising, n / 2, first, self.losses.mean(n - JUMP, n)))
    }

    /// The last window is above the first.
    fn rising(&self, n: usize, window: usize) -> Option<Found> {
        if n < 2 * window || !self.is_new(SignKind::LossRising) {
            return None;
        }
        let (first, now) = (self.losses.mean(0, window), self.losses.mean(n - window, n));
        let error = self.losses.apart(0..window, n - window..n);
        let is_rising = now - first > (0.1 * first).max(0.1).max(CERTAIN * error);
        is_rising.then_some((SignKind::LossRising, window, first, now))
    }

    /// Half of what was learned until the best window is gone.
    fn lost(&self, n: usize, window: usize) -> Option<Found> {
        let (best, at) = self.lowest;
        // Figures from elsewhere may change their number of steps half-way, and the window with it.
        if at < window || n < 3 * window || at + window > n || !self.is_new(SignKind::LearningLost) {
            return None;
        }
        let (first, now) = (self.losses.mean(0, window), self.losses.mean(n - window, n));
        let error = self.losses.apart(at - window..at, n - window..n);
        let learned = first - best;
        let is_lost = learned > (0.2 * first).max(0.3)
            && now - best > (0.5 * learned).max(CHOSEN * error)
            && self.is_new(SignKind::LossRising);
        is_lost.then_some((SignKind::LearningLost, at, best, now))
    }

    /// The last gradients are ten times the usual, and the loss is not below what it was.
    fn growing(&self, n: usize) -> Option<Found> {
        if n < 3 * JUMP || !self.is_new(SignKind::GradientsGrowing) {
            return None;
        }
        let usual = self.norms.mean(0, n / 2);
        let is_growing = self.norms.lowest_of_last(JUMP)
            > (usual + 10_f64.ln()).max(self.norms.largest[n / 2])
            && self.losses.mean(n - JUMP, n) > self.losses.mean(0, n / 2);
        let now = self.norms.mean(n - JUMP, n).exp();
        is_growing.then(|| (SignKind::GradientsGrowing, n / 2, usual.exp(), now))
    }

    /// Since the warm-up the loss has stayed the same, and a fall would have shown.
    fn flat(&self, n: usize, total_steps: usize) -> Option<Found> {
        let warm = self.peak.1.saturating_sub(1);
        let third = n.saturating_sub(warm) / 3;
        // A run that has lost what it learned did learn.
        let is_early = n < (total_steps / 2).min(SLOW);
        if third < 16 || is_early || !self.said.is_empty() {
            return None;
        }
        let (first, now) = (self.losses.mean(warm, warm + third), self.losses.mean(n - third, n));
        let error = self.losses.apart(warm..warm + third, n - third..n);
        // Even if it has fallen by as much as its noise may hide.
        let has_stayed = (first - now).max(0.0) + 2.5 * error < 0.03 * first;
        // What is learned in the first steps stays learned: flat after that is how a good run looks.
        let deviation = error * (third as f64 / 2.0).sqrt();
        let began_higher = self.losses.largest[JUMP] > 1.05 * now + 3.0 * deviation;
        let is_flat = first > 0.1 && has_stayed && !began_higher;
        is_flat.then_some((SignKind::NotLearning, warm + third, first, now))
    }

    fn eval(&mut self, metrics: &EvalMetrics) -> Option<Sign> {
        let n = self.losses.len();
        self.evals.push(Seen { step: metrics.step, loss: metrics.eval_loss, n_steps: n });
        let best = self.evals.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))?;
        let [.., before, now] = &self.evals[..] else { return None };
        let above = |seen: &Seen, share: f64| seen.loss - best.loss > (share * best.loss).max(share / 2.0);
        // Two in a row: a held-out set of a few rows goes up and down.
        let is_rising = best.step < before.step && above(before, 0.02) && above(now, 0.05);
        let span = (n - best.n_steps).min(best.n_steps).min(32);
        if !is_rising || span == 0 || !self.is_new(SignKind::Overfitting) {
            return None;
        }
        let then = self.losses.mean(best.n_steps - span, best.n_steps);
        let falls = self.losses.mean(n - span, n) < 0.98 * then;
        falls.then(|| self.sign(SignKind::Overfitting, now.step, best.step, best.loss, now.loss))
    }
}

/// Kind, step compared with, figure then, figure now.
type Found = (SignKind, usize, f64, f64);

/// All signs that a run's figures show, in order.
pub fn signs<'e>(data: &DataConfig, events: impl IntoIterator<Item = &'e Event>) -> Vec<Sign> {
    let mut watch = Watch::new(data);
    events.into_iter().filter_map(|event| watch.see(event)).collect()
}
