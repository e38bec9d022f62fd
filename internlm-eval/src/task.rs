//! Benchmarks as data.
//!
//! A [`TaskSpec`] is a TOML file; with a folder of data it is a [`Task`], which is a [`Benchmark`]. Adding a benchmark
//! needs no Rust:
//!
//! ```
//! use internlm_eval::{Benchmark, Request, Task, TaskOptions, TaskSpec};
//!
//! let toml = r#"
//! name = "capitals"
//! mode = "multiple_choice"
//! prompt = "Question: What is the capital of {{ country }}?\nAnswer:"
//! choices = "cities"
//! gold = "right"
//! data.file = "capitals.jsonl"
//! fewshot = { shots = 1, leave_self_out = true }
//! metric = [{ name = "acc" }, { name = "acc_norm" }]
//! "#;
//! let folder = tempfile::tempdir()?;
//! let rows = r#"{"country": "France", "cities": ["Paris", "Lyon"], "right": 0}
//! {"country": "Italy", "cities": ["Milan", "Rome"], "right": 1}"#;
//! std::fs::write(folder.path().join("capitals.jsonl"), rows)?;
//!
//! let spec = TaskSpec::from_toml(toml, "capitals.toml".as_ref())?;
//! let task = Task::new(&spec, None, folder.path(), &TaskOptions::default())?;
//! let items = task.items(None)?;
//! let Request::Loglikelihood { context, continuation } = &items[0].requests[0] else { unreachable!() };
//! let italy = "Question: What is the capital of Italy?\nAnswer: Rome";
//! assert_eq!(context.spelled(), format!("{italy}\n\nQuestion: What is the capital of France?\nAnswer:"));
//! assert_eq!(continuation, " Paris");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Built-in files are in the crate's folder `tasks`; [`load`] finds them by name.

pub mod builtin;
mod check;
mod filter;
pub mod group;
mod judge;
mod likeness;
mod load;
pub mod metric;
pub mod needle;
mod opencompass;
pub mod options;
mod prepare;
mod prompt;
mod shots;
pub mod spec;
mod turns;

use std::path::Path;
use std::sync::Arc;

use internlm_core::{CodeExecutor, Scorer};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

pub use builtin::{Loaded, load, load_file};
pub use options::{ChatOptions, TaskOptions};
pub use spec::TaskSpec;

use self::filter::Filter;
use self::load::{Loader, Split};
use self::metric::{MetricKind, MetricSpec};
use self::opencompass::OpenCompass;
use self::prompt::{Example, Prompter};
use self::shots::Shots;
use self::spec::Sampler;
use crate::benchmark::{Benchmark, Identity, Membership, Sample, Score};
use crate::error::{Error, Result};
use crate::hash::{hex, sha256_hex};
use crate::item::{Item, Row};
use crate::template::Templates;

/// A task with its data.
#[derive(Debug)]
pub struct Task {
    spec: Arc<TaskSpec>,
    subset: Option<Row>,
    name: String,
    identity: Identity,
    memberships: Vec<Membership>,
    /// Rows to ask, each with its number in its split.
    rows: Vec<(usize, Row)>,
    /// Rows to take examples from.
    pool: Vec<Row>,
    shots: usize,
    options: TaskOptions,
    templates: Templates,
    filters: Vec<Filter>,
    metrics: Vec<MetricSpec>,
    opencompass: Option<OpenCompass>,
}

impl Task {
    /// A task, or one of its subsets, with the data below a folder.
    ///
    /// # Errors
    /// A task file that is wrong, no data, data that cannot be read or has other columns, too few examples.
    pub fn new(
        spec: &Arc<TaskSpec>,
        subset: Option<&str>,
        folder: &Path,
        options: &TaskOptions,
    ) -> Result<Self> {
        let templates = Templates::new();
        let subset = spec.subset(subset)?;
        let name = spec.name_of(subset.as_ref(), &templates)?;
        let loader = Loader {
            spec,
            task: &name,
            subset: subset.as_ref(),
            templates: &templates,
            folder,
            options,
        };
        let mut hash = Sha256::new();
        let split = spec.split();
        let mut opencompass = OpenCompass::new(&name, spec, subset.as_ref(), options)?;
        let shots = match &opencompass {
            Some(rules) => rules.shots(),
            None => shots_of(spec, options),
        };
        let pool_split = spec
            .fewshot
            .as_ref()
            .filter(|fewshot| shots > 0 && fewshot.examples.is_empty() && fewshot.bundled.is_none())
            .map(|fewshot| fewshot.split.clone().unwrap_or_else(|| split.to_owned()));
        let pool_split = match &opencompass {
            Some(rules) => rules.index_split().map(str::to_owned),
            None => pool_split,
        };
        let evaluated = match &spec.needle {
            Some(needle) => needle.rows(folder, &name)?,
            None => loader.split(split, read_limit(spec, options, pool_split.as_deref()))?,
        };
        hash.update(evaluated.hash.as_bytes());
        let mut pool = match &pool_split {
            Some(pool) if pool == split => {
                evaluated.rows.iter().map(|(_, row)| row.clone()).collect()
            }
            Some(pool) => {
                let pool = loader.split(pool, pool_limit(spec, shots))?;
                hash.update(pool.hash.as_bytes());
                pool.rows.into_iter().map(|(_, row)| row).collect()
            }
            None => own_examples(spec, subset.as_ref(), &loader, shots)?,
        };
        let mut rows = chosen(evaluated, options, &name)?;
        if let Some(rules) = &mut opencompass {
            rules.settle(&name, &mut rows, &mut pool)?;
        }
        let metrics = spec.metrics_or_default();
        let filters = Filter::all(&spec.filters).map_err(|(number, what)| Error::TaskFile {
            file: name.clone().into(),
            key: format!("filter[{number}]"),
            what,
        })?;
        let mut groups = Vec::new();
        for (number, group) in spec.groups.iter().enumerate() {
            groups.push(spec.rendered(
                group,
                &format!("groups[{number}]"),
                subset.as_ref(),
                &templates,
            )?);
        }
        // A subset that is not part of a group has no name for it.
        groups.retain(|group| !group.is_empty());
        let memberships = group::memberships(spec, subset.as_ref(), &groups)?;
        let identity = Identity {
            rules: spec.rules.as_str().to_owned(),
            mode: match &opencompass {
                Some(rules) => rules.mode().to_owned(),
                None => spec.mode.as_str().to_owned(),
            },
            shots,
            prompt_hash: match &opencompass {
                Some(rules) => rules.prompt_hash(),
                None => prompt_hash(spec, subset.as_ref(), shots, options),
            },
            data_hash: hex(&hash.finalize()),
            groups,
        };
        Ok(Task {
            spec: Arc::clone(spec),
            subset,
            name,
            identity,
            memberships,
            rows,
            pool,
            shots,
            options: options.clone(),
            templates,
            filters,
            metrics,
            opencompass,
        })
    }

    /// What the task file says.
    pub fn spec(&self) -> &TaskSpec {
        &self.spec
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn prompter(&self) -> Prompter<'_> {
        Prompter {
            spec: &self.spec,
            task: &self.name,
            subset: self.subset.as_ref(),
            templates: &self.templates,
            chat: self.options.chat.as_ref(),
            unconditional: self.asks_unconditionally(),
        }
    }

    /// The choices of an item, as its requests have them but for the delimiter.
    fn rendered_choices(&self, item: &Item) -> Result<Option<Vec<String>>> {
        let prompter = self.prompter();
        prompter.choices(&prompter.bind(item.index, &item.row, false))
    }

    /// The labels that a metric checks against, or the gold.
    fn labels(&self, metric: &MetricSpec, item: &Item) -> Result<Json> {
        match &metric.labels {
            None => Ok(item.gold.clone()),
            Some(expression) => {
                let prompter = self.prompter();
                prompter.json(
                    "metric.labels",
                    expression,
                    &prompter.bind(item.index, &item.row, false),
                )
            }
        }
    }

    /// The text whose units a perplexity is divided by, if it is not the scored one.
    fn counted(&self, metric: &MetricSpec, item: &Item) -> Result<Option<String>> {
        match &metric.counted {
            None => Ok(None),
            Some(text) => {
                let prompter = self.prompter();
                prompter
                    .text(
                        "metric.counted",
                        text,
                        &prompter.bind(item.index, &item.row, false),
                    )
                    .map(Some)
            }
        }
    }

    /// A program around an answer.
    fn program(&self, program: &str, item: &Item, answer: &str) -> Result<String> {
        let mut row = item.row.clone();
        row.insert("answer".to_owned(), Json::from(answer));
        let prompter = self.prompter();
        prompter.text(
            "metric.program",
            program,
            &prompter.bind(item.index, &row, false),
        )
    }

    /// Under which names a metric stands in samples and reports.
    fn keys_of(&self, metric: &MetricSpec) -> Vec<String> {
        if metric.kind() == Some(MetricKind::PassAtK) {
            return metric.k.iter().map(|k| format!("pass@{k}")).collect();
        }
        if !self.spec.mode.generates() {
            return vec![metric.name.clone()];
        }
        self.filters
            .iter()
            .filter(|filter| {
                metric
                    .filter
                    .as_ref()
                    .is_none_or(|wanted| *wanted == filter.name)
            })
            .map(|filter| self.key(metric, &filter.name))
            .collect()
    }

    /// The metric's name; with that of the filter where the task names filters.
    fn key(&self, metric: &MetricSpec, filter: &str) -> String {
        if self.spec.filters.is_empty() {
            metric.name.clone()
        } else {
            format!("{},{filter}", metric.name)
        }
    }

    /// The key of the metric that says whether an item is right.
    fn main_metric(&self) -> String {
        match &self.spec.main_metric {
            Some(main) => main.clone(),
            None => self
                .metrics
                .iter()
                .flat_map(|metric| self.keys_of(metric))
                .next()
                .unwrap_or_default(),
        }
    }
}

impl Benchmark for Task {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn memberships(&self) -> Vec<Membership> {
        self.memberships.clone()
    }

    fn needs_code(&self) -> bool {
        if let Some(rules) = &self.opencompass {
            return rules.needs_code();
        }
        let mut kinds = self.metrics.iter().map(MetricSpec::kind);
        kinds.any(|kind| kind == Some(MetricKind::PassAtK))
    }

    fn items(&self, scorer: Option<&dyn Scorer>) -> Result<Vec<Item>> {
        if let Some(rules) = &self.opencompass {
            return rules.items(&self.rows, &self.pool, scorer);
        }
        let prompter = self.prompter();
        let fewshot = self.spec.fewshot.as_ref();
        let query = fewshot
            .and_then(|fewshot| fewshot.query.as_deref())
            .unwrap_or(&self.spec.prompt);
        let documents = || {
            self.pool
                .iter()
                .enumerate()
                .map(|(at, row)| {
                    prompter.text("fewshot.query", query, &prompter.bind(at, row, true))
                })
                .collect()
        };
        let mut shots = Shots::new(
            &self.name,
            fewshot,
            &self.pool,
            self.shots,
            self.options.seed,
            documents,
        )?;
        let mut rendered: Vec<Option<Example>> = vec![None; self.pool.len()];
        let mut items = Vec::with_capacity(self.rows.len());
        for (index, row) in &self.rows {
            let needle_row;
            let row = match &self.spec.needle {
                Some(needle) => {
                    needle_row = needle.row(row, scorer)?;
                    &needle_row
                }
                None => row,
            };
            let bound = prompter.bind(*index, row, false);
            let compared = if shots.compares() {
                prompter.text("fewshot.query", query, &bound)?
            } else {
                String::new()
            };
            let mut examples = Vec::new();
            for at in shots.next(row, &compared)? {
                let example = match &rendered[at] {
                    Some(example) => example.clone(),
                    None => {
                        let example = prompter.example(&prompter.bind(at, &self.pool[at], true))?;
                        rendered[at] = Some(example.clone());
                        example
                    }
                };
                examples.push(example);
            }
            items.push(prompter.item(row, &bound, &examples, scorer)?);
        }
        Ok(items)
    }

    fn judge(
        &self,
        item: &Item,
        responses: &[crate::item::Response],
        code: Option<&dyn CodeExecutor>,
    ) -> Result<Sample> {
        match &self.opencompass {
            Some(rules) => rules.judge(item, responses, code),
            None => judge::judge(self, item, responses, code),
        }
    }

    fn scores(&self, samples: &[Sample]) -> Vec<Score> {
        match &self.opencompass {
            Some(rules) => rules.scores(samples),
            None => judge::scores(self, samples),
        }
    }
}

fn shots_of(spec: &TaskSpec, options: &TaskOptions) -> usize {
    match &spec.fewshot {
        Some(fewshot) if fewshot.sampler != Sampler::Zero => options.shots.unwrap_or(fewshot.shots),
        _ => 0,
    }
}

/// How many rows of the evaluated split have to be read.
fn read_limit(spec: &TaskSpec, options: &TaskOptions, pool: Option<&str>) -> Option<usize> {
    let skips = spec
        .prepare
        .iter()
        .chain(spec.data.layouts.iter().flat_map(|layout| &layout.prepare))
        .any(|step| step.skip_if.is_some());
    if skips || pool == Some(spec.split()) {
        return None;
    }
    match (&options.rows, options.limit) {
        (Some(rows), _) => Some(rows.iter().max().map_or(0, |last| last + 1)),
        (None, limit) => limit,
    }
}

/// How many rows of the split of examples have to be read.
fn pool_limit(spec: &TaskSpec, shots: usize) -> Option<usize> {
    let fewshot = spec.fewshot.as_ref()?;
    match fewshot.sampler {
        Sampler::FirstN if spec.prepare.iter().all(|step| step.skip_if.is_none()) => {
            Some(shots + usize::from(fewshot.leave_self_out))
        }
        _ => None,
    }
}

/// Examples that the task brings with it.
fn own_examples(
    spec: &TaskSpec,
    subset: Option<&Row>,
    loader: &Loader<'_>,
    shots: usize,
) -> Result<Vec<Row>> {
    let (Some(fewshot), true) = (&spec.fewshot, shots > 0) else {
        return Ok(Vec::new());
    };
    let examples = match &fewshot.bundled {
        Some(bundled) => {
            let name = spec.rendered(bundled, "fewshot.bundled", subset, loader.templates)?;
            builtin::bundled_examples(&name).ok_or_else(|| Error::TaskFile {
                file: spec.name.clone().into(),
                key: "fewshot.bundled".to_owned(),
                what: format!("no examples called `{name}` come with the crate"),
            })?
        }
        None => fewshot.examples.clone(),
    };
    if fewshot.prepared {
        return Ok(examples);
    }
    let mut prepared = Vec::with_capacity(examples.len());
    for (index, row) in examples.into_iter().enumerate() {
        if let Some(row) = loader.prepare(index, row, None)? {
            prepared.push(row);
        }
    }
    Ok(prepared)
}

/// The rows that a run asks for.
fn chosen(split: Split, options: &TaskOptions, task: &str) -> Result<Vec<(usize, Row)>> {
    let limit = options.limit.unwrap_or(usize::MAX);
    let Some(wanted) = &options.rows else {
        return Ok(split.rows.into_iter().take(limit).collect());
    };
    wanted
        .iter()
        .take(limit)
        .map(|index| {
            split
                .rows
                .binary_search_by_key(index, |(index, _)| *index)
                .map(|at| split.rows[at].clone())
                .map_err(|_| Error::Row {
                    task: task.to_owned(),
                    row: *index,
                    what: "the split has no such row, or the task leaves it out".to_owned(),
                })
        })
        .collect()
}

/// SHA-256 over all that makes prompts and scores from rows.
fn prompt_hash(
    spec: &TaskSpec,
    subset: Option<&Row>,
    shots: usize,
    options: &TaskOptions,
) -> String {
    // A task file is plain data with string keys, so this cannot fail; its text would do as well.
    let text = serde_json::to_string(&(spec, subset, shots, options.seed, &options.chat))
        .unwrap_or_default();
    sha256_hex(text.as_bytes())
}
