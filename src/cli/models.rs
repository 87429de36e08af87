//! `attune models list | fetch NAME | info NAME`

use super::progress::{Json, Progress};
use super::{json, open, paint, required};
use attune::models::ModelDescription;
use attune::native::{self, ModelEntry};
use attune::store::model_files::ModelFiles;
use attune::{Error, Result};
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
        .subcommand(Command::new("info").about("Describe a model without fetching its weights").arg(name())))
}

/// Runs `attune models`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("list", matches)) => list(json(matches)),
        Some(("fetch", matches)) => fetch(required::<String>(matches, "name")?, json(matches)),
        Some(("info", matches)) => info(required::<String>(matches, "name")?, json(matches)),
        _ => Ok(()),
    }
}

fn list(json: Json) -> Result<()> {
    for entry in native::list_models()? {
        match json {
            Json::Yes => paint::json(&entry)?,
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
    let path = open::model(name, &mut progress)?.path()?;
    match json {
        Json::Yes => paint::line(&serde_json::json!({ "name": name, "path": path }).to_string()),
        Json::No => paint::line(&path.display().to_string()),
    }
    Ok(())
}

/// A model's entry in the list, and what its files tell.
#[derive(serde::Serialize)]
struct Info {
    #[serde(flatten)]
    entry: ModelEntry,
    #[serde(flatten)]
    description: Option<ModelDescription>,
    is_supported: Option<bool>,
}

fn info(name: &str, json: Json) -> Result<()> {
    let mut progress = Progress::for_people(json);
    let entry = native::model_info(name, &mut |event| progress.event(&event))?;
    progress.finish();
    let description = describe(&entry)?;
    let is_supported = description.as_ref().map(ModelDescription::is_loadable);
    let info = Info { entry, description, is_supported };
    match json {
        Json::Yes => paint::json(&info)?,
        Json::No => show(&info),
    }
    Ok(())
}

/// What the files tell; nothing where there are none yet.
fn describe(entry: &ModelEntry) -> Result<Option<ModelDescription>> {
    let Some(path) = &entry.path else {
        return entry.config.as_ref().map(ModelDescription::of_config).transpose();
    };
    let (store, key) = native::local_model(path)?;
    match native::block_on(ModelFiles::open(&store, &key)) {
        Ok(files) => ModelDescription::of(&files).map(Some),
        // A GGUF file of an architecture whose settings are not even known.
        Err(error @ Error::Unsupported { .. }) => {
            Ok(Some(ModelDescription { problem: Some(error.to_string()), ..ModelDescription::default() }))
        }
        Err(error) => Err(error),
    }
}

fn show(Info { entry, description, .. }: &Info) {
    let line = |what: &str, text: &str| {
        if !text.is_empty() {
            paint::line(&format!("{what:<14} {}", paint::printable(text)));
        }
    };
    let path = entry.path.as_ref().map_or("not fetched yet".into(), |path| path.display().to_string());
    line("name", &entry.name);
    line("description", entry.description.as_deref().unwrap_or_default());
    line("licence", entry.license.as_deref().unwrap_or_default());
    line("size", &format!("{} MB", megabytes(entry.n_bytes)));
    line("path", &path);
    if let Some(description) = description {
        let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
        let millions = |n: u64| format!("{:.1} million", n as f64 / 1e6);
        line("architecture", description.architecture.as_deref().unwrap_or_default());
        line("parameters", &description.n_params.map_or(String::new(), millions));
        line("stored as", &description.stored.join(", "));
        line("context", &number(description.context_length));
        let yes_or_no = |yes: bool| if yes { "yes" } else { "no" };
        line("chat template", description.has_chat_template.map_or("", yes_or_no));
        line(
            "supported",
            &description.problem.as_ref().map_or("yes".into(), |problem| format!("no: {problem}")),
        );
    }
    for file in &entry.files {
        line("file", &format!("{:>8} MB  {}", megabytes(file.n_bytes), file.name));
    }
}

fn megabytes(n_bytes: u64) -> String {
    format!("{:.1}", n_bytes as f64 / 1e6)
}
