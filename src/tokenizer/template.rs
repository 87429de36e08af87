//! Chat templates: Jinja in a sandbox that equals transformers' (`utils/chat_template_utils.py`).
//!
//! The environment holds no loader, so a template reaches no file. Fuel bounds its steps and its
//! memory, and the sizes of source and output are bounded too. `{% generation %}` blocks, transformers'
//! extension, mark what the assistant wrote: they become filter blocks that enclose their text in two
//! noncharacters, which are taken out again after rendering.

use super::python;
use crate::data::Message;
use crate::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value};
use regex::Regex;
use std::collections::BTreeMap;
use std::ops::Range;

/// Longest template source in bytes; the longest in use are around 20 kB.
const MAX_SOURCE: usize = 1 << 20;
/// Longest rendered text in bytes.
const MAX_OUTPUT: usize = 64 << 20;
/// Steps; each also pays for 64 bytes of data, so this bounds memory to 256 MiB.
const FUEL: u64 = 4 << 20;
const BEGIN: char = '\u{FDD0}';
const END: char = '\u{FDD1}';
const PLACE: &str = "chat template";

/// Whether the text ends with the opening of an assistant's turn, for the model to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationPrompt {
    /// `add_generation_prompt=True`.
    Yes,
    /// `add_generation_prompt=False`.
    No,
}

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text, special tokens included.
    pub text: String,
    /// Bytes of the text inside `{% generation %}`; `None` where the template has no such block.
    pub generated: Option<Vec<Range<usize>>>,
}

/// A compiled chat template.
pub(super) struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    special: BTreeMap<&'static str, String>,
    marks_generation: bool,
    /// Seconds of Unix at which `strftime_now` stands still.
    time: Option<u64>,
}

impl ChatTemplate {
    /// Compiles a template. `special` are the tokens it may write, by HF's name.
    pub fn new<'a>(source: &str, special: impl Iterator<Item = (&'static str, &'a str)>) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            return Err(Error::input(
                PLACE,
                format!("{} bytes", source.len()),
                format!("at most {MAX_SOURCE} bytes"),
            ));
        }
        let block = Regex::new(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")
            .map_err(|e| Error::Internal(format!("pattern of generation blocks: {e}")))?;
        let marks_generation = block.is_match(source);
        let marked = block.replace_all(source, |found: &regex::Captures| {
            let tag = if found.get(2).is_some() { "endfilter" } else { "filter generation" };
            format!("{}{tag}{}", &found[1], &found[3])
        });
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(|e| Error::Internal(format!("template syntax: {e}")))?);
        env.set_fuel(Some(FUEL));
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_filter("tojson", python::tojson);
        env.add_filter("generation", |body: &str| format!("{BEGIN}{body}{END}"));
        env.add_function("strftime_now", |format: &str| python::strftime(format, python::now()));
        env.add_function("raise_exception", |message: String| {
            Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        env.add_template_owned("chat", marked.into_owned()).map_err(|e| template_error(&e))?;
        let special = special.map(|(name, token)| (name, token.to_string())).collect();
        Ok(Self { env, source: source.to_string(), special, marks_generation, time: None })
    }

    /// Makes `strftime_now` stand still, at `unix_secs` or at the present, if the template calls it.
    pub fn stop_clock(&mut self, unix_secs: Option<u64>) {
        if self.source.contains("strftime_now") {
            let time = unix_secs.unwrap_or_else(python::now);
            self.time = Some(time);
            self.env.add_function("strftime_now", move |format: &str| python::strftime(format, time));
        }
    }

    /// Where it stands still, that time.
    pub fn time(&self) -> Option<u64> {
        self.time
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a conversation.
    pub fn render(&self, messages: &[Message], prompt: GenerationPrompt) -> Result<Rendered> {
        if self.marks_generation && messages.iter().any(|m| m.content.contains([BEGIN, END])) {
            return Err(Error::input(
                "message",
                "U+FDD0 or U+FDD1, which are no characters",
                "text without them",
            ));
        }
        let turns = messages.iter().map(|m| Value::from(Serde(Turn { role: &m.role, content: &m.content })));
        let mut context: BTreeMap<&str, Value> = BTreeMap::from([
            ("messages", turns.collect()),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(prompt == GenerationPrompt::Yes)),
        ]);
        context.extend(self.special.iter().map(|(&name, token)| (name, Value::from(token.as_str()))));
        let template = self.env.get_template("chat").map_err(|e| template_error(&e))?;
        let text = template.render(Value::from(context)).map_err(|e| template_error(&e))?;
        if text.len() > MAX_OUTPUT {
            let problem = format!("rendered {} bytes", text.len());
            return Err(Error::input(PLACE, problem, format!("at most {MAX_OUTPUT} bytes")));
        }
        Ok(if self.marks_generation { take_marks(&text) } else { Rendered { text, generated: None } })
    }
}

/// A message as a template sees it.
#[derive(serde::Serialize)]
struct Turn<'a> {
    role: &'a str,
    content: &'a str,
}

/// Takes the marks out of a rendered text; nested blocks count as their outermost.
fn take_marks(marked: &str) -> Rendered {
    let mut text = String::with_capacity(marked.len());
    let (mut spans, mut open) = (Vec::new(), Vec::new());
    for c in marked.chars() {
        match c {
            BEGIN => open.push(text.len()),
            END => {
                if let (Some(from), true) = (open.pop(), open.is_empty()) {
                    spans.push(from..text.len());
                }
            }
            c => text.push(c),
        }
    }
    Rendered { text, generated: Some(spans) }
}

fn template_error(e: &minijinja::Error) -> Error {
    let place = e.line().map_or_else(|| PLACE.to_string(), |line| format!("{PLACE}, line {line}"));
    let detail = e.detail().map_or_else(|| e.kind().to_string(), |detail| format!("{}: {detail}", e.kind()));
    match e.kind() {
        ErrorKind::OutOfFuel => Error::input(
            place,
            format!("did not end within {FUEL} steps"),
            "a template that ends, and a conversation it can write in that many steps",
        ),
        // The template's own word on the conversation: alternating roles, no system message …
        ErrorKind::InvalidOperation => Error::input(place, detail, "a conversation the template accepts"),
        _ => Error::input(place, detail, "a Jinja template as transformers accepts"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into(), weight: 1.0 }
    }

    fn render(source: &str, messages: &[Message]) -> Result<Rendered> {
        let special = [("bos_token", "<s>"), ("eos_token", "</s>")];
        ChatTemplate::new(source, special.into_iter())?.render(messages, GenerationPrompt::No)
    }

    #[test]
    fn templates_that_do_not_end_or_grow_are_stopped() {
        for source in [
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
            "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
            "{{ 'x' * 10000000000 }}",
        ] {
            let error = render(source, &[]).unwrap_err();
            assert!(matches!(error, Error::Input { .. }), "{source}: {error}");
        }
        let loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
        assert!(render(loops, &[]).unwrap_err().to_string().contains("did not end within"));
        let large = "x".repeat(MAX_SOURCE + 1);
        assert!(render(&large, &[]).unwrap_err().to_string().contains("at most"));
    }

    #[test]
    fn templates_reach_no_files_and_broken_ones_name_the_line() {
        for source in ["{% include '/etc/passwd' %}", "{% extends 'x' %}", "{{ open('/etc/passwd') }}"] {
            assert!(render(source, &[]).is_err(), "{source}");
        }
        let error = render("a\n{% if %}", &[]).unwrap_err().to_string();
        assert!(error.starts_with("chat template, line 2"), "{error}");
        let error = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err().to_string();
        assert!(error.contains("roles must alternate"), "{error}");
    }

    #[test]
    fn generation_blocks_become_spans() {
        let source = "{% for m in messages %}\n{% if m.role == 'assistant' %}\n{%- generation -%}\n  [{{ m.content }}]\n{%- endgeneration -%}\n{% else %}({{ m.content }}){% endif %}\n{% endfor %}";
        let rendered = render(source, &[message("user", "é"), message("assistant", "yes")]).unwrap();
        let spans = rendered.generated.unwrap();
        assert_eq!(spans.iter().map(|s| &rendered.text[s.clone()]).collect::<Vec<_>>(), ["[yes]"]);
        assert!(!rendered.text.contains([BEGIN, END]));
        let forged = render(source, &[message("assistant", "\u{FDD0}")]);
        assert!(forged.unwrap_err().to_string().contains("U+FDD0"));
        assert_eq!(render("x", &[]).unwrap().generated, None);
    }

    // Expected values: transformers 5.23, apply_chat_template with the same template.
    #[test]
    fn values_print_as_python_prints_them() {
        let source = "{{ true }} {{ none }} {{ 1.0 }} {{ [1, 'a'] }} {{ bos_token }}{{ missing }}|{{ messages[::-1][0]['content'].split('b')[-1].upper() }}\n";
        assert_eq!(render(source, &[message("user", "abc")]).unwrap().text, "True None 1.0 [1, 'a'] <s>|C");
    }
}
