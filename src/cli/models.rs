//! `attune models list | fetch NAME | info NAME`

use super::progress::{Json, Progress};
use super::{json, paint, required};
use attune::Result;
use attune::native::{self, ModelEntry};
use clap::{Arg, ArgMatches, Command};

/// The arguments of `models`.
pub fn command(command: Command) -> Result<Command> {
    let name = || {
        Arg::new("name")
            .value_name("NAME")
            .required(true)
            .help("An alias, a hub id owner/name[@revision], or a path")
    };
    Ok(command
        .about("List, fetch and describe models")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("List the aliases, and the models in the cache"))
        .subcommand(Command::new("fetch").about("Download a model into the cache").arg(name()))
        .subcommand(Command::new("info").about("Describe a model without fetching it").arg(name())))
}

/// Runs `attune models`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("list", matches)) => list(json(matches)),
        Some(("fetch", matches)) => fetch(required::<String>(matches, "name")?, json(matches)),
        Some(("info", matches)) => {
            show(&native::model_info(required::<String>(matches, "name")?)?, json(matches))
        }
        _ => Ok(()),
    }
}

fn list(json: Json) -> Result<()> {
    for entry in native::list_models()? {
        match json {
            Json::Yes => show(&entry, json)?,
            Json::No => {
                let place = if entry.path.is_some() { "here" } else { "to fetch" };
                let description = entry.description.unwrap_or_default();
                paint::line(
                    format!(
                        "{:<28} {:>8} MB  {place:<8}  {description}",
                        entry.name,
                        megabytes(entry.n_bytes)
                    )
                    .trim_end(),
                );
            }
        }
    }
    Ok(())
}

fn fetch(name: &str, json: Json) -> Result<()> {
    let mut progress = Progress::new(json);
    let (store, key) = native::resolve_model(name, &mut |event| progress.event(&event))?;
    progress.finish();
    let path = store.path(&key)?;
    match json {
        Json::Yes => paint::line(&serde_json::json!({ "name": name, "path": path }).to_string()),
        Json::No => paint::line(&path.display().to_string()),
    }
    Ok(())
}

fn show(entry: &ModelEntry, json: Json) -> Result<()> {
    if json == Json::Yes {
        return paint::json(entry);
    }
    let path = entry.path.as_ref().map_or("not fetched yet".into(), |path| path.display().to_string());
    for (what, text) in [
        ("name", entry.name.clone()),
        ("description", entry.description.clone().unwrap_or_default()),
        ("licence", entry.license.clone().unwrap_or_default()),
        ("size", format!("{} MB", megabytes(entry.n_bytes))),
        ("path", path),
    ] {
        if !text.is_empty() {
            paint::line(&format!("{what:<12} {text}"));
        }
    }
    for file in &entry.files {
        paint::line(&format!(
            "{:<12} {:>8} MB  {}",
            "file",
            megabytes(file.n_bytes),
            paint::printable(&file.name)
        ));
    }
    Ok(())
}

fn megabytes(n_bytes: u64) -> String {
    format!("{:.1}", n_bytes as f64 / 1e6)
}
