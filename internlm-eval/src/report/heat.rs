//! A grid of depth and length, for benchmarks whose data has such columns (a needle in a haystack).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::record::Record;
use super::{BenchmarkReport, Report};

/// Sizes of a cell and of the margins for labels.
const CELL: (usize, usize) = (64, 34);
const MARGIN: (usize, usize) = (60, 26);

/// The mean of each cell, by rows of rising depth and columns of rising length.
#[derive(Debug, PartialEq)]
struct Grid {
    depths: Vec<f64>,
    lengths: Vec<f64>,
    /// By depth, then length; none where no item was judged.
    cells: Vec<Vec<Option<f64>>>,
}

/// The plot of each benchmark that has one.
pub(super) fn grids(report: &Report) -> Vec<(String, String)> {
    let grids = report.benchmarks.iter();
    grids
        .filter_map(|b| Some((b.name.clone(), svg(&grid(b)?))))
        .collect()
}

fn grid(benchmark: &BenchmarkReport) -> Option<Grid> {
    // Ordered by the bits of numbers that are not negative, which is their own order.
    let mut sums: BTreeMap<(u64, u64), (f64, usize)> = BTreeMap::new();
    for record in &benchmark.records {
        let (depth, length) = record.cell.filter(|(d, l)| *d >= 0.0 && *l >= 0.0)?;
        let cell = sums.entry((depth.to_bits(), length.to_bits())).or_default();
        if let Some(value) = value(benchmark, record) {
            cell.0 += value;
            cell.1 += 1;
        }
    }
    let axis = |of: fn(&(u64, u64)) -> u64| {
        let mut axis: Vec<u64> = sums.keys().map(of).collect();
        axis.sort_unstable();
        axis.dedup();
        axis
    };
    let (depths, lengths) = (axis(|key| key.0), axis(|key| key.1));
    if depths.len() * lengths.len() < 2 {
        return None;
    }
    let mean = |depth: u64, length: u64| {
        let (sum, count) = sums.get(&(depth, length))?;
        (*count > 0).then(|| sum / *count as f64)
    };
    let row = |&depth: &u64| lengths.iter().map(|&length| mean(depth, length)).collect();
    Some(Grid {
        cells: depths.iter().map(row).collect(),
        depths: depths.into_iter().map(f64::from_bits).collect(),
        lengths: lengths.into_iter().map(f64::from_bits).collect(),
    })
}

/// An item's worth from 0 to 1: its part of the headline, else whether it is right.
fn value(benchmark: &BenchmarkReport, record: &Record) -> Option<f64> {
    let unit = if benchmark.identity.rules == "opencompass" {
        100.0
    } else {
        1.0
    };
    let metric = benchmark
        .headline()
        .and_then(|score| record.metrics.get(&score.metric));
    let part = metric
        .and_then(serde_json::Value::as_f64)
        .map(|value| value / unit);
    let right = record.correct.map(|correct| f64::from(u8::from(correct)));
    right.or(part).filter(|value| (0.0..=1.0).contains(value))
}

fn svg(grid: &Grid) -> String {
    let width = MARGIN.0 + CELL.0 * grid.lengths.len();
    let height = MARGIN.1 + CELL.1 * grid.depths.len();
    let mut svg = format!(
        "<div class=\"scroll\" tabindex=\"0\"><svg class=\"heatmap\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"share of right answers by depth and length\">"
    );
    for (row, (depth, cells)) in grid.depths.iter().zip(&grid.cells).enumerate() {
        let y = CELL.1 * row;
        let middle = y + CELL.1 / 2 + 4;
        let _ = write!(
            svg,
            "<text class=\"label\" x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{depth} %</text>",
            MARGIN.0 - 8
        );
        for (column, cell) in cells.iter().enumerate() {
            let x = MARGIN.0 + CELL.0 * column;
            let (w, h) = (CELL.0 - 2, CELL.1 - 2);
            let (opacity, text) = match cell {
                Some(value) => (0.06 + 0.94 * value, format!("{:.0}", 100.0 * value)),
                None => (0.0, "-".to_owned()),
            };
            let class = if opacity > 0.55 { "on" } else { "off" };
            let _ = write!(
                svg,
                "<rect class=\"cell\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill-opacity=\"{opacity:.2}\"/>\
                 <text class=\"{class}\" x=\"{}\" y=\"{middle}\" text-anchor=\"middle\">{text}</text>",
                x + w / 2
            );
        }
    }
    for (column, length) in grid.lengths.iter().enumerate() {
        let x = MARGIN.0 + CELL.0 * column + (CELL.0 - 2) / 2;
        let y = height - MARGIN.1 + 18;
        let _ = write!(
            svg,
            "<text class=\"label\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{length}</text>"
        );
    }
    svg.push_str(
        "</svg></div>\n<p class=\"caption\">Columns: length. Rows: depth. Cells: per cent right.</p>\n",
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_means() {
        let record = |depth: f64, length: f64, correct| Record {
            cell: Some((depth, length)),
            correct: Some(correct),
            ..Record::default()
        };
        let benchmark = BenchmarkReport {
            records: vec![
                record(50.0, 1000.0, true),
                record(0.0, 2000.0, false),
                record(50.0, 1000.0, false),
            ],
            ..BenchmarkReport::default()
        };
        let grid = grid(&benchmark).unwrap();
        assert_eq!(grid.depths, [0.0, 50.0]);
        assert_eq!(grid.lengths, [1000.0, 2000.0]);
        assert_eq!(grid.cells, [[None, Some(0.0)], [Some(0.5), None]]);
    }

    #[test]
    fn other_data_has_no_grid() {
        let benchmark = BenchmarkReport {
            records: vec![Record::default()],
            ..BenchmarkReport::default()
        };
        assert_eq!(grid(&benchmark), None);
    }
}
