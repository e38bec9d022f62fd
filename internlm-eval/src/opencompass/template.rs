//! A task's templates.

use serde::{Deserialize, Serialize};

use super::field::python_str;
use super::prompt::{Entry, Piece, Prompt, Section};
use crate::error::{Error, Result};
use crate::item::Row;

/// A template of prompts: of an item, or of an in-context example.
///
/// In TOML it has exactly one of `text`, `round` (with `begin` and `end`) and `labels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptTemplate {
    /// A string template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of a dialogue: what stands before the rounds, in examples left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub begin: Vec<Entry>,
    /// Of a dialogue: its turns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub round: Vec<Entry>,
    /// Of a dialogue: what stands after the rounds, in examples left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub end: Vec<Entry>,
    /// One template per label, in the order of the labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<LabelTemplate>,
    /// Where the in-context examples go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ice_token: Option<String>,
    /// What separates context and answer where the score is normalised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sep_token: Option<String>,
}

/// The template of one label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelTemplate {
    /// The label, as Python's `str` writes it.
    pub label: String,
    /// A string template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// As in [`PromptTemplate::begin`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub begin: Vec<Entry>,
    /// As in [`PromptTemplate::round`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub round: Vec<Entry>,
    /// As in [`PromptTemplate::end`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub end: Vec<Entry>,
}

/// What one prompt is made of.
struct Body<'a> {
    text: Option<&'a str>,
    begin: &'a [Entry],
    round: &'a [Entry],
    end: &'a [Entry],
}

impl Body<'_> {
    fn prompt(&self, example: bool) -> Prompt {
        if let Some(text) = self.text {
            return Prompt::Text(text.to_owned());
        }
        let mut pieces = Vec::new();
        let mut add = |section, entries: &[Entry]| {
            pieces.push(Piece::Open(section));
            pieces.extend(entries.iter().cloned().map(Piece::Entry));
            pieces.push(Piece::Close(section));
        };
        if example {
            add(Section::Example, self.round);
        } else {
            if !self.begin.is_empty() {
                add(Section::Begin, self.begin);
            }
            add(Section::Round, self.round);
            if !self.end.is_empty() {
                add(Section::End, self.end);
            }
        }
        Prompt::Dialogue(pieces)
    }
}

impl PromptTemplate {
    /// Checks what OpenCompass checks: one kind of template, the token of the examples in every string.
    ///
    /// # Errors
    /// No template or more than one, a label twice, a missing token.
    pub fn check(&self) -> Result<()> {
        let dialogue = !(self.begin.is_empty() && self.round.is_empty() && self.end.is_empty());
        let kinds = [self.text.is_some(), dialogue, !self.labels.is_empty()];
        if kinds.iter().filter(|kind| **kind).count() != 1 {
            return Err(Error::Prompt(
                "a template has exactly one of `text`, `round` and `labels`".into(),
            ));
        }
        for (i, label) in self.labels.iter().enumerate() {
            if self.labels[..i].iter().any(|l| l.label == label.label) {
                return Err(Error::Prompt(format!(
                    "the label {:?} has two templates",
                    label.label
                )));
            }
            if label.text.is_some() != label.round.is_empty() {
                return Err(Error::Prompt(format!(
                    "the label {:?} must have either `text` or `round`",
                    label.label
                )));
            }
        }
        if let Some(token) = &self.ice_token {
            let texts = self.labels.iter().filter_map(|label| label.text.as_ref());
            for text in self.text.iter().chain(texts) {
                if !text.contains(token) {
                    return Err(Error::Prompt(format!("{token:?} is not in {text:?}")));
                }
            }
        }
        Ok(())
    }

    /// The labels that have templates of their own.
    pub fn label_names(&self) -> Vec<String> {
        self.labels.iter().map(|l| l.label.clone()).collect()
    }

    /// Whether it is one dialogue for all labels. Examples of such a template are joined without separators.
    pub fn is_dialogue(&self) -> bool {
        self.text.is_none() && self.labels.is_empty()
    }

    fn body(&self, label: Option<&str>) -> Result<Body<'_>> {
        if self.labels.is_empty() {
            return Ok(Body {
                text: self.text.as_deref(),
                begin: &self.begin,
                round: &self.round,
                end: &self.end,
            });
        }
        let template = match label {
            Some(label) => self.labels.iter().find(|l| l.label == label),
            None => self.labels.first(),
        };
        let template = template
            .ok_or_else(|| Error::Prompt(format!("no template for the label {label:?}")))?;
        Ok(Body {
            text: template.text.as_deref(),
            begin: &template.begin,
            round: &template.round,
            end: &template.end,
        })
    }

    /// An in-context example. A separator of context and answer stays in it, as upstream.
    ///
    /// # Errors
    /// No template for the row's label.
    pub fn example(&self, row: &Row, label: &str) -> Result<Prompt> {
        let mut prompt = self.body(Some(label))?.prompt(true);
        if let Some(token) = &self.ice_token {
            prompt = prompt.without(token);
        }
        Ok(prompt.fill(row))
    }

    /// The prompt of an item whose answer is `label`.
    ///
    /// # Errors
    /// No template for the label, examples that can't stand where their token does.
    pub fn labelled(
        &self,
        row: &Row,
        examples: &Prompt,
        label: &str,
        keep_separator: bool,
    ) -> Result<Prompt> {
        let mut prompt = self.body(Some(label))?.prompt(false);
        if let Some(token) = self.sep_token.as_ref().filter(|_| !keep_separator) {
            prompt = prompt.without(token);
        }
        if let Some(token) = &self.ice_token {
            prompt = prompt.replace(token, examples)?;
        }
        Ok(prompt.fill(row))
    }

    /// The prompt of an item whose answer is to be generated: the output column is replaced by `answer`, so that a
    /// template that names it does not tell it. Of templates per label the first is taken.
    ///
    /// # Errors
    /// Examples that can't stand where their token does.
    pub fn open(
        &self,
        row: &Row,
        examples: &Prompt,
        output_column: Option<&str>,
        answer: &str,
    ) -> Result<Prompt> {
        let mut prompt = self.body(None)?.prompt(false);
        if let Some(token) = &self.ice_token {
            prompt = prompt.replace(token, examples)?;
        }
        if let Some(token) = &self.sep_token {
            prompt = prompt.without(token);
        }
        Ok(match output_column {
            Some(column) => {
                let mut row = row.clone();
                row.insert(column.to_owned(), answer.into());
                prompt.fill(&row)
            }
            None => prompt.fill(row),
        })
    }
}

/// The label of a row: its output column, as Python's `str` writes it.
pub(crate) fn label_of(row: &Row, output_column: &str) -> Result<String> {
    row.get(output_column)
        .map(python_str)
        .ok_or_else(|| Error::Prompt(format!("the row has no column {output_column:?}")))
}
