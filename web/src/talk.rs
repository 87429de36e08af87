//! The conversation: what was asked, and what each voice answered, with a history of its own.

use attune::protocol::{Answer, Example, Examples, Prompt, Turn, Voice};
use leptos::prelude::*;

/// What a voice said to one question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    pub text: String,
    /// How it ended; `None` while it speaks, and for what it did not say itself.
    pub end: Option<Answer>,
}

/// A question and its answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchange {
    pub question: String,
    /// The answer that the data gives.
    pub expected: Option<String>,
    pub tuned: Option<Said>,
    pub base: Option<Said>,
}

impl Exchange {
    pub fn said(&self, voice: Voice) -> Option<&Said> {
        match voice {
            Voice::Tuned => self.tuned.as_ref(),
            Voice::Base => self.base.as_ref(),
        }
    }

    fn said_mut(&mut self, voice: Voice) -> &mut Option<Said> {
        match voice {
            Voice::Tuned => &mut self.tuned,
            Voice::Base => &mut self.base,
        }
    }
}

/// All signals of the conversation; copied freely.
#[derive(Clone, Copy)]
pub struct Talk {
    /// Whether questions are messages in the model's template, or texts to be continued.
    pub is_chat: RwSignal<bool>,
    pub system: RwSignal<String>,
    pub draft: RwSignal<String>,
    pub exchanges: RwSignal<Vec<Exchange>>,
    /// Who speaks at the moment, and who is to come.
    pub speaking: RwSignal<Vec<Voice>>,
    /// Rows of the data to ask, and the number of the one that is asked.
    pub examples: RwSignal<Option<(Examples, usize)>>,
}

impl Talk {
    pub fn new() -> Self {
        Self {
            is_chat: RwSignal::new(false),
            system: RwSignal::new(String::new()),
            draft: RwSignal::new(String::new()),
            exchanges: RwSignal::new(Vec::new()),
            speaking: RwSignal::new(Vec::new()),
            examples: RwSignal::new(None),
        }
    }

    /// Another model.
    pub fn begin(&self, has_template: bool) {
        self.is_chat.set(has_template);
        self.examples.set(None);
        self.clear();
    }

    pub fn clear(&self) {
        self.exchanges.set(Vec::new());
    }

    /// Puts the draft as a question to the voices; what each of them is to be asked.
    pub fn ask(&self, voices: &[Voice]) -> Vec<(Voice, Prompt)> {
        let question = self.draft.get_untracked();
        let expected = self.example().filter(|row| asked(row) == question).map(|row| row.expected);
        let prompts = voices.iter().map(|&voice| (voice, self.prompt(voice, &question))).collect();
        let mut exchange = Exchange { question, expected, ..Exchange::default() };
        voices.iter().for_each(|&voice| *exchange.said_mut(voice) = Some(Said::default()));
        self.exchanges.update(|exchanges| exchanges.push(exchange));
        self.speaking.set(voices.to_vec());
        if self.is_chat.get_untracked() {
            self.draft.set(String::new());
        }
        prompts
    }

    /// A conversation goes on from what this voice said itself; a text stands alone.
    fn prompt(&self, voice: Voice, question: &str) -> Prompt {
        if !self.is_chat.get_untracked() {
            return Prompt::Text(question.into());
        }
        let turn = |role: &str, content: &str| Turn { role: role.into(), content: content.into() };
        let system = self.system.get_untracked();
        let mut turns = Vec::new();
        if !system.trim().is_empty() {
            turns.push(turn("system", &system));
        }
        self.exchanges.with_untracked(|exchanges| {
            for exchange in exchanges {
                let is_answer = |said: &&Said| said.end.is_some() || !said.text.is_empty();
                if let Some(said) = exchange.said(voice).filter(is_answer) {
                    turns.push(turn("user", &exchange.question));
                    turns.push(turn("assistant", &said.text));
                }
            }
        });
        turns.push(turn("user", question));
        Prompt::Chat(turns)
    }

    /// The next piece of what is being said.
    pub fn hear(&self, piece: &str) {
        self.on_speaker(|said| said.text.push_str(piece));
    }

    pub fn answered(&self, answer: Answer) {
        self.on_speaker(|said| said.end = Some(answer));
    }

    fn on_speaker(&self, change: impl FnOnce(&mut Said)) {
        let Some(voice) = self.speaking.with_untracked(|speaking| speaking.first().copied()) else { return };
        self.exchanges.update(|exchanges| {
            if let Some(Some(said)) = exchanges.last_mut().map(|last| last.said_mut(voice).as_mut()) {
                change(said);
            }
        });
    }

    /// The first of those who speak is done, or could not.
    pub fn ended(&self) {
        self.speaking.update(|speaking| _ = (!speaking.is_empty()).then(|| speaking.remove(0)));
    }

    /// Takes rows in and drafts the first.
    pub fn show(&self, examples: Examples) {
        self.examples.set(Some((examples, 0)));
        self.draft_example();
    }

    /// Drafts the next row; false where none were fetched yet.
    pub fn next_example(&self) -> bool {
        let is_there = self.examples.with_untracked(Option::is_some);
        self.examples.update(|examples| {
            if let Some((Examples { rows, .. }, at)) = examples {
                *at = (*at + 1) % rows.len().max(1);
            }
        });
        self.draft_example();
        is_there
    }

    fn example(&self) -> Option<Example> {
        self.examples.with_untracked(|examples| {
            examples.as_ref().and_then(|(examples, at)| examples.rows.get(*at).cloned())
        })
    }

    /// What stands before the last question of a conversation becomes the history of both voices.
    fn draft_example(&self) {
        let Some(row) = self.example() else { return };
        self.draft.set(asked(&row).to_string());
        let Prompt::Chat(turns) = &row.prompt else {
            self.is_chat.set(false);
            return;
        };
        self.is_chat.set(true);
        let mut exchanges: Vec<Exchange> = Vec::new();
        self.system.set(String::new());
        for turn in &turns[..turns.len().saturating_sub(1)] {
            match (turn.role.as_str(), exchanges.last_mut()) {
                ("system", _) => self.system.set(turn.content.clone()),
                ("assistant", Some(last)) => {
                    let said = Some(Said { text: turn.content.clone(), end: None });
                    (last.tuned, last.base) = (said.clone(), said);
                }
                _ => exchanges.push(Exchange { question: turn.content.clone(), ..Exchange::default() }),
            }
        }
        self.exchanges.set(exchanges);
    }
}

/// The question of a row.
fn asked(row: &Example) -> &str {
    match &row.prompt {
        Prompt::Text(text) => text,
        Prompt::Chat(turns) => turns.last().map_or("", |turn| &turn.content),
    }
}
