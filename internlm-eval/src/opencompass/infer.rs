//! Items of a task: prompts with their examples, and what is asked of the model.

use internlm_core::message::join;
use internlm_core::scorer::Tokens;
use internlm_core::{Part, SamplingParams, Scorer};
use serde_json::Value;

use super::dialect::{Dialect, Rendered};
use super::meta_template::Mode;
use super::prompt::{Piece, Prompt};
use super::spec::{Inferencer, Spec};
use super::template::label_of;
use crate::error::{Error, Result};
use crate::item::{Item, Request, Row};

/// Most new tokens where neither the task nor the run says it.
pub const MAX_OUT_LEN: usize = 1024;

/// What a run says about every OpenCompass task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InferOptions {
    /// How prompts reach the model.
    pub dialect: Dialect,
    /// Examples are dropped from the end until the prompt has no more tokens than this; the model's context length if
    /// None.
    pub max_seq_len: Option<usize>,
    /// Most new tokens where the task does not say it.
    pub max_out_len: Option<usize>,
    /// Score the shared continuation as upstream's newer wrapper does, whatever the task says.
    pub upstream_quirk: bool,
}

/// Makes the items of one task.
pub struct Prompter<'a> {
    spec: &'a Spec,
    options: &'a InferOptions,
    index: &'a [Row],
    scorer: Option<&'a dyn Scorer>,
    limit: Option<usize>,
}

impl<'a> Prompter<'a> {
    /// `index` are the rows that examples are taken from. Without a `scorer` no example is dropped.
    pub fn new(
        spec: &'a Spec,
        options: &'a InferOptions,
        index: &'a [Row],
        scorer: Option<&'a dyn Scorer>,
    ) -> Self {
        let limit = scorer.map(|scorer| {
            options
                .max_seq_len
                .unwrap_or(usize::MAX)
                .min(match scorer.facts().context_length {
                    0 => usize::MAX,
                    length => length,
                })
        });
        Self {
            spec,
            options,
            index,
            scorer,
            limit,
        }
    }

    /// The items of these rows, given with their numbers in the split.
    ///
    /// # Errors
    /// A row or a template that can't be rendered; scores that need a tokenizer without one.
    pub fn items(&self, rows: &[(usize, Row)]) -> Result<Vec<Item>> {
        self.spec.check()?;
        let items: Vec<Row> = rows.iter().map(|(_, row)| row.clone()).collect();
        let examples =
            self.spec
                .retriever
                .retrieve(self.index, &items, &self.spec.input_columns)?;
        let labels = self.labels(&items)?;
        rows.iter()
            .zip(examples)
            .map(|((index, row), examples)| self.item(*index, row, examples, &labels))
            .collect()
    }

    /// The labels of a task that compares them: given ones, those of the templates, else all answers that occur.
    ///
    /// # Errors
    /// Rows without the output column.
    pub fn labels(&self, rows: &[Row]) -> Result<Vec<String>> {
        let given = match &self.spec.inferencer {
            Inferencer::Ppl { labels, .. } | Inferencer::Ll { labels, .. } => labels.clone(),
            Inferencer::Clp | Inferencer::Gen { .. } => return Ok(Vec::new()),
        };
        if let Some(labels) = given {
            return Ok(labels);
        }
        let templates = [&self.spec.prompt_template, &self.spec.ice_template];
        for template in templates.into_iter().flatten() {
            if !template.labels.is_empty() {
                return Ok(template.label_names());
            }
        }
        let mut labels: Vec<String> = Vec::new();
        for row in rows {
            let label = label_of(row, self.output_column()?)?;
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        Ok(labels)
    }

    fn output_column(&self) -> Result<&str> {
        self.spec
            .output_column
            .as_deref()
            .ok_or_else(|| Error::Prompt("there is no `output_column`".into()))
    }

    fn item(
        &self,
        index: usize,
        row: &Row,
        mut examples: Vec<usize>,
        labels: &[String],
    ) -> Result<Item> {
        let requests = match &self.spec.inferencer {
            Inferencer::Ppl {
                normalizing_str, ..
            } => {
                let labels = self.spec.labels_of(row, labels);
                self.ppl_requests(row, &mut examples, &labels, normalizing_str.as_deref())?
            }
            Inferencer::Ll { upstream_quirk, .. } => {
                let quirk = *upstream_quirk || self.options.upstream_quirk;
                self.ll_requests(row, &mut examples, labels, quirk)?
            }
            Inferencer::Clp => self.clp_requests(row, &mut examples)?,
            Inferencer::Gen {
                max_out_len,
                stopping_criteria,
                gen_field_replace_token,
            } => {
                let prompt = self.open_prompt(row, &mut examples, gen_field_replace_token, 0)?;
                let most = max_out_len
                    .or(self.options.max_out_len)
                    .unwrap_or(MAX_OUT_LEN);
                let mut sampling = SamplingParams::greedy();
                sampling.max_new_tokens = Some(most);
                sampling.stop.clone_from(stopping_criteria);
                vec![Request::Generate {
                    input: prompt.into_input(),
                    sampling,
                    samples: 1,
                    follow_ups: Vec::new(),
                }]
            }
        };
        let gold = self.spec.output_column.as_deref();
        let gold = gold.and_then(|column| row.get(column)).cloned();
        Ok(Item {
            index,
            row: row.clone(),
            requests,
            gold: gold.unwrap_or(Value::Null),
        })
    }

    /// The examples as one prompt: dialogues one after the other, else joined and ended by line breaks.
    fn examples(&self, ids: &[usize]) -> Result<Prompt> {
        let (mut separator, mut end) = self.spec.retriever.separators();
        let Some(template) = &self.spec.ice_template else {
            return Ok(Prompt::Text(end.to_owned()));
        };
        if template.is_dialogue() {
            (separator, end) = ("", "");
        }
        let mut texts = Vec::new();
        let mut pieces = Vec::new();
        for id in ids {
            let row = self.index.get(*id).ok_or_else(|| {
                Error::Prompt(format!("there is no row {id} to take an example from"))
            })?;
            match template.example(row, &label_of(row, self.output_column()?)?)? {
                Prompt::Text(text) => texts.push(text),
                Prompt::Dialogue(dialogue) => {
                    pieces.extend(dialogue);
                    if !separator.is_empty() {
                        pieces.push(Piece::text(separator));
                    }
                }
            }
        }
        if pieces.is_empty() {
            return Ok(Prompt::Text(texts.join(separator) + end));
        }
        pieces.push(Piece::text(end));
        Ok(Prompt::Dialogue(pieces))
    }

    /// Renders with fewer and fewer examples until the prompt fits; `reserve` tokens must stay free.
    fn fitted<T>(
        &self,
        examples: &mut Vec<usize>,
        reserve: usize,
        make: impl Fn(&Prompt) -> Result<(T, Rendered)>,
    ) -> Result<T> {
        loop {
            let (made, rendered) = make(&self.examples(examples)?)?;
            let (Some(limit), Some(scorer)) = (self.limit, self.scorer) else {
                return Ok(made);
            };
            if examples.is_empty()
                || self.options.dialect.count(&rendered, scorer)? + reserve <= limit
            {
                return Ok(made);
            }
            examples.pop();
        }
    }

    fn labelled_prompt(
        &self,
        row: &Row,
        examples: &mut Vec<usize>,
        label: &str,
        keep_separator: bool,
    ) -> Result<Rendered> {
        let template = self.spec.item_template()?;
        self.fitted(examples, 0, |examples| {
            let prompt = template.labelled(row, examples, label, keep_separator)?;
            let rendered = self.options.dialect.render(&prompt, Mode::Ppl)?;
            Ok((rendered.clone(), rendered))
        })
    }

    fn open_prompt(
        &self,
        row: &Row,
        examples: &mut Vec<usize>,
        answer: &str,
        reserve: usize,
    ) -> Result<Rendered> {
        let template = self.spec.item_template()?;
        let output = self.spec.output_column.as_deref();
        self.fitted(examples, reserve, |examples| {
            let prompt = template.open(row, examples, output, answer)?;
            let rendered = self.options.dialect.render(&prompt, Mode::Gen)?;
            Ok((rendered.clone(), rendered))
        })
    }

    /// The parts of a prompt that is scored, neighbouring texts joined.
    fn scored(&self, rendered: Rendered) -> Result<Vec<Part>> {
        match rendered {
            Rendered::Text(parts) => Ok(match Tokens::from(parts) {
                Tokens::Parts(parts) => parts,
                text => vec![Part::text(text.spelled())],
            }),
            Rendered::Messages(_) => Err(Error::Prompt(
                "a prompt that is scored can't be a list of messages: ask the model without its chat template".into(),
            )),
        }
    }

    fn tokens(&self, parts: &[Part], add_bos: bool) -> Result<usize> {
        let scorer = self.scorer.ok_or_else(|| {
            Error::Prompt("the score needs the model's tokenizer, and there is no model".into())
        })?;
        Ok(scorer.encode_parts(parts, add_bos)?.len())
    }

    fn ppl_requests(
        &self,
        row: &Row,
        examples: &mut Vec<usize>,
        labels: &[String],
        normalizing: Option<&str>,
    ) -> Result<Vec<Request>> {
        let mut requests = Vec::with_capacity(labels.len());
        for label in labels {
            let prompt = self.labelled_prompt(row, examples, label, normalizing.is_some())?;
            let parts = self.scored(prompt)?;
            let Some(normalizing) = normalizing else {
                requests.push(Request::Perplexity {
                    text: parts.into(),
                    mask_length: None,
                });
                continue;
            };
            let token = self.spec.item_template()?.sep_token.as_deref();
            let token = token.ok_or_else(|| {
                Error::Prompt("`normalizing_str` needs a `sep_token` in the template".into())
            })?;
            let (context, answer) = split(&parts, token).ok_or_else(|| {
                Error::Prompt(format!("{token:?} is not in the prompt of {label:?}"))
            })?;
            for context in [context, vec![Part::text(normalizing)]] {
                requests.push(Request::Perplexity {
                    mask_length: Some(self.tokens(&context, true)?),
                    text: [context, answer.clone()].concat().into(),
                });
            }
        }
        Ok(requests)
    }

    fn ll_requests(
        &self,
        row: &Row,
        examples: &mut Vec<usize>,
        labels: &[String],
        quirk: bool,
    ) -> Result<Vec<Request>> {
        let continuation = row
            .get("cont")
            .and_then(Value::as_str)
            .ok_or_else(|| Error::Prompt("the row has no text `cont`".into()))?;
        let mut requests = Vec::with_capacity(labels.len());
        for label in labels {
            let prompt = self.labelled_prompt(row, examples, label, false)?;
            let mut parts = self.scored(prompt)?;
            if quirk {
                let masked = self.tokens(&[Part::text(continuation)], false)?;
                requests.push(Request::Perplexity {
                    text: parts.into(),
                    mask_length: Some(masked),
                });
                continue;
            }
            let context = match parts.last_mut() {
                Some(Part::Text { text }) => text.strip_suffix(continuation).map(str::to_owned),
                _ => None,
            };
            let context = context.ok_or_else(|| {
                let text = join(&parts);
                Error::Prompt(format!("{text:?} does not end in {continuation:?}"))
            })?;
            parts.pop();
            parts.push(Part::text(context));
            requests.push(Request::Loglikelihood {
                context: parts.into(),
                continuation: continuation.to_owned(),
            });
        }
        Ok(requests)
    }

    fn clp_requests(&self, row: &Row, examples: &mut Vec<usize>) -> Result<Vec<Request>> {
        let choices = row.get("choices").and_then(Value::as_array);
        let choices = choices
            .filter(|choices| !choices.is_empty())
            .ok_or_else(|| Error::Prompt("the row has no list `choices`".into()))?;
        let prompt = self.open_prompt(row, examples, "", 1)?;
        let context = Tokens::from(self.scored(prompt)?);
        Ok(choices
            .iter()
            .map(|choice| Request::Loglikelihood {
                context: context.clone(),
                continuation: super::field::python_str(choice),
            })
            .collect())
    }
}

/// What stands before the first text that has the token, and what stands after it, without further ones.
fn split(parts: &[Part], token: &str) -> Option<(Vec<Part>, Vec<Part>)> {
    let found = parts.iter().enumerate().find_map(|(at, part)| match part {
        Part::Text { text } => Some((at, text.split_once(token)?)),
        Part::Marker { .. } => None,
    });
    let (at, (before, after)) = found?;
    let without = |part: &Part| match part {
        Part::Text { text } => Part::text(text.replace(token, "")),
        marker => marker.clone(),
    };
    let context = [&parts[..at], &[Part::text(before)]].concat();
    let rest = parts[at + 1..].iter().map(without);
    let answer = std::iter::once(Part::text(after.replace(token, ""))).chain(rest);
    Some((context, answer.collect()))
}
