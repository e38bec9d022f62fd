//! An item as reports show it.

use std::collections::BTreeMap;

use internlm_core::chat_model::Input;
use internlm_core::message::join;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::item::{Request, Response};
use crate::run::{Outcome, Planned};

/// One item of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// The item's number.
    pub index: usize,
    /// What was asked, as far as all requests have it in common.
    pub prompt: String,
    /// The turns of a conversation, where the prompt is one: role and text.
    pub conversation: Option<Vec<(String, String)>>,
    /// What came back.
    pub answers: Vec<Answer>,
    /// What the model is taken to have answered.
    pub prediction: Value,
    /// The right answer.
    pub gold: Value,
    /// Whether it is right, where that is a question.
    pub correct: Option<bool>,
    /// Its part of each metric.
    pub metrics: BTreeMap<String, Value>,
    /// Why it is wrong.
    pub note: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Where it stands in a grid of depth (per cent) and length (tokens), if the data has such columns.
    pub cell: Option<(f64, f64)>,
}

/// A continuation and its score, or a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Answer {
    /// What stands before it, where it is not the prompt.
    pub context: Option<String>,
    /// The continuation, or what the model wrote.
    pub text: String,
    /// The sum of log-probabilities or the perplexity, if that was asked.
    pub score: Option<f64>,
    /// Whether the score is a perplexity.
    pub perplexity: bool,
    /// Whether the score is a reward model's.
    pub reward: bool,
    /// Whether each of its tokens is the most likely one.
    pub is_greedy: Option<bool>,
}

impl Record {
    pub(crate) fn of(planned: &Planned) -> Self {
        let item = &planned.item;
        let mut record = Self {
            index: item.index,
            gold: item.gold.clone(),
            cell: cell(&item.row),
            ..Self::default()
        };
        match &planned.outcome {
            Some(Outcome::Judged(sample)) => {
                record.prediction = sample.prediction.clone();
                record.gold = sample.gold.clone();
                record.correct = sample.correct;
                record.metrics = sample.metrics.clone();
                record.note = sample.note.clone();
            }
            Some(Outcome::Failed(error)) => record.error = Some(error.clone()),
            None => record.error = Some("is not answered".to_owned()),
        }
        for (number, stage) in planned.stages.iter().enumerate() {
            for (request, response) in planned.requests(number).iter().zip(stage.responses()) {
                record.add(request, &response);
            }
        }
        record.share_contexts();
        record
    }

    fn add(&mut self, request: &Request, response: &Response) {
        let scored = |context: &str, text: &str| {
            let sum = response.loglikelihood();
            Answer {
                context: Some(context.to_owned()),
                text: text.to_owned(),
                score: sum.map(|(sum, _)| sum),
                is_greedy: sum.map(|(_, greedy)| greedy),
                ..Answer::default()
            }
        };
        match request {
            Request::Loglikelihood {
                context,
                continuation,
            } => self.answers.push(scored(&context.spelled(), continuation)),
            Request::Rolling { text } => self.answers.push(scored("", text)),
            Request::Perplexity { text, .. } => self.answers.push(Answer {
                context: Some(String::new()),
                text: text.spelled().into_owned(),
                score: match response {
                    Response::Perplexity { value, .. } => Some(*value),
                    _ => None,
                },
                perplexity: true,
                ..Answer::default()
            }),
            Request::Reward { messages } => {
                let (said, answer) = match messages.split_last() {
                    Some((last, before)) => (before, last.text()),
                    None => (&[][..], String::new()),
                };
                let prompt = self.say(&Input::Messages(said.to_vec()), &[]);
                self.answers.push(Answer {
                    context: Some(prompt),
                    text: answer,
                    score: match response {
                        Response::Reward { value } => Some(*value),
                        _ => None,
                    },
                    reward: true,
                    ..Answer::default()
                });
            }
            Request::Generate {
                input, follow_ups, ..
            } => {
                let prompt = self.say(input, follow_ups);
                let context = (!prompt.is_empty()).then_some(prompt);
                let answers = match response {
                    Response::Texts { answers } => &answers[..],
                    _ => &[],
                };
                for turns in answers {
                    self.answers.push(Answer {
                        context: context.clone(),
                        text: turns.join("\n\n"),
                        ..Answer::default()
                    });
                }
                if answers.is_empty() && self.prompt.is_empty() {
                    self.prompt = context.unwrap_or_default();
                }
            }
        }
    }

    /// The text of a prompt; the first conversation of an item is kept with its roles.
    fn say(&mut self, input: &Input, follow_ups: &[String]) -> String {
        match input {
            Input::Prompt(parts) => join(parts),
            Input::Ids(ids) => format!("{ids:?}"),
            Input::Messages(messages) => {
                let said = messages
                    .iter()
                    .map(|m| (m.role.as_str().to_owned(), m.text()));
                let asked = follow_ups
                    .iter()
                    .map(|text| ("user".to_owned(), text.clone()));
                let turns: Vec<(String, String)> = said.chain(asked).collect();
                let text: Vec<String> = turns
                    .iter()
                    .map(|(role, text)| format!("{role}: {text}"))
                    .collect();
                self.conversation.get_or_insert(turns);
                text.join("\n")
            }
        }
    }

    /// Makes the prompt of what all answers stand after.
    fn share_contexts(&mut self) {
        let Some(first) = self
            .answers
            .first()
            .and_then(|answer| answer.context.clone())
        else {
            return;
        };
        let whole_texts = self.answers.iter().all(|a| a.perplexity) && self.answers.len() > 1;
        if whole_texts {
            let texts: Vec<&str> = self.answers.iter().map(|a| a.text.as_str()).collect();
            let shared = common(&texts);
            self.prompt = self.answers[0].text[..shared].to_owned();
            for answer in &mut self.answers {
                answer.text.drain(..shared);
                answer.context = None;
            }
            return;
        }
        for answer in &mut self.answers {
            if answer.context.as_ref() == Some(&first) {
                answer.context = None;
            }
        }
        self.prompt = first;
    }
}

/// Bytes of whole characters that texts begin with in common.
fn common(texts: &[&str]) -> usize {
    let Some((first, rest)) = texts.split_first() else {
        return 0;
    };
    let mut shared = first.len();
    for text in rest {
        let alike = first.bytes().zip(text.bytes()).take_while(|(a, b)| a == b);
        shared = shared.min(alike.count());
    }
    (0..=shared)
        .rev()
        .find(|&at| first.is_char_boundary(at))
        .unwrap_or_default()
}

fn cell(row: &crate::item::Row) -> Option<(f64, f64)> {
    let number = |name: &str| row.get(name).and_then(Value::as_f64);
    Some((number("depth")?, number("length")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_texts_have_in_common_ends_between_characters() {
        assert_eq!(common(&["题目A", "题目B"]), 6);
        // The first bytes of both last characters are the same.
        assert_eq!(common(&["题目", "题盯"]), 3);
        assert_eq!(common(&["", "a"]), 0);
        assert_eq!(common(&["ab"]), 2);
    }
}
