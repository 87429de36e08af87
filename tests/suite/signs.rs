//! Early signs of trouble: said of curves that are in trouble, and of no others.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::adapter::model_folder;
use crate::support::device_name;
use attune::config::{DataConfig, Run};
use attune::native::block_on;
use attune::protocol::{Control, EvalMetrics, Event, Sign, SignKind, StepMetrics};
use attune::session::{self, DataFile, Work};
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
use attune::train::{Start, signs};

const SEEDS: u64 = 300;

/// Uniform numbers of [0, 1), the same on every machine (SplitMix64).
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Mean 0, deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn step(step: usize, total_steps: usize, loss: f64, grad_norm: f64) -> Event {
    // Linear warm-up over ten steps, then a line to 0, as the default schedule with warm-up.
    let lr = 2e-4
        * (step as f64 / 10.0)
            .min((total_steps - step) as f64 / total_steps.saturating_sub(10).max(1) as f64);
    let (epoch, n_tokens, tokens_per_sec, elapsed_secs) = (0.0, 100, 10.0, 1.0);
    Event::Step(StepMetrics {
        step,
        total_steps,
        epoch,
        loss,
        lr,
        grad_norm,
        n_tokens,
        tokens_per_sec,
        elapsed_secs,
    })
}

fn eval(step: usize, eval_loss: f64) -> Event {
    let (eval_perplexity, eval_token_accuracy, eval_accuracy, n_targets) = (eval_loss.exp(), 0.5, None, 100);
    Event::Eval(EvalMetrics {
        step,
        eval_loss,
        eval_perplexity,
        eval_token_accuracy,
        eval_accuracy,
        n_targets,
    })
}

fn of(events: &[Event]) -> Vec<Sign> {
    signs(&DataConfig::default(), events)
}

fn kinds(events: &[Event]) -> Vec<SignKind> {
    of(events).into_iter().map(|sign| sign.kind).collect()
}

/// A curve of `n` steps with the loss that `at` gives for the share done, times noise of that deviation.
fn curve(n: usize, seed: u64, deviation: f64, at: impl Fn(f64) -> f64) -> Vec<Event> {
    let mut noise = Noise(seed);
    let loss = |share: f64, noise: &mut Noise| (at(share) * (deviation * noise.normal()).exp()).max(1e-4);
    (1..=n)
        .map(|i| {
            let loss = loss(i as f64 / n as f64, &mut noise);
            step(i, n, loss, 0.5 * (0.4 * noise.normal()).exp())
        })
        .collect()
}

#[test]
fn healthy_noisy_and_short_curves_say_nothing() {
    type Shape = fn(f64) -> f64;
    let shapes: [(&str, Shape); 5] = [
        ("falling", |x| 0.8 + 2.0 * (-4.0 * x).exp()),
        ("learned at once", |x| 0.3 + 3.0 * (-200.0 * x).exp()),
        ("to nothing", |x| 3.0 * (-9.0 * x).exp()),
        ("slowly falling", |x| 2.5 - 0.6 * x),
        // Every epoch of a small data set is a step down.
        ("in steps", |x| [2.2, 1.5, 1.1][((3.0 * x) as usize).min(2)] - 0.3 * (3.0 * x).fract()),
    ];
    for (name, at) in shapes {
        for n in [5, 10, 24, 60, 300, 1500] {
            for deviation in [0.02, 0.1, 0.3, 0.6] {
                for seed in 0..SEEDS {
                    let found = of(&curve(n, seed, deviation, at));
                    assert_eq!(found, [], "{name}, {n} steps, noise {deviation}, seed {seed}");
                }
            }
        }
    }
    // Flat, but too short or too noisy to tell.
    for (n, deviation) in [(10, 0.1), (40, 0.1), (60, 0.3), (100, 0.5)] {
        for seed in 0..SEEDS {
            let found = of(&curve(n, seed, deviation, |_| 2.0));
            assert_eq!(found, [], "flat, {n} steps, noise {deviation}, seed {seed}");
        }
    }
}

#[test]
fn the_golden_curves_say_nothing() {
    let mut n_curves = 0;
    let folder = format!("{}/tests/fixtures/curves", env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path().join("curves.json");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let curves: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        for (name, curve) in &curves {
            let Some(losses) = curve["loss"].as_array() else { continue };
            let norms = curve["grad_norm"].as_array().unwrap();
            let number = |value: &serde_json::Value| value.as_f64().unwrap();
            let pairs = losses.iter().zip(norms).enumerate();
            let events: Vec<_> = pairs
                .map(|(i, (loss, norm))| step(i + 1, losses.len(), number(loss), number(norm)))
                .collect();
            assert_eq!(of(&events), [], "{} {name}", path.display());
            n_curves += 1;
        }
    }
    assert!(n_curves > 5, "{n_curves}");
}

#[test]
fn a_rising_loss_is_said_once_and_early() {
    for seed in 0..SEEDS {
        // Too high a rate, as it mostly looks: down, up, and a plateau above the beginning.
        let events =
            curve(400, seed, 0.1, |x| if x < 0.05 { 2.5 } else { 2.5 + 4.0 * (x - 0.05).min(0.1) / 0.1 });
        let found = of(&events);
        let rising: Vec<_> = found.iter().filter(|sign| sign.kind == SignKind::LossRising).collect();
        assert_eq!(rising.len(), 1, "seed {seed}: {found:?}");
        assert!(rising[0].step < 80 && rising[0].now > rising[0].before, "seed {seed}: {found:?}");
        // At once, in a run of ten steps.
        let short: Vec<_> =
            [2.5, 2.4, 3.0, 2.6, 6.1, 8.0, 7.5, 9.0, 8.8, 9.4].into_iter().enumerate().collect();
        let short: Vec<_> = short.into_iter().map(|(i, loss)| step(i + 1, 10, loss, 1.0)).collect();
        assert_eq!(kinds(&short), [SignKind::LossRising]);
    }
}

#[test]
fn learning_that_is_lost_again_is_said() {
    for seed in 0..SEEDS {
        let events = curve(600, seed, 0.15, |x| match x {
            x if x < 0.5 => 3.0 - 4.0 * x,
            _ => 2.6,
        });
        let found = of(&events);
        assert_eq!(
            found.iter().map(|sign| sign.kind).collect::<Vec<_>>(),
            [SignKind::LearningLost],
            "seed {seed}"
        );
        assert!((280..=310).contains(&found[0].since), "{found:?}");
    }
}

#[test]
fn growing_gradients_are_said_where_the_loss_does_not_fall() {
    let grows = |slope: f64| -> Vec<Event> {
        (1..=60)
            .map(|i| {
                step(i, 60, 2.0 + slope * i as f64, if i > 40 { 1.5_f64.powi(i as i32 - 40) } else { 0.3 })
            })
            .collect()
    };
    assert_eq!(kinds(&grows(0.001)), [SignKind::GradientsGrowing]);
    assert_eq!(kinds(&grows(-0.01)), []);
}

#[test]
fn a_loss_that_stays_where_it_began_is_said_when_a_fall_would_have_shown() {
    for seed in 0..SEEDS {
        let found = of(&curve(800, seed, 0.05, |_| 2.0));
        assert_eq!(
            found.iter().map(|sign| sign.kind).collect::<Vec<_>>(),
            [SignKind::NotLearning],
            "seed {seed}"
        );
        assert!(found[0].to_string().contains("too low"), "{}", found[0]);
    }
}

#[test]
fn overfitting_names_the_best_step() {
    let evaluated = |held_out: &[f64], train: fn(f64) -> f64| {
        let mut events = Vec::new();
        for (i, event) in curve(100, 1, 0.05, train).into_iter().enumerate() {
            events.push(event);
            if (i + 1) % 10 == 0 {
                events.push(eval(i + 1, held_out[i / 10]));
            }
        }
        of(&events)
    };
    let falls = |x: f64| 2.5 * (-3.0 * x).exp();
    let rising = [2.4, 1.9, 1.6, 1.5, 1.53, 1.62, 1.75, 1.9, 2.0, 2.2];
    let found = evaluated(&rising, falls);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].kind, found[0].since, found[0].step), (SignKind::Overfitting, 40, 60));
    assert!(found[0].to_string().starts_with("The held-out loss was lowest at step 40, 1.500, and is 1.620"));
    // Up and down, or flat: nothing to say.
    assert_eq!(evaluated(&[2.4, 1.9, 1.6, 1.5, 1.6, 1.48, 1.55, 1.46, 1.5, 1.45], falls), []);
    assert_eq!(evaluated(&[2.4, 1.9, 1.6, 1.5, 1.51, 1.5, 1.52, 1.51, 1.52, 1.52], falls), []);
}

/// Every event of a run of the tiny Llama.
fn events(change: impl Fn(&mut Run)) -> Vec<Event> {
    let mut run = Run { model: "base".into(), device: device_name(), ..Run::default() };
    run.data.path = Some("rows.jsonl".into());
    run.train.batch_size = 2;
    change(&mut run);
    let row = |i: usize| {
        format!(r#"{{"prompt":"day {i} is ","completion":"{}"}}"#, ["blue", "grey", "white"][i % 3])
    };
    let rows: Vec<String> = (0..16).map(row).collect();
    let rows = DataFile { name: "rows.jsonl".into(), bytes: rows.join("\n").into_bytes() };
    let (base, out) = (model_folder("llama"), MemoryStore::new());
    let mut events = Vec::new();
    let mut emit = |event| {
        events.push(event);
        Control::Continue
    };
    block_on(async {
        let files = ModelFiles::open(&base, "").await.unwrap();
        let tokenizer = session::tokenizer_of(&files).unwrap();
        let rows = session::prepare(&run, &rows, None, &tokenizer, &mut emit).unwrap();
        let work = Work { run: &run, files: &files, tokenizer: &tokenizer, adapter: None, store: &out };
        // A run that ends in infinity has said so by then.
        _ = session::train(work, rows, Start::Fresh, &mut emit).await;
    });
    events
}

#[test]
fn real_runs_say_what_is_the_matter_with_them_while_they_run() {
    let said = |events: &[Event]| -> Vec<SignKind> {
        let kind = |event: &Event| match event {
            Event::Sign(sign) => Some(sign.kind),
            _ => None,
        };
        events.iter().filter_map(kind).collect()
    };
    let healthy = events(|run| {
        run.train.learning_rate = Some(5e-3);
        run.train.max_steps = Some(40);
    });
    assert_eq!(said(&healthy), []);
    // All rows in every batch: nothing moves, and nothing hides that.
    let still = events(|run| {
        run.train.learning_rate = Some(1e-7);
        run.train.batch_size = 16;
        run.train.max_steps = Some(60);
    });
    assert_eq!(said(&still), [SignKind::NotLearning]);
    assert_eq!(said(&still), kinds(&still), "reading a run back shows what it said");
}

#[test]
fn figures_whose_number_of_steps_changes_are_no_trouble() {
    let mut events: Vec<Event> =
        (1..=20).map(|i| step(i, 100, if i <= 12 { 0.5 } else { 2.0 }, 1.0)).collect();
    events.extend((21..=400).map(|i| step(i, 2000, 3.0, 1.0)));
    // Whatever is said of them, it is said.
    kinds(&events);
}
