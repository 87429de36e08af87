//! `attune generate --model M [--adapter DIR] --prompt TEXT`

use super::progress::{Json, Progress};
use super::{adapter, args, json, open, paint, required, run_file, stop};
use attune::config::{self, Run, Setting};
use attune::generate::{GenerateConfig, Generated, generate};
use attune::models::{CausalLm, Pass};
use attune::protocol::Control;
use attune::tokenizer::{AddSpecial, Tokenizer};
use attune::{Error, Result, native, session};
use clap::{Arg, ArgMatches, Command};
use std::io::Write;

const SETTINGS: &[&str] = &["model", "adapter", "device", "seed"];

/// The arguments of `generate`.
pub fn command(command: Command) -> Result<Command> {
    let command = command.about("Continue a text").arg(
        Arg::new("prompt")
            .long("prompt")
            .value_name("TEXT")
            .required(true)
            .help("The text to continue; \\n is a line break"),
    );
    sampling(command)
}

/// The flags of a model and of sampling.
pub fn sampling(mut command: Command) -> Result<Command> {
    command = args::add_flags(command, &settings(), &run_file::defaults()?);
    for setting in GenerateConfig::SETTINGS {
        let help = format!("{} [default: {}]", setting.doc, setting.default);
        command = command.arg(Arg::new(setting.name).long(setting.flag()).value_name("VALUE").help(help));
    }
    Ok(command)
}

/// A model ready to speak, and how.
pub struct Speaker {
    /// The model.
    pub model: CausalLm,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Sampling.
    pub config: GenerateConfig,
    seed: u64,
}

impl Speaker {
    /// Loads what the arguments name.
    pub fn open(matches: &ArgMatches, json: Json) -> Result<Self> {
        let config = config_of(matches)?;
        let flags = args::given(matches, &settings());
        let run: Run = run_file::assemble(&run_file::Sources { flags, ..run_file::Sources::default() })?;
        let mut progress = Progress::for_people(json);
        let opened = open::model(&run.model, &mut progress)?;
        let files = opened.files()?;
        let tokenizer = session::tokenizer_of(&files)?;
        let adapter = run.adapter.as_deref().map(adapter::load).transpose()?;
        let mut emit = |event| {
            progress.event(&event);
            Control::Continue
        };
        let model = native::block_on(session::load_model(&run.device, &files, adapter, &mut emit))?;
        progress.finish();
        stop::listen()?;
        Ok(Self { model, tokenizer, config, seed: run.seed })
    }

    /// Continues `prompt`, showing the text as it comes where `json` leaves standard output to people.
    pub fn speak(&self, prompt: &[u32], json: Json) -> Result<Generated> {
        let mut show = |piece: &str| {
            if json == Json::No {
                let mut out = std::io::stdout().lock();
                // A closed pipe wants no more text.
                if write!(out, "{piece}").and_then(|()| out.flush()).is_err() {
                    return Control::Stop;
                }
            }
            if stop::requested() { Control::Stop } else { Control::Continue }
        };
        native::block_on(generate(
            &self.model,
            &self.tokenizer,
            prompt,
            &self.config,
            self.seed,
            Pass::INFERENCE,
            &mut show,
        ))
    }
}

/// Runs `attune generate`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let json = json(matches);
    let prompt = required::<String>(matches, "prompt")?.replace("\\n", "\n");
    let speaker = Speaker::open(matches, json)?;
    let ids = speaker.tokenizer.encode(&prompt, AddSpecial::Yes)?;
    let generated = speaker.speak(&ids, json)?;
    match json {
        Json::Yes => paint::line(
            &serde_json::to_string(&generated).map_err(|error| Error::Internal(error.to_string()))?,
        ),
        Json::No => paint::line(""),
    }
    Ok(())
}

fn settings() -> Vec<&'static Setting> {
    config::table().filter(|setting| SETTINGS.contains(&setting.key().as_str())).collect()
}

/// Sampling settings from their flags; each value is read as its setting's type.
fn config_of(matches: &ArgMatches) -> Result<GenerateConfig> {
    let mut table = toml::Table::new();
    for setting in GenerateConfig::SETTINGS {
        let Some(value) = matches.get_one::<String>(setting.name) else { continue };
        if setting.kind.starts_with("Vec") {
            let list = value.replace("\\n", "\n");
            table.insert(setting.name.into(), toml::Value::Array(vec![toml::Value::String(list)]));
        } else {
            config::apply_override(&mut table, setting.name, value)?;
            // Whole numbers are welcome where the setting has decimals.
            if let (true, Some(toml::Value::Integer(n))) = (setting.kind == "f64", table.get(setting.name)) {
                table.insert(setting.name.into(), toml::Value::Float(*n as f64));
            }
        }
    }
    let config: GenerateConfig = table.try_into().map_err(|error: toml::de::Error| {
        Error::input(
            "sampling flags",
            error.message().to_string(),
            "the types `attune generate --help` states",
        )
    })?;
    config.validate()?;
    Ok(config)
}
