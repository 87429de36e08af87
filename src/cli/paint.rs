//! Colours where a person looks, and text from files made safe for a terminal.

use attune::{Error, Result};
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// An ANSI style.
#[derive(Clone, Copy)]
pub enum Style {
    /// Headings.
    Bold,
    /// Context.
    Dim,
    /// Mistakes.
    Red,
    /// What is learned.
    Green,
}

/// Whether a stream is painted: it is a terminal, and neither `NO_COLOR` nor `TERM=dumb` says otherwise.
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// For standard output.
    pub fn stdout() -> Self {
        Self(wanted() && std::io::stdout().is_terminal())
    }

    /// For standard error.
    pub fn stderr() -> Self {
        Self(wanted() && std::io::stderr().is_terminal())
    }

    /// Whether styles show.
    pub fn is_on(self) -> bool {
        self.0
    }

    /// The text in this style, or as it is.
    pub fn apply(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "1;31",
            Style::Green => "32",
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// <https://no-color.org>
fn wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text from a file or a model with its control characters spelt out: it must not drive the terminal.
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, letter| {
        if letter.is_control() {
            safe.extend(letter.escape_default())
        } else {
            safe.push(letter)
        }
        safe
    })
}

/// One line on standard output. A reader that has gone away, as after `| head`, is no reason to stop a run.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// An object as one line of JSON on standard output.
pub fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string(value).map_err(|error| Error::Internal(error.to_string()))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelt_out() {
        assert_eq!(printable("a\x1b[31mb\nç"), "a\\u{1b}[31mb\\nç");
    }

    #[test]
    fn unpainted_text_is_unchanged() {
        assert_eq!(Paint(false).apply(Style::Red, "x"), "x");
        assert_eq!(Paint(true).apply(Style::Red, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
