//! The rows of a task from its files.

use std::path::{Path, PathBuf};

use super::options::TaskOptions;
use super::prepare::{Failed, prepare};
use super::spec::TaskSpec;
use crate::data::{self, Dataset, Format, ReadOptions, Records};
use crate::error::{Error, Result};
use crate::item::Row;
use crate::template::{Names, Templates};

/// Finds and reads the data of one task.
pub(super) struct Loader<'a> {
    pub(super) spec: &'a TaskSpec,
    pub(super) task: &'a str,
    pub(super) subset: Option<&'a Row>,
    pub(super) templates: &'a Templates,
    pub(super) folder: &'a Path,
    pub(super) options: &'a TaskOptions,
}

/// Rows of a split, prepared, each with its number in the split.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) rows: Vec<(usize, Row)>,
    pub(super) hash: String,
}

impl Loader<'_> {
    /// Reads and prepares a split. At most `limit` rows are read.
    pub(super) fn split(&self, split: &str, limit: Option<usize>) -> Result<Split> {
        let files = self.files(split)?;
        let data = &self.spec.data;
        let mut dataset = data::read(
            &files,
            &ReadOptions {
                format: data.format,
                header: data.header.clone(),
                heads: data
                    .layouts
                    .iter()
                    .map(|layout| layout.columns.clone())
                    .collect(),
                records: data.records.clone(),
                fields: data.fields.clone(),
                text: data.text,
                limit,
            },
        )?;
        let mut hash = dataset.hash.clone();
        for column in data.beside.keys() {
            if dataset.rows.iter().any(|row| !row.contains_key(column)) {
                hash.push_str(&self.beside(column, split, &mut dataset)?);
            }
        }
        if let Some(column) = &data.explode {
            dataset.rows = explode(dataset.rows, column);
        }
        let rows = self.prepared(dataset)?;
        if rows.is_empty() {
            return Err(Error::EmptySplit {
                file: files.first().cloned().unwrap_or_default(),
            });
        }
        Ok(Split { rows, hash })
    }

    /// Reads a column from a file of its own; the file's hash.
    fn beside(&self, column: &str, split: &str, dataset: &mut Dataset) -> Result<String> {
        let mut patterns = Vec::new();
        for (number, file) in self.spec.data.beside[column].iter().enumerate() {
            patterns.push(self.path(&format!("data.beside.{column}[{number}]"), file, split)?);
        }
        let found = data::find(self.folder, &patterns)?;
        if found.files.is_empty() {
            // The layouts say what is missing.
            return Ok(String::new());
        }
        let options = ReadOptions {
            format: Some(Format::Text),
            text: Records::Lines,
            ..ReadOptions::default()
        };
        let lines = data::read(&found.files, &options)?;
        if lines.rows.len() < dataset.rows.len() {
            return Err(Error::BrokenLine {
                file: found.files[0].clone(),
                line: lines.rows.len(),
                what: format!(
                    "there are {} rows, but fewer lines here",
                    dataset.rows.len()
                ),
            });
        }
        for (row, mut line) in dataset.rows.iter_mut().zip(lines.rows) {
            if let Some(text) = line.remove("text") {
                row.insert(column.to_owned(), text);
            }
        }
        Ok(lines.hash)
    }

    fn prepared(&self, dataset: Dataset) -> Result<Vec<(usize, Row)>> {
        let layout = self.layout(&dataset)?;
        let mut rows = Vec::with_capacity(dataset.rows.len());
        for (index, row) in dataset.rows.into_iter().enumerate() {
            if let Some(row) = self.prepare(index, row, layout)? {
                rows.push((index, row));
            }
        }
        Ok(rows)
    }

    /// Does the steps of the layout and those of the task.
    pub(super) fn prepare(
        &self,
        index: usize,
        row: Row,
        layout: Option<usize>,
    ) -> Result<Option<Row>> {
        let failed = |front: String| {
            move |failed: Failed| Error::Template {
                task: self.task.to_owned(),
                key: format!("{front}prepare[{}].{}", failed.step, failed.key),
                row: index,
                what: failed.what,
            }
        };
        let row = match layout {
            None => row,
            Some(number) => {
                let steps = &self.spec.data.layouts[number].prepare;
                let front = format!("data.layout[{number}].");
                let done =
                    prepare(self.templates, steps, self.subset, row).map_err(failed(front))?;
                let Some(row) = done else {
                    return Ok(None);
                };
                row
            }
        };
        prepare(self.templates, &self.spec.prepare, self.subset, row).map_err(failed(String::new()))
    }

    /// The first layout whose columns the first row has.
    fn layout(&self, dataset: &Dataset) -> Result<Option<usize>> {
        let layouts = &self.spec.data.layouts;
        let (false, Some(first)) = (layouts.is_empty(), dataset.rows.first()) else {
            return Ok(None);
        };
        let missing = |columns: &[String]| -> Vec<String> {
            columns
                .iter()
                .filter(|column| !first.contains_key(*column))
                .map(|column| format!("`{column}`"))
                .collect()
        };
        if let Some(found) = layouts
            .iter()
            .position(|layout| missing(&layout.columns).is_empty())
        {
            return Ok(Some(found));
        }
        Err(Error::Columns {
            file: dataset.files.first().cloned().unwrap_or_default(),
            task: self.task.to_owned(),
            found: first.keys().cloned().collect(),
            wanted: layouts
                .iter()
                .map(|layout| {
                    let missing = missing(&layout.columns).join(", ");
                    format!("the {} layout also has {missing}", layout.name)
                })
                .collect(),
        })
    }

    fn files(&self, split: &str) -> Result<Vec<PathBuf>> {
        if let Some(files) = self.options.files.get(split) {
            return Ok(files.clone());
        }
        let found = data::find(self.folder, &self.patterns(split)?)?;
        if !found.files.is_empty() {
            return Ok(found.files);
        }
        let mut others = Vec::new();
        for other in self.spec.data.files.keys().filter(|other| *other != split) {
            if !data::find(self.folder, &self.patterns(other)?)?
                .files
                .is_empty()
            {
                others.push(format!("`{other}`"));
            }
        }
        Err(Error::NoData {
            task: self.task.to_owned(),
            split: split.to_owned(),
            tried: found.tried,
            others,
        })
    }

    /// Renders a path.
    fn path(&self, key: &str, template: &str, split: &str) -> Result<String> {
        let mut names = Names::new();
        names.insert("split".to_owned(), split.into());
        if let Some(subset) = self.subset {
            names.insert("subset".to_owned(), crate::template::of(subset));
        }
        self.templates
            .text(template, &names)
            .map_err(|what| Error::TaskFile {
                file: self.task.into(),
                key: key.to_owned(),
                what,
            })
    }

    fn patterns(&self, split: &str) -> Result<Vec<String>> {
        let data = &self.spec.data;
        let text = |key: String, template: &str| self.path(&key, template, split);
        let mut patterns = Vec::new();
        for (number, file) in data.files.get(split).into_iter().flatten().enumerate() {
            patterns.push(text(format!("data.files.{split}[{number}]"), file)?);
        }
        if let Some(file) = &data.file {
            patterns.push(text("data.file".to_owned(), file)?);
        }
        let config = match &data.config {
            Some(config) => Some(text("data.config".to_owned(), config)?),
            None => None,
        };
        for (number, repository) in data.hub.iter().enumerate() {
            let repository = text(format!("data.hub[{number}]"), repository)?;
            let split = data.hub_splits.get(split).map_or(split, String::as_str);
            patterns.extend(hub_patterns(&repository, config.as_deref(), split));
        }
        Ok(patterns)
    }
}

/// A row for each member of the list in a column; a row without such a list stays as it is.
fn explode(rows: Vec<Row>, column: &str) -> Vec<Row> {
    let mut exploded = Vec::with_capacity(rows.len());
    for mut row in rows {
        if !row.get(column).is_some_and(serde_json::Value::is_array) {
            exploded.push(row);
            continue;
        }
        let list = row.remove(column);
        for member in list
            .as_ref()
            .and_then(serde_json::Value::as_array)
            .into_iter()
            .flatten()
        {
            let mut one = row.clone();
            one.extend(
                member
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(k, v)| (k.clone(), v.clone())),
            );
            exploded.push(one);
        }
    }
    exploded
}

/// How a repository of the hub is laid out once it is downloaded, under its full name or its own alone.
fn hub_patterns(repository: &str, config: Option<&str>, split: &str) -> Vec<String> {
    let short = repository.rsplit('/').next().unwrap_or(repository);
    let mut patterns = Vec::new();
    for base in [repository, short] {
        let folders = match config {
            Some(config) => [format!("{base}/{config}"), format!("{base}/data/{config}")],
            None => [base.to_owned(), format!("{base}/data")],
        };
        for folder in folders {
            for extension in ["jsonl", "json", "csv", "tsv", "parquet"] {
                patterns.push(format!("{folder}/{split}.{extension}"));
            }
            patterns.push(format!("{folder}/{split}-*.parquet"));
        }
    }
    patterns
}
