//! From a row to requests, by the rules of lm-evaluation-harness (`ConfigurableTask.fewshot_context`,
//! `build_qa_turn` and `construct_requests` of 0.4.13).

use internlm_core::chat_model::Input;
use internlm_core::message::join;
use internlm_core::scorer::Tokens;
use internlm_core::{Message, Part, Role, SamplingParams, Scorer};
use minijinja::Value;
use serde_json::Value as Json;

use super::options::ChatOptions;
use super::prepare::{self, json};
use super::spec::{Choices, Mode, TaskSpec};
use super::turns::{Turn, delimit, folded, joined, messages, needs_delimiter};
use crate::error::{Error, Result};
use crate::item::{Item, Request, Row};
use crate::template::{Names, Templates};

/// Renders the rows of one task.
pub(super) struct Prompter<'a> {
    pub(super) spec: &'a TaskSpec,
    pub(super) task: &'a str,
    pub(super) subset: Option<&'a Row>,
    pub(super) templates: &'a Templates,
    pub(super) chat: Option<&'a ChatOptions>,
    /// Whether a metric needs the choices without the question.
    pub(super) unconditional: bool,
}

/// A row with the names that its templates see.
pub(super) struct Bound {
    pub(super) index: usize,
    names: Names,
}

impl Prompter<'_> {
    pub(super) fn bind(&self, index: usize, row: &Row, few_shot: bool) -> Bound {
        let mut names = prepare::names(row, self.subset);
        names.insert("few_shot".to_owned(), Value::from(few_shot));
        Bound { index, names }
    }

    pub(super) fn text(&self, key: &str, template: &str, row: &Bound) -> Result<String> {
        self.templates
            .text(template, &row.names)
            .map_err(|what| self.failed(key, row, what))
    }

    /// The value of an expression as JSON.
    pub(super) fn json(&self, key: &str, expression: &str, row: &Bound) -> Result<Json> {
        let value = self.value(key, expression, row)?;
        json(&value).map_err(|what| self.failed(key, row, what))
    }

    fn value(&self, key: &str, expression: &str, row: &Bound) -> Result<Value> {
        self.templates
            .value(expression, &row.names)
            .map_err(|what| self.failed(key, row, what))
    }

    fn texts(&self, key: &str, expression: &str, row: &Bound) -> Result<Vec<String>> {
        let value = self.value(key, expression, row)?;
        let members = value
            .try_iter()
            .map_err(|error| self.failed(key, row, error.to_string()))?;
        members
            .map(|member| match member.as_str() {
                Some(text) => Ok(text.to_owned()),
                None => Err(self.failed(key, row, format!("{member:?} is not a text"))),
            })
            .collect()
    }

    fn failed(&self, key: &str, row: &Bound, what: String) -> Error {
        Error::Template {
            task: self.task.to_owned(),
            key: key.to_owned(),
            row: row.index,
            what,
        }
    }

    fn bad_row(&self, row: &Bound, what: String) -> Error {
        Error::Row {
            task: self.task.to_owned(),
            row: row.index,
            what,
        }
    }

    pub(super) fn choices(&self, row: &Bound) -> Result<Option<Vec<String>>> {
        match &self.spec.choices {
            None => Ok(None),
            Some(Choices::Expression(expression)) => {
                self.texts("choices", expression, row).map(Some)
            }
            Some(Choices::Texts(texts)) => texts
                .iter()
                .enumerate()
                .map(|(number, text)| self.text(&format!("choices[{number}]"), text, row))
                .collect::<Result<Vec<_>>>()
                .map(Some),
        }
    }

    /// The gold as the task file's expression gives it.
    fn gold(&self, row: &Bound) -> Result<Option<Json>> {
        match &self.spec.gold {
            None => Ok(None),
            Some(expression) => self.json("gold", expression, row).map(Some),
        }
    }

    /// The answer in words: the target, or the choice or text that the gold names.
    fn answer(&self, row: &Bound, target: Option<&str>) -> Result<String> {
        if let Some(target) = target.or(self.spec.target.as_deref()) {
            return self.text("target", target, row);
        }
        let gold = self.gold(row)?.unwrap_or(Json::Null);
        let choices = self.choices(row)?;
        let gold = match gold {
            Json::Array(golds) => golds.into_iter().next().unwrap_or(Json::Null),
            gold => gold,
        };
        match (&gold, choices) {
            (Json::Number(number), Some(choices)) => number
                .as_u64()
                .and_then(|at| choices.get(at as usize).cloned())
                .ok_or_else(|| {
                    self.bad_row(
                        row,
                        format!("the answer is choice {number} of {}", choices.len()),
                    )
                }),
            (Json::String(text), _) => Ok(text.clone()),
            (Json::Null, _) => Ok(String::new()),
            (other, _) => Ok(other.to_string()),
        }
    }

    /// An example: its question and its answer.
    pub(super) fn example(&self, row: &Bound) -> Result<Example> {
        let fewshot = self.spec.fewshot.as_ref();
        let prompt = fewshot.and_then(|fewshot| fewshot.prompt.as_deref());
        let question = match (&self.spec.contexts, prompt) {
            (Some(contexts), None) => {
                // The context with the right option in place.
                let contexts = self.texts("contexts", contexts, row)?;
                let gold = self.gold(row)?.and_then(|gold| gold.as_u64()).unwrap_or(0);
                contexts.get(gold as usize).cloned().ok_or_else(|| {
                    self.bad_row(
                        row,
                        format!("the answer is context {gold} of {}", contexts.len()),
                    )
                })?
            }
            (_, Some(prompt)) => self.text("fewshot.prompt", prompt, row)?,
            (None, None) => self.text("prompt", &self.spec.prompt, row)?,
        };
        Ok(Example {
            question,
            answer: self.answer(row, fewshot.and_then(|fewshot| fewshot.target.as_deref()))?,
            prefix: self.answer_prefix(row)?,
        })
    }

    fn answer_prefix(&self, row: &Bound) -> Result<Option<String>> {
        match &self.spec.answer_prefix {
            Some(prefix) => self
                .text("answer_prefix", prefix, row)
                .map(|prefix| Some(prefix).filter(|prefix| !prefix.is_empty())),
            None => Ok(None),
        }
    }

    /// The item of a row with its examples.
    pub(super) fn item(
        &self,
        row: &Row,
        bound: &Bound,
        examples: &[Example],
        scorer: Option<&dyn Scorer>,
    ) -> Result<Item> {
        let choices = self.choices(bound)?;
        let gold = self.gold(bound)?;
        let requests = match self.spec.mode {
            Mode::MultipleChoice | Mode::Rank => {
                self.choice_requests(bound, choices.as_deref(), examples, scorer)?
            }
            Mode::Reward => self.reward_requests(bound, choices.as_deref(), examples)?,
            Mode::Loglikelihood => {
                let question = self.text("prompt", &self.spec.prompt, bound)?;
                vec![Request::Loglikelihood {
                    context: self.context(bound, &question, examples, scorer)?,
                    continuation: self.answer(bound, None)?,
                }]
            }
            Mode::Rolling => vec![Request::Rolling {
                text: self.text("prompt", &self.spec.prompt, bound)?,
            }],
            Mode::Generate | Mode::Chat => {
                let input = self.input(bound, examples)?;
                vec![self.generation(input, Vec::new())]
            }
            Mode::MultiTurn => {
                let turns = self.spec.turns.as_deref().unwrap_or_default();
                let mut turns = self.texts("turns", turns, bound)?.into_iter();
                let first = turns
                    .next()
                    .ok_or_else(|| self.bad_row(bound, "there is no turn".to_owned()))?;
                let mut messages = self.system_message(bound)?;
                messages.push(Message::user(first));
                vec![self.generation(Input::Messages(messages), turns.collect())]
            }
        };
        let gold = match gold {
            Some(gold) => gold,
            None if matches!(self.spec.mode, Mode::Rank | Mode::Reward) => Json::from(0),
            None if self.spec.target.is_some() => Json::from(self.answer(bound, None)?),
            None => Json::Null,
        };
        Ok(Item {
            index: bound.index,
            row: row.clone(),
            requests,
            gold,
        })
    }

    fn choice_requests(
        &self,
        row: &Bound,
        choices: Option<&[String]>,
        examples: &[Example],
        scorer: Option<&dyn Scorer>,
    ) -> Result<Vec<Request>> {
        let delimiter = if self.chat.is_none() {
            self.spec.delimiter.as_str()
        } else {
            // The template has said where the answer begins; a prefix of the answer takes that away again.
            match self.answer_prefix(row)? {
                Some(prefix) if !prefix.ends_with(char::is_whitespace) => &self.spec.delimiter,
                _ => "",
            }
        };
        if let Some(contexts) = &self.spec.contexts {
            let target = self.answer(row, None)?;
            return self
                .texts("contexts", contexts, row)?
                .iter()
                .map(|context| {
                    Ok(Request::Loglikelihood {
                        context: self.context_alone(row, context, examples, scorer)?,
                        continuation: format!("{delimiter}{target}"),
                    })
                })
                .collect();
        }
        let choices = choices.unwrap_or_default();
        if choices.is_empty() {
            return Err(self.bad_row(row, "there are no choices".to_owned()));
        }
        let question = self.text("prompt", &self.spec.prompt, row)?;
        let context = self.context(row, &question, examples, scorer)?;
        let mut requests: Vec<Request> = choices
            .iter()
            .map(|choice| Request::Loglikelihood {
                context: context.clone(),
                continuation: format!("{delimiter}{choice}"),
            })
            .collect();
        if self.unconditional {
            requests.extend(choices.iter().map(|choice| Request::Loglikelihood {
                context: "".into(),
                continuation: format!("{delimiter}{choice}"),
            }));
        }
        Ok(requests)
    }

    /// Each choice as the answer that ends the conversation.
    fn reward_requests(
        &self,
        row: &Bound,
        choices: Option<&[String]>,
        examples: &[Example],
    ) -> Result<Vec<Request>> {
        let said = match self.input(row, examples)? {
            Input::Messages(messages) => messages,
            Input::Prompt(parts) => vec![Message::user(join(&parts))],
            Input::Ids(_) => Vec::new(),
        };
        let choices = choices.unwrap_or_default();
        if choices.is_empty() {
            return Err(self.bad_row(row, "there are no choices".to_owned()));
        }
        let ended = |choice: &String| Request::Reward {
            messages: [&said[..], &[Message::assistant(choice)]].concat(),
        };
        Ok(choices.iter().map(ended).collect())
    }

    fn generation(&self, input: Input, follow_ups: Vec<String>) -> Request {
        let spec = self.spec;
        let mut sampling = if spec.temperature > 0.0 {
            let mut sampling = SamplingParams::default();
            sampling.temperature = spec.temperature;
            sampling.top_p = spec.top_p;
            sampling
        } else {
            SamplingParams::greedy()
        };
        let separator = match &spec.fewshot {
            Some(fewshot) => fewshot.separator.clone(),
            None => "\n\n".to_owned(),
        };
        // Without a word on it the peer stops where the next example would begin.
        sampling.stop = match &spec.stop {
            Some(stop) => stop.clone(),
            None if spec.mode == Mode::Generate => vec![separator],
            None => Vec::new(),
        };
        sampling.max_new_tokens = Some(spec.max_tokens);
        Request::Generate {
            input,
            sampling,
            samples: spec.samples,
            follow_ups,
        }
    }

    fn input(&self, row: &Bound, examples: &[Example]) -> Result<Input> {
        if let Some(expression) = &self.spec.messages {
            let value = self.value("messages", expression, row)?;
            let messages: Vec<Message> = json(&value)
                .and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string()))
                .map_err(|what| self.failed("messages", row, what))?;
            let mut all = self.system_message(row)?;
            all.extend(messages);
            return Ok(Input::Messages(all));
        }
        let question = self.text("prompt", &self.spec.prompt, row)?;
        let turns = self.turns(row, &question, true, examples)?;
        if self.chat.is_some() || self.spec.mode == Mode::Chat {
            return Ok(Input::Messages(messages(self.as_wanted(turns))));
        }
        Ok(Input::Prompt(vec![Part::text(joined(&turns))]))
    }

    fn context(
        &self,
        row: &Bound,
        question: &str,
        examples: &[Example],
        scorer: Option<&dyn Scorer>,
    ) -> Result<Tokens> {
        let turns = self.turns(row, question, true, examples)?;
        self.rendered(turns, scorer)
    }

    /// The context of a task whose choices are contexts: nothing follows the question.
    fn context_alone(
        &self,
        row: &Bound,
        question: &str,
        examples: &[Example],
        scorer: Option<&dyn Scorer>,
    ) -> Result<Tokens> {
        let turns = self.turns(row, question, false, examples)?;
        self.rendered(turns, scorer)
    }

    /// With a chat template its special tokens are markers; what the rows say never becomes one.
    fn rendered(&self, turns: Vec<Turn>, scorer: Option<&dyn Scorer>) -> Result<Tokens> {
        match (self.chat, scorer) {
            (Some(_), Some(scorer)) => {
                let answering = turns.last().is_none_or(|turn| turn.role != Role::Assistant);
                let messages = messages(self.as_wanted(turns));
                Ok(scorer.render_chat(&messages, &[], answering)?.into())
            }
            _ => Ok(joined(&turns).into()),
        }
    }

    /// Description, examples and question.
    fn turns(
        &self,
        row: &Bound,
        question: &str,
        delimited: bool,
        examples: &[Example],
    ) -> Result<Vec<Turn>> {
        let spec = self.spec;
        let fewshot = spec.fewshot.as_ref();
        let separator = fewshot.map_or("\n\n", |fewshot| fewshot.separator.as_str());
        let between = fewshot
            .and_then(|fewshot| fewshot.delimiter.as_deref())
            .unwrap_or(&spec.delimiter);
        let mut turns = Vec::new();
        let description = self.text("description", &spec.description, row)?;
        let system = self.chat.and_then(|chat| chat.system.as_deref());
        let system = delimit(system.unwrap_or_default(), &description, separator);
        if !system.is_empty() {
            turns.push(Turn::new(Role::System, system, ""));
        }
        for example in examples {
            let answered = !example.answer.is_empty();
            let after = match &example.prefix {
                None if answered => between,
                Some(prefix) if needs_delimiter(&example.question, prefix) => between,
                _ => "",
            };
            turns.push(Turn::new(Role::User, &example.question, after));
            let prefix = example.prefix.as_deref().unwrap_or_default();
            if answered {
                let answer = delimit(prefix, &example.answer, " ");
                turns.push(Turn::new(Role::Assistant, answer, separator));
            } else if !prefix.is_empty() {
                turns.push(Turn::new(Role::Assistant, prefix, ""));
            }
        }
        match self.answer_prefix(row)? {
            Some(prefix) => {
                let after = if delimited && needs_delimiter(question, &prefix) {
                    spec.delimiter.as_str()
                } else {
                    ""
                };
                turns.push(Turn::new(Role::User, question, after));
                turns.push(Turn::new(Role::Assistant, prefix, ""));
            }
            None => turns.push(Turn::new(Role::User, question, "")),
        }
        Ok(turns)
    }

    /// The turns as they are, or one of the user for all.
    fn as_wanted(&self, turns: Vec<Turn>) -> Vec<Turn> {
        if self.chat.is_some_and(|chat| chat.multi_turn) {
            turns
        } else {
            folded(turns)
        }
    }

    fn system_message(&self, row: &Bound) -> Result<Vec<Message>> {
        let description = self.text("description", &self.spec.description, row)?;
        let system = self.chat.and_then(|chat| chat.system.as_deref());
        let system = delimit(system.unwrap_or_default(), &description, "\n\n");
        Ok(if system.is_empty() {
            Vec::new()
        } else {
            vec![Message::system(system)]
        })
    }
}

/// An example as it stands in a prompt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Example {
    question: String,
    answer: String,
    prefix: Option<String>,
}
