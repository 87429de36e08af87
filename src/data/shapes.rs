//! Fields of a record → [`RowContent`]: which fields make which shape, and what they must hold.

use super::records::LISTED_FIELDS;
use super::{Message, RowContent};
use crate::config::Shape;
use crate::store::shortened;
use serde_json::{Map, Value};

/// What to give when no shape fits, for messages.
pub(super) const EXPECTED_FIELDS: &str = "`text`, `prompt` with `completion`, `instruction` with `output`, \
     `conversations`, or `messages`; choose one with `shape` if the names are right, or say with `columns` \
     which column is which";

/// In order of precedence: a row that fits several is the most structured of them. (The published Alpaca
/// rows, for one, carry their rendered `text` as well.)
pub(super) const SHAPES: [Shape; 5] =
    [Shape::Chat, Shape::Sharegpt, Shape::PromptCompletion, Shape::Alpaca, Shape::Text];

/// Roles a chat template may meet. A misspelt role would silently lose its loss, so others are refused.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// What is wrong with one field.
#[derive(Debug, PartialEq)]
pub(super) struct FieldProblem {
    /// `messages[2].role`; empty for the row itself.
    pub path: String,
    pub problem: String,
    pub expected: String,
}

/// A record read in a shape.
pub(super) struct Parsed {
    pub content: Result<RowContent, Vec<FieldProblem>>,
    /// Fields that the shape has no use for, e.g. `id` or `messages[].name`.
    pub unused: Vec<String>,
}

/// The name the run file uses.
pub(super) fn name(shape: Shape) -> &'static str {
    match shape {
        Shape::Auto => "auto",
        Shape::Text => "text",
        Shape::PromptCompletion => "prompt-completion",
        Shape::Alpaca => "alpaca",
        Shape::Sharegpt => "sharegpt",
        Shape::Chat => "chat",
    }
}

/// Fields a shape must have, then those it may have.
pub(super) fn fields(shape: Shape) -> (&'static [&'static str], &'static [&'static str]) {
    match shape {
        Shape::Auto => (&[], &[]),
        Shape::Text => (&["text"], &[]),
        Shape::PromptCompletion => (&["prompt", "completion"], &[]),
        Shape::Alpaca => (&["instruction", "output"], &["input"]),
        Shape::Sharegpt => (&["conversations"], &[]),
        Shape::Chat => (&["messages"], &[]),
    }
}

/// The shape whose fields are all there and not null; failing that, all there.
pub(super) fn recognise(record: &Map<String, Value>) -> Option<Shape> {
    let having = |accept: fn(&Value) -> bool| {
        SHAPES.into_iter().find(|&s| fields(s).0.iter().all(|&f| record.get(f).is_some_and(accept)))
    };
    having(|v| !v.is_null()).or_else(|| having(|_| true))
}

/// "has the fields `a`, `b`", for messages.
pub(super) fn list_fields<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let listed = list(names);
    if listed.is_empty() { "has no fields".into() } else { format!("has the fields {listed}") }
}

/// "`a`, `b` and 3 more"
pub(super) fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut names = names.map(|name| format!("`{}`", shortened(name)));
    let listed = names.by_ref().take(LISTED_FIELDS).collect::<Vec<_>>().join(", ");
    match names.count() {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

/// Reads `record` in `shape`, which must not be [`Shape::Auto`].
pub(super) fn parse(record: &Map<String, Value>, shape: Shape) -> Parsed {
    let mut reader = FieldReader::default();
    let content = match shape {
        Shape::Auto | Shape::Text => reader.filled(record, "text").map(RowContent::Text),
        Shape::PromptCompletion => {
            let (prompt, completion) = (reader.string(record, "prompt"), reader.filled(record, "completion"));
            prompt
                .zip(completion)
                .map(|(prompt, completion)| RowContent::PromptCompletion { prompt, completion })
        }
        Shape::Alpaca => {
            let instruction = reader.filled(record, "instruction");
            let input = match record.get("input") {
                None | Some(Value::Null) => Some(String::new()),
                Some(_) => reader.string(record, "input"),
            };
            let output = reader.filled(record, "output");
            instruction.zip(input).zip(output).map(|((instruction, input), completion)| {
                RowContent::PromptCompletion { prompt: alpaca_prompt(&instruction, &input), completion }
            })
        }
        Shape::Sharegpt => reader.turns(record, "conversations", ["from", "value"], sharegpt_role),
        Shape::Chat => reader.turns(record, "messages", ["role", "content"], chat_role),
    };
    let (required, optional) = fields(shape);
    let unused = record.keys().filter(|k| !required.contains(&k.as_str()) && !optional.contains(&k.as_str()));
    reader.unused.extend(unused.cloned());
    let content = match content {
        Some(content) if reader.problems.is_empty() => Ok(content),
        _ => Err(reader.problems),
    };
    Parsed { content, unused: reader.unused }
}

/// The prompt Alpaca was trained on, `PROMPT_DICT` in `train.py` of tatsu-lab/stanford_alpaca. The answer
/// follows `### Response:` directly, as it does there.
fn alpaca_prompt(instruction: &str, input: &str) -> String {
    if input.is_empty() {
        format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes \
             the request.\n\n### Instruction:\n{instruction}\n\n### Response:"
        )
    } else {
        format!(
            "Below is an instruction that describes a task, paired with an input that provides further \
             context. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
        )
    }
}

fn chat_role(role: &str) -> Result<&str, String> {
    if ROLES.contains(&role) { Ok(role) } else { Err(format!("one of {}", ROLES.join(", "))) }
}

/// ShareGPT's speakers (as FastChat's training data names them) as chat roles.
fn sharegpt_role(from: &str) -> Result<&str, String> {
    match from {
        "human" | "user" => Ok("user"),
        "gpt" | "assistant" => Ok("assistant"),
        "system" | "tool" => Ok(from),
        _ => Err("one of human, gpt, system, tool, user, assistant".into()),
    }
}

/// Takes fields out of a record and keeps what is wrong and what is left.
#[derive(Default)]
struct FieldReader {
    problems: Vec<FieldProblem>,
    unused: Vec<String>,
}

impl FieldReader {
    fn problem(&mut self, path: impl Into<String>, problem: impl Into<String>, expected: impl Into<String>) {
        self.problems.push(FieldProblem {
            path: path.into(),
            problem: problem.into(),
            expected: expected.into(),
        });
    }

    /// A string, which may be empty.
    fn string(&mut self, record: &Map<String, Value>, field: &str) -> Option<String> {
        match record.get(field) {
            Some(Value::String(text)) => return Some(text.clone()),
            Some(other) => self.problem(field, format!("is {}", kind(other)), "a string"),
            None => self.problem("", format!("has no field `{field}`"), format!("`{field}` with a string")),
        }
        None
    }

    /// A string with something in it: there is nothing to learn from blanks.
    fn filled(&mut self, record: &Map<String, Value>, field: &str) -> Option<String> {
        let text = self.string(record, field)?;
        if text.trim().is_empty() {
            self.problem(field, "is empty", "some text");
            return None;
        }
        Some(text)
    }

    /// The turns in `field`, each an object with the `[speaker, text]` keys given.
    fn turns(
        &mut self,
        record: &Map<String, Value>,
        field: &str,
        [role_key, text_key]: [&str; 2],
        role_of: fn(&str) -> Result<&str, String>,
    ) -> Option<RowContent> {
        let expected = format!("a list of turns with `{role_key}` and `{text_key}`");
        let parsed; // a table's cell holds the list as JSON text
        let value = match record.get(field) {
            Some(Value::String(text)) => match serde_json::from_str::<Value>(text) {
                Ok(value) => {
                    parsed = value;
                    Some(&parsed)
                }
                Err(_) => record.get(field),
            },
            other => other,
        };
        let turns = match value {
            Some(Value::Array(turns)) if turns.is_empty() => {
                self.problem(field, "is an empty list", expected);
                return None;
            }
            Some(Value::Array(turns)) => turns,
            Some(other) => {
                self.problem(field, format!("is {}", kind(other)), expected);
                return None;
            }
            None => {
                self.problem("", format!("has no field `{field}`"), format!("`{field}`, {expected}"));
                return None;
            }
        };
        let mut messages = Vec::with_capacity(turns.len());
        for (index, turn) in turns.iter().enumerate() {
            let path = format!("{field}[{index}]");
            let Value::Object(turn) = turn else {
                self.problem(
                    path,
                    format!("is {}", kind(turn)),
                    format!("an object with `{role_key}` and `{text_key}`"),
                );
                continue;
            };
            let role = self.role(turn, &path, role_key, role_of);
            let content = self.text_parts(turn, &path, text_key);
            let weight = self.weight(turn, &path);
            for key in turn.keys().filter(|k| ![role_key, text_key, "weight"].contains(&k.as_str())) {
                let unused = format!("{field}[].{key}");
                if !self.unused.contains(&unused) {
                    self.unused.push(unused);
                }
            }
            if let (Some(role), Some(content), Some(weight)) = (role, content, weight) {
                messages.push(Message { role, content, weight });
            }
        }
        Some(RowContent::Chat(messages))
    }

    fn role(
        &mut self,
        turn: &Map<String, Value>,
        path: &str,
        key: &str,
        role_of: fn(&str) -> Result<&str, String>,
    ) -> Option<String> {
        match turn.get(key) {
            Some(Value::String(text)) => match role_of(text) {
                Ok(role) => return Some(role.to_string()),
                Err(expected) => {
                    self.problem(format!("{path}.{key}"), format!("is \"{}\"", shortened(text)), expected)
                }
            },
            Some(other) => self.problem(format!("{path}.{key}"), format!("is {}", kind(other)), "a string"),
            None => self.problem(path, format!("has no `{key}`"), format!("`{key}` with the speaker's role")),
        }
        None
    }

    /// A turn's text: a string, or the list of text parts that OpenAI's format also allows.
    fn text_parts(&mut self, turn: &Map<String, Value>, path: &str, key: &str) -> Option<String> {
        let path_key = format!("{path}.{key}");
        match turn.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Array(parts)) => {
                let mut text = String::new();
                for (index, part) in parts.iter().enumerate() {
                    match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str))
                    {
                        (Some("text") | None, Some(piece)) => text.push_str(piece),
                        (part_type, _) => {
                            let found = part_type.map_or("is no part with text".into(), |t| {
                                format!("is a part of type \"{}\"", shortened(t))
                            });
                            self.problem(
                                format!("{path_key}[{index}]"),
                                found,
                                "{\"type\": \"text\", \"text\": …}",
                            );
                            return None;
                        }
                    }
                }
                Some(text)
            }
            Some(other) => {
                self.problem(path_key, format!("is {}", kind(other)), "a string or a list of text parts");
                None
            }
            None => {
                self.problem(path, format!("has no `{key}`"), format!("`{key}` with the text"));
                None
            }
        }
    }

    /// Factor on the turn's loss, 1 where nothing is said.
    fn weight(&mut self, turn: &Map<String, Value>, path: &str) -> Option<f32> {
        let value = match turn.get("weight") {
            None | Some(Value::Null) => return Some(1.0),
            Some(value) => value,
        };
        match value.as_f64() {
            Some(weight) if weight >= 0.0 && weight <= f64::from(f32::MAX) => Some(weight as f32),
            Some(weight) => {
                self.problem(format!("{path}.weight"), format!("is {weight}"), "a number of 0 or more");
                None
            }
            None => {
                self.problem(
                    format!("{path}.weight"),
                    format!("is {}", kind(value)),
                    "a number of 0 or more",
                );
                None
            }
        }
    }
}

/// What a JSON value is, with its article.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
