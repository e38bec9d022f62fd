//! Tasks by the rules of OpenCompass.

use internlm_core::{CodeExecutor, Scorer};

use super::options::TaskOptions;
use super::spec::TaskSpec;
use crate::benchmark::{Sample, Score};
use crate::error::{Error, Result};
use crate::item::{Item, Response, Row};
use crate::opencompass::{self, Judge, Prompter, Spec};

/// The part of a task that is OpenCompass's.
#[derive(Debug)]
pub(super) struct OpenCompass {
    spec: Spec,
    options: opencompass::InferOptions,
    judge: Judge,
    /// The labels that a task compares.
    labels: Vec<String>,
}

impl OpenCompass {
    /// None for a task by other rules.
    pub(super) fn new(
        task: &str,
        spec: &TaskSpec,
        subset: Option<&Row>,
        options: &TaskOptions,
    ) -> Result<Option<Self>> {
        let Some(rules) = &spec.opencompass else {
            return Ok(None);
        };
        let mut rules = match subset {
            Some(subset) => rules.with_subset(subset),
            None => rules.clone(),
        };
        if let Some(shots) = options.shots {
            rules.retriever.limit(shots);
        }
        let judge = Judge::new(task, &rules, &options.opencompass.dialect)?;
        Ok(Some(Self {
            spec: rules,
            options: options.opencompass.clone(),
            judge,
            labels: Vec::new(),
        }))
    }

    /// The split that examples are taken from, if any are.
    pub(super) fn index_split(&self) -> Option<&str> {
        let split = self.spec.index_split.as_deref();
        (self.shots() > 0).then(|| split.unwrap_or("train"))
    }

    pub(super) fn shots(&self) -> usize {
        self.spec.retriever.shots()
    }

    pub(super) fn mode(&self) -> &'static str {
        self.spec.inferencer.mode()
    }

    pub(super) fn needs_code(&self) -> bool {
        self.spec.evaluation.evaluator.needs_code()
    }

    /// Upstream's prompt hash.
    pub(super) fn prompt_hash(&self) -> String {
        opencompass::prompt_hash(&self.spec)
    }

    /// Keeps upstream's columns, and finds the labels.
    pub(super) fn settle(
        &mut self,
        task: &str,
        rows: &mut [(usize, Row)],
        pool: &mut [Row],
    ) -> Result<()> {
        for row in rows.iter_mut().map(|(_, row)| row).chain(pool.iter_mut()) {
            *row = self.spec.project(std::mem::take(row));
        }
        let shots = match &self.spec.retriever {
            opencompass::Retriever::FixK { ids } => ids.iter().max().map_or(0, |last| last + 1),
            other => other.shots(),
        };
        if shots > pool.len()
            && !matches!(
                self.spec.retriever,
                opencompass::Retriever::SlidingWindow { .. }
            )
        {
            return Err(Error::Shots {
                task: task.to_owned(),
                wanted: shots,
                pool: pool.len(),
            });
        }
        let rows: Vec<Row> = rows.iter().map(|(_, row)| row.clone()).collect();
        self.labels = Prompter::new(&self.spec, &self.options, pool, None).labels(&rows)?;
        Ok(())
    }

    pub(super) fn items(
        &self,
        rows: &[(usize, Row)],
        pool: &[Row],
        scorer: Option<&dyn Scorer>,
    ) -> Result<Vec<Item>> {
        Prompter::new(&self.spec, &self.options, pool, scorer).items(rows)
    }

    pub(super) fn judge(
        &self,
        item: &Item,
        responses: &[Response],
        code: Option<&dyn CodeExecutor>,
    ) -> Result<Sample> {
        self.judge.judge(item, &self.labels, responses, code)
    }

    pub(super) fn scores(&self, samples: &[Sample]) -> Vec<Score> {
        opencompass::scores(&self.spec.evaluation.evaluator, samples)
    }
}
