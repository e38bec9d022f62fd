//! What a task file says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::metric::MetricSpec;
use crate::data::{Format, Records};
use crate::item::Row;

/// A task as data: a TOML file.
///
/// *Text* below means a template that gives a text, *expression* one that gives a value (the crate's guide to templates
/// is in the README). Templates see the columns of the row after its preparation, `subset` (a member of
/// [`subsets`](TaskSpec::subsets)) and `few_shot`, which is true while an example is rendered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// The task's name; a text that may use `subset`.
    pub name: String,
    /// Whose rules are followed.
    #[serde(default)]
    pub rules: Rules,
    /// The version of the rules' own task, for reports.
    #[serde(default)]
    pub version: String,
    /// What the task is and whose data it takes, in a line or two.
    #[serde(default)]
    pub about: String,
    /// How the model is asked.
    pub mode: Mode,
    /// Where the rows come from.
    #[serde(default)]
    pub data: DataSpec,
    /// One task for each: subjects or subtasks that share all the rest. The member `id` is needed.
    #[serde(default, rename = "subset", skip_serializing_if = "Vec::is_empty")]
    pub subsets: Vec<Row>,
    /// What is done to each row before it is used; examples go the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepare: Vec<Step>,
    /// Text before everything else.
    #[serde(default)]
    pub description: String,
    /// The question of an item; text.
    #[serde(default)]
    pub prompt: String,
    /// Several contexts in place of one (WinoGrande): an expression that gives a list of texts. The target follows each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contexts: Option<String>,
    /// The messages of a conversation in place of a prompt: an expression that gives a list of `{role, content}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    /// What the user says turn after turn: an expression that gives a list of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<String>,
    /// The choices: texts, or an expression that gives a list of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Choices>,
    /// The right answer: an expression that gives the number of a choice, its text, or a list of either; for other modes
    /// whatever the metrics want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<String>,
    /// The answer as it stands in an example and as the continuation of `loglikelihood`; text. By default the gold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What the answer begins with, given to the model (`gen_prefix`); text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_prefix: Option<String>,
    /// Between question and answer.
    #[serde(default = "space")]
    pub delimiter: String,
    /// In-context examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fewshot: Option<FewshotSpec>,
    /// Generation stops at these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Vec<String>>,
    /// Most new tokens.
    #[serde(default = "max_tokens")]
    pub max_tokens: usize,
    /// Sampling temperature; greedy if 0.
    #[serde(default)]
    pub temperature: f32,
    /// Nucleus, with a temperature.
    #[serde(default = "one")]
    pub top_p: f32,
    /// Answers per item.
    #[serde(default = "once")]
    pub samples: usize,
    /// Ways to take the answer out of a generated text; one that takes it as it is if there are none.
    #[serde(default, rename = "filter", skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FilterSpec>,
    /// What is measured; by default what the mode is known for.
    #[serde(default, rename = "metric", skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricSpec>,
    /// The metric whose yes or no is the item's, as it stands in a report; the first by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_metric: Option<String>,
    /// Names of the groups that the task is part of; texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// How groups of subsets are summed up.
    #[serde(default, rename = "group", skip_serializing_if = "Vec::is_empty")]
    pub group_specs: Vec<GroupSpec>,
    /// Rows made rather than read: a needle in a haystack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needle: Option<super::needle::NeedleSpec>,
    /// Prompts, examples and judging by the rules `opencompass`, in place of `prompt`, `choices`, `gold`, `fewshot`,
    /// `filter` and `metric`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opencompass: Option<crate::opencompass::Spec>,
}

/// Whose rules of prompts, scores and metrics are followed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// lm-evaluation-harness 0.4.13.
    #[default]
    LmEval,
    /// OpenCompass.
    Opencompass,
    /// The rules of this crate, for what the two do not have. Prompts are made as for `lm-eval`.
    Internlm,
}

impl Rules {
    /// The name in task files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Rules::LmEval => "lm-eval",
            Rules::Opencompass => "opencompass",
            Rules::Internlm => "internlm",
        }
    }
}

/// How the model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The log-likelihood of each choice.
    MultipleChoice,
    /// The log-likelihood of the target.
    Loglikelihood,
    /// The log-likelihood of the prompt as a whole text, in windows.
    Rolling,
    /// A text that continues the prompt.
    Generate,
    /// An answer in a conversation, by the model's chat template.
    Chat,
    /// Answers to several turns of a user.
    MultiTurn,
    /// Candidates to be ranked by log-likelihood; the first of `choices` is to be preferred to all others.
    Rank,
    /// Candidates to be ranked by a reward model, each as the answer that ends the conversation; the first of `choices`
    /// is to be preferred to all others.
    Reward,
}

impl Mode {
    /// The name in task files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::MultipleChoice => "multiple_choice",
            Mode::Loglikelihood => "loglikelihood",
            Mode::Rolling => "rolling",
            Mode::Generate => "generate",
            Mode::Chat => "chat",
            Mode::MultiTurn => "multi_turn",
            Mode::Rank => "rank",
            Mode::Reward => "reward",
        }
    }

    /// Whether the model writes.
    pub fn generates(self) -> bool {
        matches!(self, Mode::Generate | Mode::Chat | Mode::MultiTurn)
    }
}

/// Choices as templates or as one expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Choices {
    /// An expression that gives a list of texts.
    Expression(String),
    /// Texts.
    Texts(Vec<String>),
}

/// Where rows come from. Paths are below the folder that a run names, and texts that may use `subset`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSpec {
    /// The split that is evaluated.
    pub split: Option<String>,
    /// One file, if there is one split.
    pub file: Option<String>,
    /// Files of each split; the first that exists counts. `*` in the last part of a path stands for anything.
    pub files: BTreeMap<String, Vec<String>>,
    /// Repositories of the hub with this data (`allenai/ai2_arc`): their usual layouts below the folder are looked for too.
    pub hub: Vec<String>,
    /// The hub's configuration (`ARC-Easy`); text.
    pub config: Option<String>,
    /// The split's name on the hub where it is another one.
    pub hub_splits: BTreeMap<String, String>,
    /// The format, where the extension does not say it.
    pub format: Option<Format>,
    /// Names of the columns of CSV files without a head line.
    pub header: Option<Vec<String>>,
    /// Keys that lead to the rows in a JSON file.
    pub records: Vec<String>,
    /// Names for the members of rows that are arrays.
    pub fields: Option<Vec<String>>,
    /// A column that holds lists of objects: each of them becomes a row, with the other columns (C3 asks several questions
    /// on one text).
    pub explode: Option<String>,
    /// How plain text is cut.
    pub text: Records,
    /// Columns that lie in files of their own, a line for each row; read if the data has no such column. Texts that may
    /// use `split`.
    pub beside: BTreeMap<String, Vec<String>>,
    /// Known sets of columns; the first whose columns are all there is the file's. Any if there are none.
    #[serde(rename = "layout")]
    pub layouts: Vec<Layout>,
}

/// One way in which a data set's columns are called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// A name for errors: `hub`, `local`, ...
    pub name: String,
    /// Columns that it has.
    pub columns: Vec<String>,
    /// What makes these columns those that the task's templates use.
    #[serde(default)]
    pub prepare: Vec<Step>,
}

/// A step of the preparation of a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// The column that is set.
    pub set: Option<String>,
    /// Its new content as a text.
    pub text: Option<String>,
    /// Its new content as an expression.
    pub value: Option<String>,
    /// An expression that gives a list: the step makes a list, a member each; templates see it as `it` with its number
    /// `index`.
    pub each: Option<String>,
    /// An expression; the row is left out where it is true.
    pub skip_if: Option<String>,
    /// An expression; the step is done only where it is true.
    pub when: Option<String>,
    /// The content is JSON written in a text (CSV has no lists) and is read.
    pub parse_json: bool,
}

/// In-context examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FewshotSpec {
    /// How many, unless the run says otherwise.
    #[serde(default)]
    pub shots: usize,
    /// The split that they are taken from; by default the evaluated one.
    #[serde(default)]
    pub split: Option<String>,
    /// The examples themselves, in place of a split.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Row>,
    /// The name of a text of examples that comes with the crate, cut to rows `{question, answer}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundled: Option<String>,
    /// How they are chosen.
    #[serde(default)]
    pub sampler: Sampler,
    /// Of the random sampler; lm-evaluation-harness's default is 1234.
    #[serde(default = "seed")]
    pub seed: i64,
    /// Rows of the fixed sampler.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<usize>,
    /// One more example is drawn than needed, and the evaluated row left out: lm-evaluation-harness does so where the
    /// pool is the evaluated split, and where a task has neither a split of examples nor a test split.
    #[serde(default)]
    pub leave_self_out: bool,
    /// The examples are not prepared as rows are.
    #[serde(default)]
    pub prepared: bool,
    /// The question of an example, where it is another one; text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The answer of an example, where it is another one; text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Between question and answer of an example, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// After an example.
    #[serde(default = "blank_line")]
    pub separator: String,
    /// What BM25 compares; text. By default the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// How examples are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// None at all.
    Zero,
    /// The first ones.
    FirstN,
    /// Those of `ids`.
    Fixed,
    /// CPython's `random.sample`; one generator runs on over the items in their order.
    #[default]
    Random,
    /// Those most like the item by Okapi BM25, the most alike first.
    Bm25,
}

/// A way to take the answer out of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterSpec {
    /// Its name in reports, such as `strict-match`.
    pub name: String,
    /// What is done, one after the other: a name, or a table with a name and its options.
    pub steps: Vec<FilterStep>,
}

/// One step of a filter: `"take_first"` or `{ regex = { pattern = "..." } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FilterStep {
    /// A filter without options.
    Name(String),
    /// A filter with options.
    Options(BTreeMap<String, Value>),
}

/// How a group of tasks is summed up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// The group's name.
    pub name: String,
    /// The metrics that are summed up.
    pub metrics: Vec<String>,
    /// How.
    #[serde(default)]
    pub weight: GroupWeight,
}

/// The weight of a member of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupWeight {
    /// The number of its items.
    #[default]
    Items,
    /// All the same.
    Equal,
}

fn space() -> String {
    " ".to_owned()
}

fn blank_line() -> String {
    "\n\n".to_owned()
}

fn max_tokens() -> usize {
    256
}

fn one() -> f32 {
    1.0
}

fn once() -> usize {
    1
}

fn seed() -> i64 {
    1234
}
