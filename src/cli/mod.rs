//! Arguments → [`attune::config::Run`] → session → events shown. One file a subcommand.

mod adapter;
mod args;
mod bench;
mod caught;
mod chat;
mod data;
mod devices;
mod eval;
mod export;
mod generate;
mod models;
mod open;
mod paint;
mod progress;
mod run_file;
mod stop;
mod train;

use attune::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use paint::{Paint, Style};
use progress::Json;
use std::process::ExitCode;

/// A subcommand: what it is called, its arguments, and what it does.
struct Subcommand {
    name: &'static str,
    command: fn(Command) -> Result<Command>,
    run: fn(&ArgMatches) -> Result<()>,
}

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "train", command: train::command, run: train::run },
    Subcommand { name: "eval", command: eval::command, run: eval::run },
    Subcommand { name: "generate", command: generate::command, run: generate::run },
    Subcommand { name: "chat", command: chat::command, run: chat::run },
    Subcommand { name: "export", command: export::command, run: export::run },
    Subcommand { name: "models", command: models::command, run: models::run },
    Subcommand { name: "data", command: data::command, run: data::run },
    Subcommand { name: "devices", command: devices::command, run: devices::run },
    Subcommand { name: "bench-step", command: bench::step_command, run: bench::run_step },
    Subcommand { name: "bench-generate", command: bench::generate_command, run: bench::run_generate },
];

/// Runs the command line. Exit code 0: done; 1: failed; 2: wrong usage or bad input.
pub fn run() -> ExitCode {
    caught::install_hook();
    attune::native::keep_freed_memory();
    attune::native::share_this_thread();
    match caught::caught(dispatch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let word = Paint::stderr().apply(Style::Red, "error:");
            eprintln!("{word} {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch() -> Result<()> {
    command().and_then(|command| {
        // Exits with 2 and the usage where the arguments are wrong.
        let matches = command.get_matches();
        let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
        match SUBCOMMANDS.iter().find(|subcommand| subcommand.name == name) {
            Some(subcommand) => (subcommand.run)(matches),
            None => Ok(()),
        }
    })
}

fn command() -> Result<Command> {
    let mut command = Command::new("attune")
        .about("Fine-tunes small language models where the data is")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("json")
                .long("json")
                .global(true)
                .action(ArgAction::SetTrue)
                .help("Print JSON, one object a line, and nothing else on standard output"),
        );
    for subcommand in SUBCOMMANDS {
        command = command.subcommand((subcommand.command)(Command::new(subcommand.name))?);
    }
    Ok(command)
}

fn json(matches: &ArgMatches) -> Json {
    if matches.get_flag("json") { Json::Yes } else { Json::No }
}

/// An argument that clap has made sure of: it is required or has a default.
fn required<'m, T: Clone + Send + Sync + 'static>(matches: &'m ArgMatches, name: &str) -> Result<&'m T> {
    matches.get_one(name).ok_or_else(|| attune::Error::Internal(format!("argument {name} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_every_subcommand_are_consistent() {
        command().unwrap().debug_assert();
    }

    /// Scripts and books name these.
    #[test]
    fn training_has_the_flags_that_were_promised() {
        let command = command().unwrap();
        let train = command.find_subcommand("train").unwrap();
        let flags: Vec<&str> = train.get_arguments().filter_map(Arg::get_long).collect();
        for flag in "model data method out set resume learning-rate lr-scheduler warmup-ratio max-steps epochs \
                     batch-size gradient-accumulation-steps max-length weight-decay max-grad-norm seed no-shuffle \
                     rank alpha dropout target-modules eval-data device skip-bad-rows"
            .split_whitespace()
        {
            assert!(flags.contains(&flag), "--{flag} is not among {flags:?}");
        }
    }
}
