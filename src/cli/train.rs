//! `attune train [RUN.toml] [--SETTING VALUE …]`

use super::progress::{Json, Progress};
use super::{adapter, args, data, json, open, paint, run_file, stop};
use attune::config::{self, Run, Setting};
use attune::native::{self, FileStore, FolderLock};
use attune::protocol::Control;
use attune::session::{self, Place, RUN_FILE};
use attune::train::Start;
use attune::{Error, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::path::Path;

/// The arguments of `train`: a flag for every setting.
pub fn command(command: Command) -> Result<Command> {
    let command =
        command
            .about("Fine-tune a model on rows of text")
            .long_about(
                "Fine-tune a model on rows of text.\n\n\
             Settings come from the run file, then from flags, then from --set; the later win. \
             The settings in force are saved as run.toml in the run's folder.",
            )
            .arg(Arg::new("run-file").value_name("RUN.toml").help("Run file; flags win over what it says"))
            .arg(Arg::new("set").long("set").value_name("KEY=VALUE").action(ArgAction::Append).help(
                "Any setting by its name in the run file, as train.learning_rate=1e-4; wins over flags",
            ))
            .arg(
                Arg::new("resume").long("resume").action(ArgAction::SetTrue).help(
                    "Go on from the newest checkpoint in the run's folder, with the settings saved there",
                ),
            )
            .arg(
                Arg::new("print-config")
                    .long("print-config")
                    .action(ArgAction::SetTrue)
                    .help("Print the run file in force and stop"),
            )
            .arg(args::method_flag());
    Ok(args::add_flags(command, &settings(), &run_file::defaults()?))
}

/// Runs `attune train`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let run = assemble(matches)?;
    if matches.get_flag("print-config") {
        return print_config(&run, json(matches));
    }
    run.validate()?;
    // Whatever can be wrong on this machine is found before a model is fetched.
    Place::of(&run).open()?;
    let Some(data) = run.data.path.as_deref().map(data::read_file).transpose()? else {
        return Err(Error::input("data.path", "not given", "a file of training rows"));
    };
    let held_out = run.data.eval_path.as_deref().map(data::read_file).transpose()?;
    let adapter = run.adapter.as_deref().map(adapter::load).transpose()?;
    let out = FileStore::new(&run.out);
    let _lock = FolderLock::acquire(out.root())?;
    let start = if matches.get_flag("resume") { Start::Resume } else { Start::Fresh };
    let mut progress = Progress::new(json(matches));
    let opened = open::model(&run.model, &mut progress)?;
    let files = opened.files()?;
    let mut tokenizer = session::tokenizer_of(&files)?;
    native::block_on(session::stop_template_clock(&mut tokenizer, &out, start))?;
    stop::listen("stopping after this step and saving")?;
    let mut emit = |event| {
        progress.event(&event);
        if stop::requested() { Control::Stop } else { Control::Continue }
    };
    let outcome = session::prepare(&run, &data, held_out.as_ref(), &tokenizer, &mut emit).and_then(|rows| {
        let work = session::Work { run: &run, files: &files, tokenizer: &tokenizer, adapter, store: &out };
        native::block_on(session::train(work, rows, start, &mut emit))
    });
    progress.finish();
    outcome.map(|_| ())
}

fn print_config(run: &Run, json: Json) -> Result<()> {
    match json {
        Json::Yes => paint::json(run)?,
        Json::No => paint::line(run.to_toml()?.trim_end()),
    }
    Ok(())
}

fn settings() -> Vec<&'static Setting> {
    config::table().collect()
}

fn assemble(matches: &ArgMatches) -> Result<Run> {
    let flags = args::given(matches, &settings());
    let named = matches.get_one::<String>("run-file").cloned();
    let file = match named.or_else(|| saved_run_file(matches, &flags)) {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(&path).map_err(|source| Error::io("read", &path, source))?;
            Some((path, text))
        }
    };
    run_file::assemble(&run_file::Sources {
        file: file.as_ref().map(|(path, text)| (path.as_str(), text.as_str())),
        method: matches.get_one::<String>("method").map(String::as_str),
        flags,
        overrides: matches.get_many::<String>("set").into_iter().flatten().map(String::as_str).collect(),
    })
}

/// `--resume --out DIR` alone is enough: the run's folder holds its settings.
fn saved_run_file(matches: &ArgMatches, flags: &[args::Given]) -> Option<String> {
    if !matches.get_flag("resume") {
        return None;
    }
    let out = flags.iter().find(|given| given.setting.key() == "out").and_then(|given| given.value.as_str());
    let path = Path::new(out.unwrap_or(&Run::default().out)).join(RUN_FILE);
    path.exists().then(|| path.display().to_string())
}
