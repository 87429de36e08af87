//! Rows that are questions with a few possible answers: sentiment, topics, multiple choice.

use crate::data::{Encoded, Row, RowContent};
use indexmap::IndexMap;

/// More different completions than this are texts, not choices.
const MOST_CHOICES: usize = 32;

/// The answers of rows whose few possible answers differ in their first token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    /// First token of each answer.
    ids: Vec<u32>,
    /// Index into `ids` of the right answer, one a row.
    right: Vec<usize>,
}

impl Choices {
    /// The answers of `rows`; `None` where there are too many, too few, or they begin alike.
    /// `encoded` are the rows' tokens, one for each and in their order.
    pub fn of(rows: &[Row], encoded: &[Encoded]) -> Option<Self> {
        let mut first_tokens: IndexMap<&str, u32> = IndexMap::new();
        let mut right = Vec::new();
        for (row, tokens) in rows.iter().zip(encoded) {
            let RowContent::PromptCompletion { completion, .. } = &row.content else { return None };
            // The first token of a row has nothing before it that could predict it.
            let first = tokens.loss_weights.iter().skip(1).position(|&weight| weight > 0.0)? + 1;
            let first = tokens.ids[first];
            let entry = first_tokens.entry(completion).or_insert(first);
            if *entry != first || first_tokens.len() > MOST_CHOICES {
                return None;
            }
            right.push(first_tokens.get_index_of(completion.as_str())?);
        }
        let ids: Vec<u32> = first_tokens.into_values().collect();
        let distinct = (1..ids.len()).all(|i| !ids[..i].contains(&ids[i]));
        (ids.len() > 1 && ids.len() < rows.len() && distinct).then_some(Self { ids, right })
    }

    /// The same questions in another order: first `order[0]`, then `order[1]` …
    pub(super) fn reordered(self, order: &[usize]) -> Self {
        Self { right: order.iter().map(|&row| self.right[row]).collect(), ids: self.ids }
    }

    pub(super) fn answer_ids(&self) -> &[u32] {
        &self.ids
    }

    pub(super) fn right_answers(&self) -> &[usize] {
        &self.right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Place;

    fn row(completion: &str) -> Row {
        let place = Place { file: "rows".into(), line: 1 };
        Row {
            place,
            content: RowContent::PromptCompletion { prompt: "p".into(), completion: completion.into() },
        }
    }

    fn encoded(answer: u32) -> Encoded {
        Encoded { ids: vec![7, 8, answer, 2], loss_weights: vec![0.0, 0.0, 1.0, 1.0], truncated: false }
    }

    #[test]
    fn a_few_answers_that_begin_differently_are_choices() {
        let rows = [row("yes"), row("no"), row("yes")];
        let choices = Choices::of(&rows, &[encoded(5), encoded(6), encoded(5)]).unwrap();
        assert_eq!((&choices.ids, &choices.right), (&vec![5, 6], &vec![0, 1, 0]));
        assert_eq!(choices.reordered(&[1, 2, 0]).right, [1, 0, 0]);
    }

    #[test]
    fn texts_and_answers_that_begin_alike_are_not() {
        let rows = [row("yes"), row("yet"), row("yes")];
        assert!(Choices::of(&rows, &[encoded(5), encoded(5), encoded(5)]).is_none(), "one first token");
        assert!(Choices::of(&rows[..2], &[encoded(5), encoded(6)]).is_none(), "as many answers as rows");
        let place = Place { file: "rows".into(), line: 1 };
        let text = Row { place, content: RowContent::Text("t".into()) };
        assert!(Choices::of(&[text], &[encoded(5)]).is_none());
    }
}
