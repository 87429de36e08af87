//! `attune train [RUN.toml] [--SETTING VALUE …]`

use super::{args, paint, run_file};
use attune::config::{self, Run, Setting};
use attune::{Error, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};

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
        paint::line(run.to_toml()?.trim_end());
        return Ok(());
    }
    run.validate()
}

fn settings() -> Vec<&'static Setting> {
    config::table().collect()
}

fn assemble(matches: &ArgMatches) -> Result<Run> {
    let file = match matches.get_one::<String>("run-file") {
        None => None,
        Some(path) => Some((
            path.as_str(),
            std::fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?,
        )),
    };
    run_file::assemble(&run_file::Sources {
        file: file.as_ref().map(|(path, text)| (*path, text.as_str())),
        method: matches.get_one::<String>("method").map(String::as_str),
        flags: args::given(matches, &settings()),
        overrides: matches.get_many::<String>("set").into_iter().flatten().map(String::as_str).collect(),
    })
}
