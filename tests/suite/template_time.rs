//! A template that writes the day: a run resumed after midnight trains on the rows it began with.

#![allow(clippy::unwrap_used)] // a test may fail

use crate::adapter::model_folder;
use crate::support::device_name;
use attune::config::Run;
use attune::data::Message;
use attune::protocol::{Control, Event};
use attune::session::{self, DataFile, Work};
use attune::store::Store;
use attune::store::memory::MemoryStore;
use attune::store::model_files::ModelFiles;
use attune::tokenizer::{GenerationPrompt, Tokenizer};
use attune::train::Start;
use attune::{Result, native::block_on};

const DATED: &str =
    "{{ strftime_now('%F') }}{% for m in messages %}|{{ m.role }}: {{ m.content }}{% endfor %}<|im_end|>";

fn folder(template: &str) -> MemoryStore {
    model_folder("llama").with("chat_template.jinja", template)
}

fn tokenizer(base: &MemoryStore, out: &MemoryStore, start: Start) -> Result<Tokenizer> {
    block_on(async {
        let mut tokenizer = session::tokenizer_of(&ModelFiles::open(base, "").await?)?;
        session::stop_template_clock(&mut tokenizer, out, start).await?;
        Ok(tokenizer)
    })
}

fn written(tokenizer: &Tokenizer) -> String {
    let message = Message { role: "user".into(), content: "a".into(), weight: 1.0 };
    tokenizer.render_chat(&[message], GenerationPrompt::No).unwrap()
}

/// Trains on two conversations until `n_steps` are done; the steps made.
fn train(base: &MemoryStore, out: &MemoryStore, start: Start, n_steps: usize) -> Result<usize> {
    let tokenizer = tokenizer(base, out, start)?;
    let turns = r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#;
    let file =
        DataFile { name: "x.jsonl".into(), bytes: format!("{{\"messages\":{turns}}}\n").repeat(4).into() };
    let mut run = Run { model: "base".into(), device: device_name(), ..Run::default() };
    (run.data.path, run.train.max_steps, run.train.save_steps) = (Some("x.jsonl".into()), Some(4), 1);
    run.data.loss_on = attune::config::LossOn::All;
    run.train.batch_size = 1;
    let mut done = 0;
    let outcome = block_on(async {
        let files = ModelFiles::open(base, "").await?;
        let rows = session::prepare(&run, &file, None, &tokenizer, &mut |_| Control::Continue)?;
        let work = Work { run: &run, files: &files, tokenizer: &tokenizer, adapter: None, store: out };
        let mut emit = |event| {
            done += usize::from(matches!(event, Event::Step(_)));
            if done < n_steps { Control::Continue } else { Control::Stop }
        };
        session::train(work, rows, start, &mut emit).await
    });
    match outcome {
        Ok(_) | Err(attune::Error::Interrupted(_)) => Ok(done),
        Err(error) => Err(error),
    }
}

#[test]
fn a_resumed_run_writes_the_day_it_began() {
    let (base, out) = (folder(DATED), MemoryStore::new());
    let today = written(&tokenizer(&base, &out, Start::Fresh).unwrap());
    assert!(today.starts_with("20"), "{today}");
    assert!(block_on(out.list("")).unwrap().is_empty(), "nothing is written before the run begins");

    assert_eq!(train(&base, &out, Start::Fresh, 2).unwrap(), 2);
    assert_eq!(written(&tokenizer(&base, &out, Start::Resume).unwrap()), today);
    let saved = block_on(out.read_all("template_time.json", 99)).unwrap();
    // As if the run had begun in 1970.
    block_on(out.write("template_time.json", br#"{"unix_secs":0}"#)).unwrap();
    assert!(written(&tokenizer(&base, &out, Start::Resume).unwrap()).starts_with("1970-01-01|"));
    let error = train(&base, &out, Start::Resume, 4).unwrap_err().to_string();
    assert!(error.contains("data"), "rows of another day are other rows: {error}");
    block_on(out.write("template_time.json", &saved)).unwrap();
    assert_eq!(train(&base, &out, Start::Resume, 4).unwrap(), 2);

    block_on(out.write("template_time.json", b"soon")).unwrap();
    let error = tokenizer(&base, &out, Start::Resume).err().unwrap();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().starts_with("template_time.json: "), "{error}");
}

#[test]
fn a_template_without_a_clock_leaves_no_time() {
    let (base, out) = (folder("{{ messages[0].content }}<|im_end|>"), MemoryStore::new());
    train(&base, &out, Start::Fresh, 1).unwrap();
    assert!(!block_on(out.list("")).unwrap().contains(&"template_time.json".to_owned()));
}
