//! Questions about files of data: tables (CSV, TSV, JSON, JSON lines) and JSON of any shape.
//!
//! Files are read as a stream, so what is kept is bounded by limits and not by the file.

mod aggregate;
mod json;
mod number;
mod outline;
mod place;
mod rows;
mod table;
mod value;

pub use json::{QueryJson, query_json};
pub use table::{Aggregate, Condition, Function, Operator, Order, QueryTable, query_table};

use super::catalog::{CatalogEntry, bytes};
use super::root::Root;
use crate::tool::{ToolError, TypedTool};

/// Limits of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueryLimits {
    /// Most bytes of a file.
    pub file_bytes: u64,
    /// Most bytes of a row of CSV or of JSON lines.
    pub row_bytes: usize,
    /// Most columns.
    pub columns: usize,
    /// Most values of a row of JSON, or of an answer, those within others counted.
    pub values: usize,
    /// Most rows of an answer.
    pub rows: usize,
    /// Most groups.
    pub groups: usize,
    /// Most bytes of rows, groups and different values that are kept on the way to an answer.
    pub kept_bytes: usize,
    /// Most bytes of an answer.
    pub output_bytes: usize,
    /// Most bytes of a cell in it.
    pub cell_bytes: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            row_bytes: 1 << 20,
            columns: 1000,
            values: 10_000,
            rows: 50,
            groups: 10_000,
            kept_bytes: 32 << 20,
            output_bytes: 12 << 10,
            cell_bytes: 200,
        }
    }
}

impl QueryLimits {
    /// Sets the most bytes of a file.
    #[must_use]
    pub fn with_file_bytes(mut self, bytes: u64) -> Self {
        self.file_bytes = bytes;
        self
    }

    /// Sets the most bytes of a row.
    #[must_use]
    pub fn with_row_bytes(mut self, bytes: usize) -> Self {
        self.row_bytes = bytes;
        self
    }

    /// Sets the most columns.
    #[must_use]
    pub fn with_columns(mut self, columns: usize) -> Self {
        self.columns = columns;
        self
    }

    /// Sets the most values of a row or an answer of JSON.
    #[must_use]
    pub fn with_values(mut self, values: usize) -> Self {
        self.values = values;
        self
    }

    /// Sets the most rows of an answer.
    #[must_use]
    pub fn with_rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }

    /// Sets the most groups.
    #[must_use]
    pub fn with_groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Sets the most bytes that are kept on the way to an answer.
    #[must_use]
    pub fn with_kept_bytes(mut self, bytes: usize) -> Self {
        self.kept_bytes = bytes;
        self
    }

    /// Sets the most bytes of an answer.
    #[must_use]
    pub fn with_output_bytes(mut self, bytes: usize) -> Self {
        self.output_bytes = bytes;
        self
    }

    /// Sets the most bytes of a cell.
    #[must_use]
    pub fn with_cell_bytes(mut self, bytes: usize) -> Self {
        self.cell_bytes = bytes;
        self
    }
}

/// Both tools: `query_json` and `query_table`.
pub fn tools(root: &Root, limits: QueryLimits) -> Vec<TypedTool> {
    vec![query_json(root, limits), query_table(root, limits)]
}

fn limit(what: impl Into<String>) -> ToolError {
    ToolError::Limit { what: what.into() }
}

/// A list of names, the first ones of it, and of long ones their beginning.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 30;
    const BYTES: usize = 60;
    let shorten = |name: &T| {
        let name = name.as_ref();
        let end = name.floor_char_boundary(BYTES);
        match end < name.len() {
            true => format!("{}…", &name[..end]),
            false => name.to_owned(),
        }
    };
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(shorten).collect();
    if names.len() > SHOWN {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

/// What the catalog says of them.
pub(super) fn entries() -> Vec<CatalogEntry> {
    let limits = QueryLimits::default();
    let (file, output) = (bytes(limits.file_bytes), bytes(limits.output_bytes as u64));
    let of_json = format!(
        "files of {file}, answers of {} values and {output}, values 128 deep.",
        limits.values
    );
    let of_tables = format!(
        "files of {file}, rows of {}, {} columns or {} values; {} groups and {} on the way; answers of {} rows, \
         {output}, and {} bytes a cell.",
        bytes(limits.row_bytes as u64),
        limits.columns,
        limits.values,
        limits.groups,
        bytes(limits.kept_bytes as u64),
        limits.rows,
        limits.cell_bytes,
    );
    vec![
        CatalogEntry::of::<QueryJson>("query_json", "tools::query::query_json", of_json)
            .in_default_set(),
        CatalogEntry::of::<QueryTable>("query_table", "tools::query::query_table", of_tables)
            .in_default_set(),
    ]
}
