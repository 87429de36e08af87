//! Whole runs in the browser's private files: checkpoints, and going on from them.

use crate::tiny_llama;
use attune::config::{DataConfig, GenerateConfig, Run};
use attune::protocol::{Command, Control, Event, Parcel, Prompt, Update, Voice};
use attune::session::Session;
use attune::store::{Store, zip};
use attune::{Error, Result};
use attune_worker::Opfs;
use wasm_bindgen_test::wasm_bindgen_test;

const MODEL: &str = "models/tiny";
const ROWS: &str = "data/rows.jsonl";
const STEPS: usize = 6;

/// A session that remembers nothing of earlier ones but what the store holds, with model and rows opened.
async fn visit() -> Session<Opfs> {
    let store = Opfs::open().await.unwrap();
    for (name, bytes) in tiny_llama() {
        store.write(&format!("{MODEL}/{name}"), bytes).await.unwrap();
    }
    let rows: Vec<String> = (0..8).map(|i| format!(r#"{{"prompt":"a{i}","completion":" b{i}"}}"#)).collect();
    store.write(ROWS, rows.join("\n").as_bytes()).await.unwrap();
    let mut session = Session::new(store, "cpu");
    told(&mut session, Command::OpenModel { key: MODEL.into(), name: "tiny".into() }, None).await.1.unwrap();
    let read = Command::ReadData {
        key: ROWS.into(),
        name: "rows.jsonl".into(),
        settings: DataConfig::default(),
        seed: 0,
    };
    told(&mut session, read, None).await.1.unwrap();
    session
}

/// Everything told until the command ends; `stop_at` asks to stop at that step.
async fn told(
    session: &mut Session<Opfs>,
    command: Command,
    stop_at: Option<usize>,
) -> (Vec<Update>, Result<()>) {
    let mut updates = Vec::new();
    let outcome = session
        .handle(command, &mut |update| {
            let stop = matches!(&update, Update::Event(Event::Step(step)) if Some(step.step) == stop_at);
            updates.push(update);
            if stop { Control::Stop } else { Control::Continue }
        })
        .await;
    (updates, outcome)
}

async fn ok(session: &mut Session<Opfs>, command: Command) -> Vec<Update> {
    let (updates, outcome) = told(session, command, None).await;
    outcome.unwrap();
    updates
}

fn run(out: &str) -> Box<Run> {
    let mut run = Run { out: out.into(), ..Run::default() };
    run.train.max_steps = Some(STEPS);
    run.train.batch_size = 2;
    run.train.save_steps = 2;
    run.train.learning_rate = Some(1e-2);
    Box::new(run)
}

fn losses(updates: &[Update]) -> Vec<f64> {
    let loss = |update: &Update| match update {
        Update::Event(Event::Step(step)) => Some(step.loss),
        _ => None,
    };
    updates.iter().filter_map(loss).collect()
}

async fn said(session: &mut Session<Opfs>, voice: Voice) -> String {
    let sampling = GenerateConfig { max_new_tokens: 4, ..GenerateConfig::default() };
    let prompt = Prompt::Text("a1".into());
    let updates = ok(session, Command::Generate { prompt, voice, sampling, seed: 0 }).await;
    let piece = |update: &Update| match update {
        Update::Text { piece } => Some(piece.clone()),
        _ => None,
    };
    updates.iter().filter_map(piece).collect()
}

#[wasm_bindgen_test]
async fn a_run_goes_on_from_its_checkpoint_in_private_files_to_the_same_end() {
    let mut session = visit().await;
    let whole = losses(&ok(&mut session, Command::Train { run: run("runs/whole") }).await);
    assert_eq!(whole.len(), STEPS);
    let (first, outcome) = told(&mut session, Command::Train { run: run("runs/parts") }, Some(3)).await;
    assert!(matches!(outcome, Err(Error::Interrupted(_))), "{outcome:?}");
    drop(session);

    let mut later = visit().await;
    let listed = ok(&mut later, Command::List).await;
    let [Update::Stored(stored)] = &listed[..] else { panic!("{listed:?}") };
    let cut = stored.runs.iter().find(|run| run.run.out == "runs/parts").unwrap();
    assert!(cut.has_checkpoint && !cut.is_done);
    let rest = ok(&mut later, Command::Resume { run: Box::new(cut.run.clone()) }).await;
    assert_eq!([losses(&first), losses(&rest)].concat(), whole);
    let adapter = async |run: &str| {
        later.store().read_all(&format!("runs/{run}/adapter_model.safetensors"), 1 << 30).await.unwrap()
    };
    assert!(adapter("parts").await == adapter("whole").await);
}

#[wasm_bindgen_test]
async fn what_is_taken_home_comes_back_in_another_visit() {
    let mut session = visit().await;
    ok(&mut session, Command::Train { run: run("runs/home") }).await;
    let answer = said(&mut session, Voice::Tuned).await;
    ok(&mut session, Command::Pack { parcel: Parcel::Run }).await;
    let bytes = session.store().read_all("runs/home/run.zip", 1 << 30).await.unwrap();
    drop(session);

    let mut later = visit().await;
    later.store().write("runs/back/run.zip", &bytes).await.unwrap();
    let updates = ok(&mut later, Command::BringBack { folder: "runs/back".into() }).await;
    let returned = updates.iter().find_map(|update| match update {
        Update::Returned(returned) => Some(returned),
        _ => None,
    });
    let returned = returned.unwrap();
    assert_eq!(
        returned.run.as_ref().and_then(|run| run.last_step.as_ref()).map(|step| step.step),
        Some(STEPS)
    );
    assert_eq!(said(&mut later, Voice::Tuned).await, answer);
}

#[wasm_bindgen_test]
async fn the_merged_model_says_by_itself_what_the_adapter_says() {
    let mut session = visit().await;
    ok(&mut session, Command::Train { run: run("runs/merged") }).await;
    let answer = said(&mut session, Voice::Tuned).await;
    ok(&mut session, Command::Pack { parcel: Parcel::Merged }).await;
    let (archive, store) = ("runs/merged/merged.zip", session.store());
    let members = zip::members(store, archive, 1 << 30).await.unwrap();
    for member in &members {
        zip::extract(store, archive, member, &format!("models/merged/{}", member.name)).await.unwrap();
    }
    let left = store.list("runs/merged/merged").await.unwrap();
    assert_eq!(left, [archive]);
    let open = Command::OpenModel { key: "models/merged".into(), name: "merged".into() };
    ok(&mut session, open).await;
    assert_eq!(said(&mut session, Voice::Base).await, answer);
}
