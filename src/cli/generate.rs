//! `attune generate --model M [--adapter DIR] --prompt TEXT`

use super::paint::{Paint, Style};
use super::progress::{Json, Progress};
use super::{adapter, args, json, open, paint, run_file, stop};
use attune::config::{self, Run, Setting};
use attune::generate::{GenerateConfig, Generated, generate, generate_all};
use attune::models::{CausalLm, Pass};
use attune::protocol::Control;
use attune::session::{self, Place};
use attune::tokenizer::{AddSpecial, Tokenizer};
use attune::{Error, Result, native};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::io::Write;

const SETTINGS: &[&str] = &["model", "adapter", "device", "precision", "weights", "seed"];

/// Where the settings of sampling would stand in a run file.
const SECTION: &str = "generate";

/// The arguments of `generate`.
pub fn command(command: Command) -> Result<Command> {
    let command = command.about("Continue a text, or several together").arg(
        Arg::new("prompt").long("prompt").value_name("TEXT").required(true).action(ArgAction::Append).help(
            "The text to continue; \\n is a line break, \\\\ a backslash; several are continued together",
        ),
    );
    sampling(command)
}

/// The flags of a model and of sampling.
pub fn sampling(mut command: Command) -> Result<Command> {
    command = args::add_flags(command, &settings(), &run_file::defaults()?);
    let defaults = toml::Table::try_from(GenerateConfig::default())
        .map_err(|error| Error::Internal(format!("settings: {error}")))?;
    let defaults = toml::Table::from_iter([(SECTION.to_string(), toml::Value::Table(defaults))]);
    Ok(args::add_flags(command, &sampling_settings(), &defaults))
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
    /// Loads what the arguments name. `on_stop` says what the first Ctrl-C does.
    pub fn open(matches: &ArgMatches, json: Json, on_stop: &'static str) -> Result<Self> {
        let config = config_of(matches)?;
        let flags = args::given(matches, &settings());
        let run: Run = run_file::assemble(&run_file::Sources { flags, ..run_file::Sources::default() })?;
        // Whatever can be wrong on this machine is found before a model is fetched.
        Place::of(&run).open()?;
        let adapter = run.adapter.as_deref().map(adapter::load).transpose()?;
        let mut progress = Progress::for_people(json);
        let opened = open::model(&run.model, &mut progress)?;
        let files = opened.files()?;
        let tokenizer = session::tokenizer_of(&files)?;
        let mut emit = |event| {
            progress.event(&event);
            Control::Continue
        };
        let model = native::block_on(session::load_model(Place::of(&run), &files, adapter, &mut emit))?;
        progress.finish();
        stop::listen(on_stop)?;
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

    /// Continues several prompts together.
    fn speak_all(&self, prompts: &[Vec<u32>]) -> Result<Vec<Generated>> {
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let mut go_on = |_, _: &str| if stop::requested() { Control::Stop } else { Control::Continue };
        native::block_on(generate_all(
            &self.model,
            &self.tokenizer,
            &prompts,
            &self.config,
            self.seed,
            Pass::INFERENCE,
            &mut go_on,
        ))
    }
}

/// Runs `attune generate`. Several prompts are answered in their order, in JSON a line each.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let json = json(matches);
    let prompts: Vec<String> = matches
        .get_many::<String>("prompt")
        .into_iter()
        .flatten()
        .map(|prompt| args::unescaped(prompt))
        .collect();
    let speaker = Speaker::open(matches, json, "stopping")?;
    let encode = |prompt: &String| speaker.tokenizer.encode(prompt, AddSpecial::Yes);
    let ids = prompts.iter().map(encode).collect::<Result<Vec<_>>>()?;
    if let [ids] = &ids[..] {
        let generated = speaker.speak(ids, json)?;
        return match json {
            Json::Yes => paint::json(&generated),
            Json::No => {
                paint::line("");
                Ok(())
            }
        };
    }
    for (prompt, generated) in prompts.iter().zip(speaker.speak_all(&ids)?) {
        match json {
            Json::Yes => paint::json(&generated)?,
            Json::No => {
                paint::line(&format!("{}{}\n", Paint::stdout().apply(Style::Bold, prompt), generated.text))
            }
        }
    }
    Ok(())
}

fn settings() -> Vec<&'static Setting> {
    config::table().filter(|setting| SETTINGS.contains(&setting.key().as_str())).collect()
}

fn sampling_settings() -> Vec<&'static Setting> {
    GenerateConfig::SETTINGS.iter().collect()
}

fn config_of(matches: &ArgMatches) -> Result<GenerateConfig> {
    let given = args::given(matches, &sampling_settings());
    let table: toml::Table =
        given.into_iter().map(|given| (given.setting.name.to_string(), given.value)).collect();
    // Each flag has checked the type of its own value.
    let config: GenerateConfig =
        table.try_into().map_err(|error: toml::de::Error| Error::Internal(error.to_string()))?;
    config.validate()?;
    Ok(config)
}
