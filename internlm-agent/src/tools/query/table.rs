//! Questions about tables.

mod answer;
mod condition;

use encoding_rs::{Encoding, UTF_8};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::aggregate::{Groups, Room};
use super::place::parse;
use super::rows::{Row, Source};
use super::{QueryLimits, listed};
use crate::tool::{ToolContext, ToolError, TypedTool};
use crate::tools::Root;
use answer::{Answer, in_order};
use condition::Test;

/// Answers a question about a table: a file of CSV, TSV, JSON lines, or JSON with an array of objects. Takes the rows
/// for which all conditions hold, groups or sorts them, and gives the first ones as CSV.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct QueryTable {
    /// The file, such as `data/sales.csv`.
    pub path: String,
    /// The columns to give, all if not given. A cell within one of JSON is named like `address.city`.
    #[serde(default)]
    pub select: Option<Vec<String>>,
    /// Conditions, all of which must hold.
    #[serde(default, rename = "where")]
    pub conditions: Option<Vec<Condition>>,
    /// The columns whose equal cells make a group.
    #[serde(default)]
    pub group_by: Option<Vec<String>>,
    /// What to calculate for each group, or for all rows if there are no groups.
    #[serde(default)]
    pub aggregate: Option<Vec<Aggregate>>,
    /// How to sort; the first column decides first. Groups are sorted by their columns and aggregates.
    #[serde(default)]
    pub order_by: Option<Vec<Order>>,
    /// How many rows to give.
    #[serde(default)]
    pub limit: Option<usize>,
    /// In a JSON file, where the array of rows is, such as `/data/items`.
    #[serde(default)]
    pub rows_at: Option<String>,
    /// The encoding of a CSV file that is not UTF-8, such as `gb18030`.
    #[serde(default)]
    pub encoding: Option<String>,
}

/// A condition.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The column.
    pub column: String,
    /// How its cell must be; `=` if not given. Numbers are compared as numbers.
    #[serde(default)]
    pub operator: Operator,
    /// What it is compared with: text, number or boolean, or a list for `in`.
    #[serde(default)]
    pub value: Value,
}

/// How a cell must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Operator {
    /// Equal.
    #[default]
    #[serde(rename = "=", alias = "==", alias = "eq")]
    Equal,
    /// Not equal.
    #[serde(rename = "!=", alias = "<>", alias = "ne")]
    NotEqual,
    /// Less.
    #[serde(rename = "<", alias = "lt")]
    Less,
    /// Less or equal.
    #[serde(rename = "<=", alias = "le")]
    AtMost,
    /// Greater.
    #[serde(rename = ">", alias = "gt")]
    Greater,
    /// Greater or equal.
    #[serde(rename = ">=", alias = "ge")]
    AtLeast,
    /// One of a list.
    #[serde(rename = "in")]
    In,
    /// Has the text in it.
    #[serde(rename = "contains")]
    Contains,
    /// Begins with the text.
    #[serde(rename = "starts_with")]
    StartsWith,
    /// Has a part that a regular expression describes.
    #[serde(rename = "matches")]
    Matches,
    /// Has nothing in it.
    #[serde(rename = "is_empty")]
    IsEmpty,
    /// Has something in it.
    #[serde(rename = "is_not_empty")]
    IsNotEmpty,
}

/// Something to calculate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// What.
    pub function: Function,
    /// Of which column; empty cells do not count. Only `count` can do without, and counts rows.
    #[serde(default)]
    pub column: Option<String>,
    /// The name of the result, such as `total`.
    #[serde(default)]
    pub name: Option<String>,
}

/// What to calculate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// How many.
    Count,
    /// How many different ones.
    CountDistinct,
    /// The sum.
    Sum,
    /// The mean.
    #[serde(alias = "avg", alias = "average")]
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

/// How to sort.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// By which column.
    pub column: String,
    /// Whether from the greatest to the least.
    #[serde(default)]
    pub descending: Option<bool>,
}

impl Aggregate {
    /// The name of the column of the answer.
    fn title(&self) -> String {
        let function = match self.function {
            Function::Count => "count",
            Function::CountDistinct => "count_distinct",
            Function::Sum => "sum",
            Function::Mean => "mean",
            Function::Min => "min",
            Function::Max => "max",
        };
        match (&self.name, &self.column) {
            (Some(name), _) => name.clone(),
            (None, Some(column)) => format!("{function}({column})"),
            (None, None) => function.to_owned(),
        }
    }
}

/// The tool `query_table`.
pub fn query_table(root: &Root, limits: QueryLimits) -> TypedTool {
    let root = root.clone();
    TypedTool::with_context(
        "query_table",
        move |arguments: QueryTable, context: &ToolContext| {
            query(&root, limits, &arguments, context)
        },
    )
}

fn wrong(what: impl Into<String>) -> ToolError {
    ToolError::Arguments {
        tool: "query_table".to_owned(),
        what: what.into(),
    }
}

fn query(
    root: &Root,
    limits: QueryLimits,
    arguments: &QueryTable,
    context: &ToolContext,
) -> Result<String, ToolError> {
    let at = parse(arguments.rows_at.as_deref().unwrap_or_default());
    let encoding = match arguments.encoding.as_deref() {
        None => UTF_8,
        Some(label) => Encoding::for_label(label.as_bytes())
            .ok_or_else(|| wrong(format!("`encoding`: `{label}` is not known")))?,
    };
    let source = Source {
        root,
        path: &arguments.path,
        at: &at.map_err(|what| wrong(format!("`rows_at`: {what}")))?,
        encoding,
        limits,
        context,
    };
    let conditions = arguments.conditions.as_deref().unwrap_or_default();
    let tests = conditions
        .iter()
        .map(Test::new)
        .collect::<Result<Vec<_>, _>>()?;
    let group_by = arguments.group_by.as_deref().unwrap_or_default();
    let aggregates = arguments.aggregate.as_deref().unwrap_or_default();
    let order = arguments.order_by.as_deref().unwrap_or_default();
    let select = arguments
        .select
        .as_deref()
        .filter(|columns| !columns.is_empty());
    let is_grouped = !group_by.is_empty() || !aggregates.is_empty();
    for aggregate in aggregates {
        if aggregate.column.is_none() && aggregate.function != Function::Count {
            return Err(wrong("`aggregate`: only `count` can do without a `column`"));
        }
    }

    let mut columns: Vec<&str> = conditions
        .iter()
        .map(|condition| condition.column.as_str())
        .collect();
    if is_grouped {
        columns.extend(group_by.iter().map(String::as_str));
        columns.extend(
            aggregates
                .iter()
                .filter_map(|aggregate| aggregate.column.as_deref()),
        );
    } else {
        columns.extend(order.iter().map(|order| order.column.as_str()));
        columns.extend(select.into_iter().flatten().map(String::as_str));
    }
    let mut known = Known::new(&columns);
    let mut room = Room::new(limits.kept_bytes);
    let wanted = arguments.limit.unwrap_or(usize::MAX).min(limits.rows);
    let mut answer = Answer::new(select, if is_grouped { &[] } else { order }, wanted, limits);
    let mut groups = Groups::new(group_by, aggregates, limits);
    let passed = source.read(&mut |row| {
        known.look(row);
        if !tests.iter().all(|test| test.holds(row)) {
            return Ok(());
        }
        match is_grouped {
            true => groups.add(row, &mut room),
            false => answer.add(row, &mut room),
        }
    })?;
    known.check()?;

    let mut notes = Vec::new();
    if passed.uneven > 0 {
        let uneven = passed.uneven;
        notes.push(format!(
            "{uneven} rows have more or fewer cells than the header"
        ));
    }
    if is_grouped {
        for (aggregate, odd) in aggregates
            .iter()
            .zip(&groups.odd)
            .filter(|(_, odd)| **odd > 0)
        {
            notes.push(format!(
                "{}: {odd} cells are no numbers and do not count",
                aggregate.title()
            ));
        }
        let titles = group_by
            .iter()
            .cloned()
            .chain(aggregates.iter().map(Aggregate::title));
        let titles: Vec<String> = titles.collect();
        let mut rows = groups.rows();
        in_order(&titles, &mut rows, order)?;
        answer = Answer::of(titles, rows, select, wanted, limits)?;
    }
    answer.text(passed.columns, arguments.limit, notes)
}

/// Whether the columns of a question are there at all.
struct Known<'a> {
    columns: Vec<(&'a str, bool)>,
    /// Names that were seen, to be told if one is not there.
    seen: Vec<String>,
    looked: usize,
}

/// Rows whose names are noted.
const LOOKED_AT: usize = 100;
/// Names that are noted.
const NAMES: usize = 31;

impl<'a> Known<'a> {
    fn new(columns: &[&'a str]) -> Self {
        Self {
            columns: columns.iter().map(|&column| (column, false)).collect(),
            seen: Vec::new(),
            looked: 0,
        }
    }

    fn look(&mut self, row: &Row<'_>) {
        for (column, is_there) in self.columns.iter_mut().filter(|(_, is_there)| !is_there) {
            *is_there = row.get(column).is_some();
        }
        if self.looked < LOOKED_AT && self.columns.iter().any(|(_, is_there)| !is_there) {
            self.looked += 1;
            for (name, _) in row.all() {
                if self.seen.len() < NAMES && !self.seen.iter().any(|seen| seen == name) {
                    self.seen.push(name.to_owned());
                }
            }
        }
    }

    fn check(&self) -> Result<(), ToolError> {
        let missing = self.columns.iter().find(|(_, is_there)| !is_there);
        match missing {
            // Without rows nothing is known of columns.
            Some((column, _)) if !self.seen.is_empty() => Err(wrong(format!(
                "there is no column `{column}`; the columns are {}",
                listed(&self.seen)
            ))),
            _ => Ok(()),
        }
    }
}
