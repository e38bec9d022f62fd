//! A report to paste into a document.

use std::fmt::Write as _;

use super::rows::short;
use super::table::{Align, Table};
use super::{Comparison, Report};

pub(super) fn markdown(report: &Report) -> String {
    let mut text = table(&report.rows());
    text.push('\n');
    for (name, value) in report.facts() {
        let _ = writeln!(text, "- {name}: {}", escape(&value));
    }
    let mut hashes = Table::new(&[
        ("dataset", Align::Left),
        ("prompt sha256", Align::Left),
        ("data sha256", Align::Left),
    ]);
    for benchmark in &report.benchmarks {
        let identity = &benchmark.identity;
        hashes.push(vec![
            benchmark.name.clone(),
            short(&identity.prompt_hash, 16).to_owned(),
            short(&identity.data_hash, 16).to_owned(),
        ]);
    }
    text.push('\n');
    text.push_str(&table(&hashes));
    text
}

pub(super) fn comparison(comparison: &Comparison) -> String {
    table(&comparison.rows())
}

fn table(table: &Table) -> String {
    let mut text = String::new();
    let line = |text: &mut String, cells: &mut dyn Iterator<Item = String>| {
        let cells: Vec<String> = cells.collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    line(
        &mut text,
        &mut table.columns.iter().map(|(name, _)| escape(name)),
    );
    let rule = |align: &Align| match align {
        Align::Left => "---",
        Align::Right => "---:",
    };
    line(
        &mut text,
        &mut table
            .columns
            .iter()
            .map(|(_, align)| rule(align).to_owned()),
    );
    for row in table.rows.iter().flatten() {
        line(&mut text, &mut row.iter().map(|cell| escape(cell)));
    }
    text
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '[' | ']' | '<' => escaped.extend(['\\', c]),
            '\n' | '\r' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
