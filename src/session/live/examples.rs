//! Rows of the data as questions, to see whether the model answers as they do.

use super::super::{Checked, check};
use super::{Session, Tell};
use crate::config::Run;
use crate::data::split::holdout;
use crate::data::{Message, Row, RowContent};
use crate::protocol::{Example, Examples, Prompt, Turn, Update};
use crate::store::Store;
use crate::{Error, Result};

/// Rows that are shown.
const MOST: usize = 20;
/// Share of a plain text that stands as the question.
const SHARE_OF_TEXT: usize = 3;

impl<S: Store> Session<S> {
    pub(super) fn examples(&self, run: &Run, tell: Tell<'_>) -> Result<()> {
        let Some(data) = &self.data else {
            return Err(Error::input("data.path", "no file is read", "a file of rows"));
        };
        // The rows that a run splits are those that could be encoded.
        let tokenizer = &self.opened()?.tokenizer;
        let mut emit = |event| tell(Update::Event(event));
        let Checked { train, .. } = check(&run.data, &data.file, None, Some(tokenizer), &mut emit)?;
        let rows = train.read.rows;
        let mask = holdout(&rows, run.data.eval_fraction, run.seed).unwrap_or_default();
        let is_held_out = mask.contains(&true);
        let chosen = rows.iter().enumerate().filter(|(index, _)| !is_held_out || mask[*index]);
        let rows = chosen.filter_map(|(_, row)| example(row)).take(MOST).collect();
        tell(Update::Examples(Examples { rows, is_held_out }));
        Ok(())
    }
}

/// The row with its answer apart; `None` where there is nothing to ask or to answer.
fn example(row: &Row) -> Option<Example> {
    let (prompt, expected) = match &row.content {
        RowContent::Text(text) => {
            let at = text.char_indices().map(|(at, _)| at).nth(text.chars().count() / SHARE_OF_TEXT)?;
            // Between words, so that no token is cut.
            let at = text[at..].find(char::is_whitespace).map(|on| at + on)?;
            (Prompt::Text(text[..at].into()), text[at..].to_string())
        }
        RowContent::PromptCompletion { prompt, completion } => {
            (Prompt::Text(prompt.clone()), completion.clone())
        }
        RowContent::Chat(messages) => {
            let last = messages.iter().rposition(|message| message.role == "assistant")?;
            let turn = |Message { role, content, .. }: &Message| Turn {
                role: role.clone(),
                content: content.clone(),
            };
            (Prompt::Chat(messages[..last].iter().map(turn).collect()), messages[last].content.clone())
        }
    };
    let is_empty = match &prompt {
        Prompt::Text(text) => text.is_empty(),
        Prompt::Chat(turns) => turns.is_empty(),
    };
    (!is_empty && !expected.trim().is_empty()).then_some(Example { line: row.place.line, prompt, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Place;

    fn of(content: RowContent) -> Option<Example> {
        example(&Row { place: Place { file: "rows".into(), line: 7 }, content })
    }

    #[test]
    fn a_row_is_asked_up_to_its_answer() {
        let pair = RowContent::PromptCompletion { prompt: "1 + 1 =".into(), completion: " 2".into() };
        let asked = of(pair).expect("a row with an answer");
        assert_eq!((asked.line, asked.expected.as_str()), (7, " 2"));
        assert_eq!(asked.prompt, Prompt::Text("1 + 1 =".into()));

        let text = of(RowContent::Text("Über den Wolken muss die Freiheit".into())).expect("a text");
        assert_eq!(
            (text.prompt, text.expected.as_str()),
            (Prompt::Text("Über den Wolken".into()), " muss die Freiheit")
        );
        assert_eq!(of(RowContent::Text("word".into())), None);

        let say =
            |role: &str, content: &str| Message { role: role.into(), content: content.into(), weight: 1.0 };
        let turns = vec![say("system", "s"), say("user", "a"), say("assistant", "b"), say("user", "c")];
        let chat = of(RowContent::Chat(turns)).expect("an answered conversation");
        let Prompt::Chat(asked) = chat.prompt else { panic!("no chat") };
        assert_eq!((asked.len(), asked[1].content.as_str(), chat.expected.as_str()), (2, "a", "b"));
        assert_eq!(of(RowContent::Chat(vec![say("user", "a")])), None);
    }
}
