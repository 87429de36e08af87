//! `attune devices`

use super::progress::Json;
use super::{json, paint};
use attune::{Result, device};
use clap::{ArgMatches, Command};

/// `devices` has no arguments of its own.
pub fn command(command: Command) -> Result<Command> {
    Ok(command.about("List the devices that this build can train on, the best first"))
}

/// Runs `attune devices`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    for info in device::list() {
        match json(matches) {
            Json::Yes => paint::json(&info)?,
            Json::No => paint::line(&format!("{:<10} {}", info.name, paint::printable(&info.description))),
        }
    }
    Ok(())
}
