//! What a task file says where the rules are OpenCompass's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evaluator::Evaluation;
use super::field::fill;
use super::prompt::Entry;
use super::retriever::Retriever;
use super::template::PromptTemplate;
use crate::error::{Error, Result};
use crate::item::Row;

/// The `[opencompass]` table of a task: what upstream calls `reader_cfg`, `infer_cfg` and `eval_cfg`.
///
/// Every text may name fields of the row as `{column}` and members of the task's subset as `{subset.member}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Upstream's configuration, such as `hellaswag_ppl_47bff9`; empty for a task of one's own.
    #[serde(default)]
    pub config: String,
    /// The columns that upstream's data set has, in order; others of the row are dropped. All if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Columns that the prompt is made of. The BM25 retriever compares them.
    #[serde(default)]
    pub input_columns: Vec<String>,
    /// The column of the right answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_column: Option<String>,
    /// The split that in-context examples are taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_split: Option<String>,
    /// The template of in-context examples, and of items if there is no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice_template: Option<PromptTemplate>,
    /// The template of items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_template: Option<PromptTemplate>,
    /// How in-context examples are chosen.
    #[serde(default)]
    pub retriever: Retriever,
    /// How the model is asked.
    pub inferencer: Inferencer,
    /// How answers are judged.
    #[serde(default)]
    pub evaluation: Evaluation,
}

/// How the model is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Inferencer {
    /// A whole prompt per label; the lowest mean cross entropy wins, of equals the first (`PPLInferencer`).
    Ppl {
        /// The labels, where they are not those of the templates.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        labels: Option<Vec<String>>,
        /// Columns that a label needs: where one is null, the label is left out of the comparison.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        absent: BTreeMap<String, String>,
        /// A context that knows nothing of the question: the score is that of the answer after its context, less
        /// that of the answer after this one. The template needs a `sep_token`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        normalizing_str: Option<String>,
    },
    /// A prompt per label that ends in the row's `cont`; the highest log-likelihood of `cont` wins
    /// (`LLInferencer`).
    Ll {
        /// The labels, where they are not those of the templates.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        labels: Option<Vec<String>>,
        /// Score as upstream's newer wrapper of Hugging Face models does: as many tokens as `cont` has are left out
        /// at the front of the prompt, and the rest is averaged.
        #[serde(default)]
        upstream_quirk: bool,
    },
    /// The probability of each text of the row's `choices` as the next token (`CLPInferencer`).
    Clp,
    /// The model writes (`GenInferencer`).
    Gen {
        /// Most new tokens; what the run says if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_out_len: Option<usize>,
        /// Texts at which it stops.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stopping_criteria: Vec<String>,
        /// What stands in the prompt for the answer.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        gen_field_replace_token: String,
    },
}

impl Default for Inferencer {
    fn default() -> Self {
        Inferencer::Gen {
            max_out_len: None,
            stopping_criteria: Vec::new(),
            gen_field_replace_token: String::new(),
        }
    }
}

impl Inferencer {
    /// Upstream's name of the way of asking, as it stands in summaries.
    pub fn mode(&self) -> &'static str {
        match self {
            Inferencer::Ppl { .. } => "ppl",
            Inferencer::Ll { .. } => "ll",
            Inferencer::Clp => "clp",
            Inferencer::Gen { .. } => "gen",
        }
    }
}

impl Spec {
    /// Checks the templates and that they are enough.
    ///
    /// # Errors
    /// See [`PromptTemplate::check`]; no template, examples without a template or without a place.
    pub fn check(&self) -> Result<()> {
        let templates = [&self.ice_template, &self.prompt_template];
        for template in templates.into_iter().flatten() {
            template.check()?;
        }
        let told = |what: &str| Err(Error::Prompt(what.to_owned()));
        match (&self.ice_template, &self.prompt_template) {
            (None, None) => told("there is no template"),
            (Some(_), Some(prompt)) if prompt.ice_token.is_none() => {
                told("`prompt_template` has no `ice_token`, so that examples have no place in it")
            }
            (Some(ice), None) if ice.ice_token.is_none() => {
                told("`ice_template` has no `ice_token` and there is no `prompt_template`")
            }
            (None, Some(_)) if self.retriever.shots() > 0 => {
                told("the retriever chooses examples, but there is no `ice_template`")
            }
            _ => Ok(()),
        }
    }

    /// The template of an item.
    pub(crate) fn item_template(&self) -> Result<&PromptTemplate> {
        self.prompt_template
            .as_ref()
            .or(self.ice_template.as_ref())
            .ok_or_else(|| Error::Prompt("there is no template".into()))
    }

    /// A row with upstream's columns only.
    pub(crate) fn project(&self, mut row: Row) -> Row {
        if self.columns.is_empty() {
            return row;
        }
        let columns = self.columns.iter();
        columns
            .filter_map(|column| Some((column.clone(), row.remove(column)?)))
            .collect()
    }

    /// The labels that a row has answers for.
    pub(crate) fn labels_of(&self, row: &Row, labels: &[String]) -> Vec<String> {
        let Inferencer::Ppl { absent, .. } = &self.inferencer else {
            return labels.to_vec();
        };
        let has = |label: &&String| {
            let column = absent.get(*label);
            column.is_none_or(|column| row.get(column).is_some_and(|value| !value.is_null()))
        };
        labels.iter().filter(has).cloned().collect()
    }

    /// The task of one subset: `{subset.member}` is replaced in every text.
    #[must_use]
    pub fn with_subset(&self, subset: &Row) -> Spec {
        let members: Row = subset
            .iter()
            .map(|(name, value)| (format!("subset.{name}"), value.clone()))
            .collect();
        let put = |text: &mut String| *text = fill(text, &members);
        let mut spec = self.clone();
        for template in [&mut spec.ice_template, &mut spec.prompt_template] {
            let Some(template) = template else { continue };
            if let Some(text) = &mut template.text {
                put(text);
            }
            let PromptTemplate {
                begin, round, end, ..
            } = template;
            let mut lists = vec![begin, round, end];
            for label in &mut template.labels {
                if let Some(text) = &mut label.text {
                    put(text);
                }
                lists.extend([&mut label.begin, &mut label.round, &mut label.end]);
            }
            for entry in lists.into_iter().flatten() {
                match entry {
                    Entry::Text(text) => put(text),
                    Entry::Turn(turn) => {
                        if let Some(text) = &mut turn.prompt {
                            put(text);
                        }
                    }
                }
            }
        }
        spec
    }
}
