//! `attune chat --model M [--adapter DIR]`: a conversation on the terminal.

use super::generate::{Speaker, sampling};
use super::progress::Json;
use super::{json, paint, stop};
use attune::data::Message;
use attune::generate::FinishReason;
use attune::tokenizer::{AddSpecial, GenerationPrompt};
use attune::{Error, Result};
use clap::{Arg, ArgMatches, Command};
use std::io::{BufRead, Write};

/// The arguments of `chat`.
pub fn command(command: Command) -> Result<Command> {
    let command = command
        .about("Talk with a model, line by line; an empty line or end of input ends it, /new begins anew")
        .arg(Arg::new("system").long("system").value_name("TEXT").help("The system message"));
    sampling(command)
}

/// Runs `attune chat`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let json = json(matches);
    let speaker = Speaker::open(matches, json, "stopping this answer")?;
    if !speaker.tokenizer.has_chat_template() {
        return Err(Error::input(
            "--model",
            "this model has no chat template",
            "a chat model; `attune generate` continues plain text",
        ));
    }
    let system = matches.get_one::<String>("system").map(|text| message("system", text));
    let mut messages: Vec<Message> = system.iter().cloned().collect();
    let stdin = std::io::stdin();
    let mut lines = stdin.lock().lines();
    loop {
        if json == Json::No {
            eprint!("> ");
            _ = std::io::stderr().flush();
        }
        stop::rest();
        let line = lines.next();
        stop::work();
        let Some(line) = line else { return Ok(()) };
        let line = line.map_err(|source| Error::io("read", "standard input", source))?;
        match line.trim() {
            "" => return Ok(()),
            "/new" => {
                messages = system.iter().cloned().collect();
                continue;
            }
            text => messages.push(message("user", text)),
        }
        let prompt = speaker.tokenizer.render_chat(&messages, GenerationPrompt::Yes)?;
        // The template writes the special tokens itself.
        let ids = speaker.tokenizer.encode(&prompt, AddSpecial::No)?;
        let answer = speaker.speak(&ids, json)?;
        match json {
            Json::Yes => paint::json(&answer)?,
            Json::No => paint::line(""),
        }
        // Where nobody asked for the end, nobody listens any more.
        if answer.finish_reason == FinishReason::Interrupted && !stop::requested() {
            return Ok(());
        }
        messages.push(message("assistant", &answer.text));
    }
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.into(), content: content.into(), weight: 1.0 }
}
