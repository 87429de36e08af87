//! Stopped, killed, damaged and resumed runs against runs that were not.

use super::*;

#[test]
fn resumed_equals_uninterrupted_bit_for_bit_with_every_optimizer() {
    use OptimizerKind::{Adafactor, Adamw, Lion, Muon, Sgd};
    for optimizer in [Adamw, Adafactor, Lion, Muon, Sgd] {
        let train =
            TrainConfig { optimizer, learning_rate: Some(0.02), eval_steps: 2, save_steps: 4, ..config() };
        let mut run = Run { seed: DROPOUT_SEED, ..run(train) };
        run.data.shuffle = true;
        let held_out = held_out(rows(), 2);
        let whole = MemoryStore::new();
        let expected = train_until(&run, &whole, Start::Fresh, 0, Some(&held_out));
        let summary = expected.result.unwrap();
        for stop_at in 1..6 {
            let store = MemoryStore::new();
            let stopped = train_until(&run, &store, Start::Fresh, stop_at, Some(&held_out));
            assert!(matches!(stopped.result, Err(Error::Interrupted(_))), "{:?}", stopped.result);
            let resumed = train_until(&run, &store, Start::Resume, 0, Some(&held_out));
            let first = resumed.events.iter().find_map(|event| match event {
                Event::Step(m) => Some(m.step),
                _ => None,
            });
            assert_eq!(first, Some(stop_at + 1));
            assert_eq!(metrics(&store), metrics(&whole), "{optimizer:?}, stopped after {stop_at}");
            assert_eq!(resumed.values, expected.values, "{optimizer:?}, stopped after {stop_at}");
            let resumed = resumed.result.unwrap();
            assert_eq!((resumed.train_loss, resumed.best_eval), (summary.train_loss, summary.best_eval));
        }
    }
}

#[test]
fn a_killed_run_makes_the_steps_since_its_checkpoint_again() {
    let run = Run { seed: DROPOUT_SEED, ..run(TrainConfig { save_steps: 2, ..config() }) };
    let whole = MemoryStore::new();
    let expected = train_until(&run, &whole, Start::Fresh, 0, None);
    // Killed after step 5: the newest checkpoint is of step 4, the metrics have a line too many and a torn one.
    let store = MemoryStore::new();
    _ = train_until(&run, &store, Start::Fresh, 5, None).result;
    let newest = checkpoints(&store).pop().unwrap();
    assert!(newest.contains("-00000005-"), "{newest}");
    ready(store.remove(&newest)).unwrap();
    ready(store.append(METRICS_KEY, b"{\"event\":\"step\",")).unwrap();
    ready(store.append("checkpoint.tmp.partial", b"torn")).unwrap();
    let resumed = train_until(&run, &store, Start::Resume, 0, None);
    assert_eq!(metrics(&store), metrics(&whole));
    assert_eq!(resumed.values, expected.values);
    assert_eq!(steps_of(&checkpoints(&store)), ["00000004", "00000006"]);
}

#[test]
fn a_damaged_checkpoint_is_skipped_with_a_note_and_costs_only_steps() {
    let run = run(TrainConfig { save_steps: 2, ..config() });
    let whole = MemoryStore::new();
    let expected = train_until(&run, &whole, Start::Fresh, 0, None);
    for damage in ["a flipped bit", "a torn end"] {
        let store = MemoryStore::new();
        _ = train_until(&run, &store, Start::Fresh, 4, None).result;
        let newest = checkpoints(&store).pop().unwrap();
        let mut bytes = ready(store.read_all(&newest, 1 << 20)).unwrap();
        let last = bytes.len() - 1;
        if damage == "a flipped bit" {
            bytes[last] ^= 1
        } else {
            bytes.truncate(last)
        }
        ready(store.write(&newest, &bytes)).unwrap();
        let resumed = train_until(&run, &store, Start::Resume, 0, None);
        let note = resumed.events.iter().find_map(|event| match event {
            Event::Note { message } => Some(message),
            _ => None,
        });
        assert!(note.is_some_and(|note| note.contains(&newest)), "{damage}: {note:?}");
        assert_eq!(metrics(&store), metrics(&whole), "{damage}");
        assert_eq!(resumed.values, expected.values, "{damage}");
    }
}

#[test]
fn where_every_checkpoint_is_damaged_the_run_does_not_begin_anew() {
    let store = MemoryStore::new();
    _ = train_until(&run(config()), &store, Start::Fresh, 2, None).result;
    for key in checkpoints(&store) {
        ready(store.write(&key, b"junk")).unwrap();
    }
    let before = metrics(&store);
    assert!(train_until(&run(config()), &store, Start::Resume, 0, None).result.is_err());
    assert_eq!(metrics(&store), before);
}

#[test]
fn other_settings_are_refused_by_name_and_free_ones_are_not() {
    let store = MemoryStore::new();
    _ = train_until(&run(config()), &store, Start::Fresh, 2, None).result;
    let other = Run { seed: 7, ..run(TrainConfig { learning_rate: None, max_steps: Some(9), ..config() }) };
    let error = train_until(&other, &store, Start::Resume, 0, None).result.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    for part in [
        "seed: 7 now",
        "train.learning_rate: unset now, but the run to resume; expected 0.1",
        "train.max_steps: 9 now",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let free = Run {
        out: "elsewhere".into(),
        device: "cpu".into(),
        ..run(TrainConfig { tensorboard: true, ..config() })
    };
    train_until(&free, &store, Start::Resume, 0, None).result.unwrap();
}

/// A store whose owner is killed, or whose disk is full, after a number of changes.
struct Failing<'s> {
    inner: &'s MemoryStore,
    changes_left: std::cell::Cell<usize>,
}

impl Failing<'_> {
    fn change(&self) -> Result<()> {
        let left = self.changes_left.get();
        self.changes_left.set(left.saturating_sub(1));
        if left == 0 {
            Err(Error::io("write", "disk", std::io::ErrorKind::StorageFull.into()))
        } else {
            Ok(())
        }
    }
}

impl Store for Failing<'_> {
    async fn size(&self, key: &str) -> Result<Option<u64>> {
        self.inner.size(key).await
    }
    async fn read(&self, key: &str, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        self.inner.read(key, range).await
    }
    async fn write(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.change()?;
        self.inner.write(key, bytes).await
    }
    async fn append(&self, key: &str, bytes: &[u8]) -> Result<()> {
        if self.change().is_err() {
            // An append may be cut short.
            self.inner.append(key, &bytes[..bytes.len() / 2]).await?;
            return Err(Error::io("write", "disk", std::io::ErrorKind::StorageFull.into()));
        }
        self.inner.append(key, bytes).await
    }
    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.change()?;
        self.inner.rename(from, to).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.list(prefix).await
    }
    async fn remove(&self, key: &str) -> Result<()> {
        self.change()?;
        self.inner.remove(key).await
    }
}

/// Every write of a run is once the last one before it is killed.
fn kill_at_every_write(run: &Run, held_out: &HeldOut) {
    let whole = MemoryStore::new();
    let expected = train_until(run, &whole, Start::Fresh, 0, Some(held_out));
    let mut n_killed = 0;
    loop {
        let store = MemoryStore::new();
        let failing = Failing { inner: &store, changes_left: n_killed.into() };
        let killed = train_until(run, &failing, Start::Fresh, 0, Some(held_out));
        if killed.result.is_ok() {
            break;
        }
        let bests = ready(store.list(BEST)).unwrap();
        let resumed = train_until(run, &store, Start::Resume, 0, Some(held_out));
        assert_eq!(metrics(&store), metrics(&whole), "killed at change {n_killed}");
        assert_eq!(resumed.values, expected.values, "killed at change {n_killed}");
        let lost = resumed.events.iter().find(|event| match event {
            Event::Note { message } => message.contains("cannot be read"),
            _ => false,
        });
        assert_eq!(lost, None, "killed at change {n_killed}, with {bests:?}");
        let (resumed, expected) = (resumed.result.unwrap(), expected.result.as_ref().unwrap());
        assert_eq!((resumed.best_eval, resumed.steps), (expected.best_eval, expected.steps));
        assert_eq!(steps_of(&checkpoints(&store)), steps_of(&checkpoints(&whole)));
        n_killed += 1;
    }
    assert!(n_killed > 25, "only {n_killed} changes were interrupted");
}

#[test]
fn a_run_killed_at_any_write_and_resumed_equals_one_that_was_not() {
    let train = TrainConfig { eval_steps: 2, save_steps: 3, early_stopping_patience: 9, ..config() };
    kill_at_every_write(&Run { seed: DROPOUT_SEED, ..run(train) }, &held_out(rows(), 2));
}

/// A run that stops early: its held-out rows are unlike the training rows.
fn stopping_early() -> (Run, HeldOut) {
    let train = TrainConfig {
        eval_steps: 1,
        save_steps: 2,
        early_stopping_patience: 3,
        warmup_steps: 0,
        epochs: 4.0,
        ..config()
    };
    (run(train), held_out(vec![encoded(vec![0; 6])], 1))
}

#[test]
fn a_run_that_stops_early_is_killed_at_any_write_without_loss_of_its_best() {
    let (run, held_out) = stopping_early();
    kill_at_every_write(&run, &held_out);
}

#[test]
fn a_damaged_best_costs_the_best_weights_and_not_the_run() {
    let (run, held_out) = stopping_early();
    let store = MemoryStore::new();
    let summary = train_until(&run, &store, Start::Fresh, 0, Some(&held_out)).result.unwrap();
    for key in ready(store.list(BEST)).unwrap() {
        ready(store.write(&key, b"junk")).unwrap();
    }
    let resumed = train_until(&run, &store, Start::Resume, 0, Some(&held_out));
    assert_eq!(resumed.result.unwrap().steps, summary.steps);
    let is_told =
        |event: &Event| matches!(event, Event::Note { message } if message.contains("cannot be read"));
    assert!(resumed.events.iter().any(is_told), "{:?}", resumed.events);
}

#[test]
fn other_rows_are_refused_even_where_they_make_as_many_batches() {
    let (run, held_out_rows) = stopping_early();
    let store = MemoryStore::new();
    _ = train_until(&run, &store, Start::Fresh, 2, Some(&held_out_rows)).result;
    let others = held_out(vec![encoded(vec![1; 6])], 1);
    let error = train_until(&run, &store, Start::Resume, 0, Some(&others)).result.unwrap_err();
    assert!(error.to_string().starts_with("data: the rows"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn the_best_weights_are_the_result_where_the_settings_say_so() {
    let (mut run, held_out) = stopping_early();
    run.train.early_stopping_patience = 0;
    let last = train_until(&run, &MemoryStore::new(), Start::Fresh, 0, Some(&held_out));
    run.train.load_best_model_at_end = true;
    let best = train_until(&run, &MemoryStore::new(), Start::Fresh, 0, Some(&held_out));
    assert_ne!(best.values, last.values);
    let (step, _) = best.result.unwrap().best_eval.unwrap();
    assert_eq!(
        best.values,
        train_until(&run, &MemoryStore::new(), Start::Fresh, step, Some(&held_out)).values
    );
}
