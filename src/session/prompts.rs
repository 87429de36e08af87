//! Prompts as tokens, and which prompts a run answers along the way.

use crate::Result;
use crate::config::Run;
use crate::data::{Message, Row, RowContent};
use crate::protocol::Prompt;
use crate::tokenizer::{AddSpecial, GenerationPrompt, Tokenizer};
use crate::train::SamplePrompt;

/// Tokens that a continuation follows: a text as it stands, a conversation in the model's template.
pub(super) fn encode(prompt: Prompt, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    match prompt {
        Prompt::Text(text) => tokenizer.encode(&text, AddSpecial::Yes),
        Prompt::Chat(turns) => {
            let messages: Vec<Message> = turns
                .into_iter()
                .map(|turn| Message { role: turn.role, content: turn.content, weight: 1.0 })
                .collect();
            encode_chat(&messages, tokenizer)
        }
    }
}

fn encode_chat(messages: &[Message], tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    // The template writes the special tokens itself.
    tokenizer.encode(&tokenizer.render_chat(messages, GenerationPrompt::Yes)?, AddSpecial::No)
}

/// The prompts that `train.sample_rows` and `train.sample_prompts` ask for, each once. Rows whose prompt is empty,
/// refused by the template or longer than `max_length` tokens are passed over.
///
/// # Errors
/// A prompt of `train.sample_prompts` that the tokenizer or the chat template refuses.
pub(super) fn sample_prompts(run: &Run, rows: &[Row], tokenizer: &Tokenizer) -> Result<Vec<SamplePrompt>> {
    let mut prompts: Vec<SamplePrompt> = Vec::new();
    for row in rows {
        if prompts.len() == run.train.sample_rows {
            break;
        }
        // A run is worth more than what it says on the way: a row that cannot be asked is passed over.
        let Ok(Some(prompt)) = of_row(&row.content, tokenizer) else { continue };
        if prompt.ids.len() <= run.data.max_length && !prompts.contains(&prompt) {
            prompts.push(prompt);
        }
    }
    let is_chat = rows.iter().any(|row| matches!(row.content, RowContent::Chat(_)));
    for text in &run.train.sample_prompts {
        let message = || Message { role: "user".into(), content: text.clone(), weight: 1.0 };
        let ids = if is_chat {
            encode_chat(&[message()], tokenizer)?
        } else {
            tokenizer.encode(text, AddSpecial::Yes)?
        };
        let prompt = SamplePrompt { text: text.clone(), ids };
        if !prompts.contains(&prompt) {
            prompts.push(prompt);
        }
    }
    Ok(prompts)
}

/// What stands before a row's last answer; `None` where nothing does.
fn of_row(content: &RowContent, tokenizer: &Tokenizer) -> Result<Option<SamplePrompt>> {
    Ok(match content {
        RowContent::Text(_) => None,
        RowContent::PromptCompletion { prompt, .. } if prompt.trim().is_empty() => None,
        RowContent::PromptCompletion { prompt, .. } => {
            Some(SamplePrompt { text: prompt.clone(), ids: tokenizer.encode(prompt, AddSpecial::Yes)? })
        }
        RowContent::Chat(messages) => {
            let answer = messages.iter().rposition(|message| message.role == "assistant");
            match answer.map_or(&[][..], |answer| &messages[..answer]) {
                [] => None,
                before @ [.., last] => {
                    Some(SamplePrompt { text: last.content.clone(), ids: encode_chat(before, tokenizer)? })
                }
            }
        }
    })
}
