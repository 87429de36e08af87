//! Accuracy of rows that are questions with a few possible answers: sentiment, topics, multiple choice.

use crate::data::batches::{BatchPlan, Batches};
use crate::data::{Encoded, Row, RowContent};
use crate::models::{CausalLm, Pass};
use crate::protocol::{Control, Event};
use crate::{Error, Result};
use burn::tensor::{Int, Tensor, TensorData};
use indexmap::IndexMap;

/// More different completions than this are texts, not choices.
const MOST_CHOICES: usize = 32;

/// Questions with a few possible answers that differ in their first token.
pub struct Choices {
    /// First token of each answer.
    ids: Vec<u32>,
    /// What stands before the answer, one a row.
    prompts: Vec<Encoded>,
    /// Index into `ids` of the right answer, one a row.
    right: Vec<usize>,
}

impl Choices {
    /// The rows as questions; `None` where their completions are too many, too few, or begin alike.
    /// `encoded` are the rows' tokens, one for each and in their order.
    pub fn of(rows: &[Row], encoded: &[Encoded]) -> Option<Self> {
        let mut first_tokens: IndexMap<&str, u32> = IndexMap::new();
        let (mut prompts, mut right) = (Vec::new(), Vec::new());
        for (row, tokens) in rows.iter().zip(encoded) {
            let RowContent::PromptCompletion { completion, .. } = &row.content else { return None };
            let n_context = tokens.loss_weights.iter().position(|&weight| weight > 0.0)?;
            let first = tokens.ids[n_context];
            let entry = first_tokens.entry(completion).or_insert(first);
            if *entry != first || first_tokens.len() > MOST_CHOICES {
                return None;
            }
            right.push(first_tokens.get_index_of(completion.as_str())?);
            let ids = tokens.ids[..n_context].to_vec();
            prompts.push(Encoded { loss_weights: vec![0.0; ids.len()], ids, truncated: false });
        }
        let ids: Vec<u32> = first_tokens.into_values().collect();
        let distinct = (1..ids.len()).all(|i| !ids[..i].contains(&ids[i]));
        (ids.len() > 1 && ids.len() < rows.len() && distinct).then_some(Self { ids, prompts, right })
    }

    /// Share of rows whose own answer's first token has, of all answers' first tokens, the largest logit
    /// right after the prompt.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where `emit` asked to stop; whatever the model and the device report.
    pub async fn accuracy(
        self,
        model: &CausalLm,
        batch_size: usize,
        emit: &mut dyn FnMut(Event) -> Control,
    ) -> Result<f64> {
        let Self { ids, prompts, right } = self;
        // Prompts of a length side by side need the least padding.
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&row| prompts[row].ids.len());
        let max_length = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(1);
        let sorted = order.iter().map(|&row| prompts[row].clone()).collect();
        let plan = BatchPlan { batch_size, packing: false, max_length, shuffle: false, seed: 0, pad_id: 0 };
        let batches = Batches::new(sorted, plan)?;

        let device = model.device();
        let indices = |values: Vec<i32>| {
            let len = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [len]), device)
        };
        let answers = indices(ids.iter().map(|&id| id as i32).collect());
        let head = model.head_weight(Pass::INFERENCE).select(0, answers).transpose(); // [hidden, answers]
        let (mut n_right, mut n_done) = (0, 0);
        for index in 0..batches.len() {
            let batch = batches.batch(0, index);
            let rows = &order[n_done..n_done + batch.batch_size];
            let last = rows
                .iter()
                .enumerate()
                .map(|(i, &row)| (i * batch.seq_len + prompts[row].ids.len()) as i32 - 1);
            let stream = model.stream(&model.context(&batch)?, Pass::INFERENCE);
            let states = model.norm_rows(stream.select(0, indices(last.collect())), Pass::INFERENCE); // [batch, hidden]
            let chosen = states.matmul(head.clone()).argmax(1).into_data_async().await;
            let chosen = chosen.map_err(|error| Error::Internal(format!("reading the answers: {error}")))?;
            n_right += rows
                .iter()
                .zip(chosen.iter::<i64>())
                .filter(|&(&row, answer)| right[row] as i64 == answer)
                .count();
            n_done += rows.len();
            let progress =
                Event::Progress { task: "answering".into(), done: n_done as u64, total: order.len() as u64 };
            if emit(progress) == Control::Stop {
                return Err(Error::Interrupted("evaluation".into()));
            }
        }
        Ok(n_right as f64 / order.len() as f64)
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
        assert_eq!((choices.ids, choices.right), (vec![5, 6], vec![0, 1, 0]));
        assert!(choices.prompts.iter().all(|prompt| prompt.ids == [7, 8]));
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
