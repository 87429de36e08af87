//! `attune eval --model M --data FILE`

use super::progress::{Json, Progress};
use super::{adapter, args, data, json, open, paint, run_file, stop};
use attune::config::{self, Setting};
use attune::protocol::Control;
use attune::session::{self, EvalReport, Place};
use attune::{Error, Result, native};
use clap::{ArgMatches, Command};

const SETTINGS: &[&str] = &[
    "model",
    "adapter",
    "device",
    "precision",
    "weights",
    "data.path",
    "data.shape",
    "data.max_length",
    "data.loss_on",
    "data.skip_bad_rows",
    "train.eval_batch_size",
];

/// The arguments of `eval`.
pub fn command(command: Command) -> Result<Command> {
    let command = command.about("Loss, perplexity and accuracy of a model on rows of text");
    Ok(args::add_flags(command, &settings(), &run_file::defaults()?))
}

/// Runs `attune eval`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let flags = args::given(matches, &settings());
    let run = run_file::assemble(&run_file::Sources { flags, ..run_file::Sources::default() })?;
    let Some(path) = &run.data.path else {
        return Err(Error::input("--data", "not given", "a file of rows to evaluate on"));
    };
    run.data.validate()?;
    run.train.validate()?;
    // Whatever can be wrong on this machine is found before a model is fetched.
    Place::of(&run).open()?;
    let file = data::read_file(path)?;
    let json = json(matches);
    let adapter = run.adapter.as_deref().map(adapter::load).transpose()?;
    // One object is promised; progress would be more.
    let mut progress = Progress::for_people(json);
    let opened = open::model(&run.model, &mut progress)?;
    let files = opened.files()?;
    let tokenizer = session::tokenizer_of(&files)?;
    stop::listen("stopping")?;
    let mut emit = |event| {
        progress.event(&event);
        if stop::requested() { Control::Stop } else { Control::Continue }
    };
    let report = native::block_on(async {
        let model = session::load_model(Place::of(&run), &files, adapter, &mut emit).await?;
        session::evaluate(model, &run, &tokenizer, &file, &mut emit).await
    });
    progress.finish();
    print(&report?, json)
}

fn settings() -> Vec<&'static Setting> {
    config::table().filter(|setting| SETTINGS.contains(&setting.key().as_str())).collect()
}

fn print(report: &EvalReport, json: Json) -> Result<()> {
    if json == Json::Yes {
        return paint::json(report);
    }
    let EvalReport { metrics, n_rows, n_bad_rows } = report;
    let bad = if *n_bad_rows > 0 { format!(", {n_bad_rows} bad ones left out") } else { String::new() };
    paint::line(&format!("rows            {n_rows}{bad}"));
    paint::line(&format!("loss            {:.4}", metrics.eval_loss));
    paint::line(&format!("perplexity      {:.3}", metrics.eval_perplexity));
    paint::line(&format!(
        "token accuracy  {:.1} % of {}",
        100.0 * metrics.eval_token_accuracy,
        metrics.n_targets
    ));
    if let Some(accuracy) = metrics.eval_accuracy {
        paint::line(&format!("accuracy        {:.1} %", 100.0 * accuracy));
    }
    Ok(())
}
