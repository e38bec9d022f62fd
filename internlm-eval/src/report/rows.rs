//! The rows of a report, the same in every form.

use super::table::{Align, Table};
use super::time::readable;
use super::{BenchmarkReport, GroupReport, Report};
use crate::benchmark::GroupMean;

/// A figure and its standard error, with as many digits as its rule set gives.
pub(super) fn figure(value: f64, stderr: Option<f64>, decimals: usize) -> String {
    let number = |value: f64| match value.is_finite() {
        true => format!("{value:.decimals$}"),
        false => "-".to_owned(),
    };
    match stderr.filter(|stderr| stderr.is_finite()) {
        Some(stderr) => format!("{} ± {}", number(value), number(stderr)),
        None => number(value),
    }
}

pub(super) fn short(hash: &str, digits: usize) -> &str {
    match hash.get(..digits) {
        Some(short) => short,
        None if hash.is_empty() => "-",
        None => hash,
    }
}

/// The columns of a row but for the figure's, which stands after the fourth, as in OpenCompass's summaries.
pub(super) const COLUMNS: [(&str, Align); 8] = [
    ("dataset", Align::Left),
    ("version", Align::Left),
    ("metric", Align::Left),
    ("mode", Align::Left),
    ("shots", Align::Right),
    ("items", Align::Right),
    ("failed", Align::Right),
    ("rules", Align::Left),
];

impl Report {
    pub(super) fn rows(&self) -> Table {
        let mut columns = COLUMNS.to_vec();
        columns.insert(4, (self.model.name.as_str(), Align::Right));
        let mut table = Table::new(&columns);
        for benchmark in &self.benchmarks {
            for row in benchmark_rows(benchmark) {
                table.push(row);
            }
        }
        if !self.groups.is_empty() {
            table.rule();
        }
        for group in &self.groups {
            for row in group_rows(group) {
                table.push(row);
            }
        }
        table
    }

    /// What must be known to make the figures again.
    pub(super) fn footer(&self) -> String {
        self.facts()
            .into_iter()
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect::<String>()
            .trim_end()
            .to_owned()
    }

    /// The first of the benchmarks that are missing, and how many.
    fn missing_text(&self) -> Option<String> {
        const SHOWN: usize = 5;
        let shown = self.missing.iter().take(SHOWN).cloned().collect::<Vec<_>>();
        let more = self
            .missing
            .len()
            .checked_sub(SHOWN)
            .filter(|&more| more > 0);
        let more = more
            .map(|more| format!(" and {more} more"))
            .unwrap_or_default();
        let text = format!("{}{more}; means are of the others", shown.join(", "));
        (!self.missing.is_empty()).then_some(text)
    }

    /// What is known of the weights.
    fn weights_text(&self) -> String {
        match &self.model.model_hash {
            Some(hash) => hash.clone(),
            None if self.model.remote => format!("remote: {}", self.model.name),
            None => "unknown".to_owned(),
        }
    }

    /// Groups that are not whole.
    fn parts_text(&self) -> Option<String> {
        let mut parts: Vec<String> = Vec::new();
        for group in self.groups.iter().filter(|group| !group.absent.is_empty()) {
            let (has, all) = (
                group.members.len(),
                group.members.len() + group.absent.len(),
            );
            let part = format!("{} {has} of {all}", group.name);
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        let text = || {
            format!(
                "{}; the rule set gives no figure for a part",
                parts.join(", ")
            )
        };
        (!parts.is_empty()).then(text)
    }

    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let known = |hash: &Option<String>| hash.clone().unwrap_or_else(|| "unknown".to_owned());
        let mut rules: Vec<&str> = self
            .benchmarks
            .iter()
            .map(|b| b.identity.rules.as_str())
            .collect();
        rules.sort_unstable();
        rules.dedup();
        let mut facts = vec![
            ("rule set", rules.join(", ")),
            ("model sha256", self.weights_text()),
            ("tokenizer sha256", known(&self.model.tokenizer_hash)),
        ];
        if let Some(judge) = &self.judge {
            facts.push(("judge", judge.clone()));
        }
        if let Some(code) = &self.code {
            facts.push(("code of the model", code.clone()));
        }
        if self.shard != super::Shard::WHOLE {
            facts.push(("shard", format!("{}; merge all of them", self.shard)));
        }
        if self.groups.iter().any(|group| group.own.is_some()) {
            facts.push((
                "*",
                "the mean that the rule set itself gives of the group".to_owned(),
            ));
        }
        if let Some(parts) = self.parts_text() {
            facts.push(("parts of groups", parts));
        }
        if let Some(missing) = self.missing_text() {
            facts.push(("missing", missing));
        }
        let failed = self.failed();
        if failed > 0 {
            facts.push((
                "failed",
                format!("{failed} items; figures are of the others, run again to ask them again"),
            ));
        }
        facts.push((
            "run",
            format!(
                "{}, {} requests ({} from an earlier run) in {:.1} s",
                readable(self.started),
                self.requests,
                self.resumed,
                self.seconds
            ),
        ));
        facts
    }
}

fn benchmark_rows(benchmark: &BenchmarkReport) -> Vec<Vec<String>> {
    let identity = &benchmark.identity;
    let row = |metric: &str, value: String| {
        vec![
            benchmark.name.clone(),
            benchmark.version().to_owned(),
            metric.to_owned(),
            identity.mode.clone(),
            value,
            identity.shots.to_string(),
            benchmark.judged.to_string(),
            benchmark.failed.to_string(),
            identity.rules.clone(),
        ]
    };
    if benchmark.scores.is_empty() {
        return vec![row("-", "-".to_owned())];
    }
    let scores = benchmark.scores.iter();
    scores
        .map(|score| {
            let value = figure(score.value, score.stderr, benchmark.decimals());
            row(&score.metric, value)
        })
        .collect()
}

fn group_rows(group: &GroupReport) -> [Vec<String>; 2] {
    let row = |kind: &str, mean: GroupMean, value: String| {
        let own = if group.own == Some(mean) { " *" } else { "" };
        vec![
            group.name.clone(),
            "-".to_owned(),
            format!("{} ({kind}){own}", group.metric),
            "-".to_owned(),
            value,
            "-".to_owned(),
            group.items.to_string(),
            group.failed.to_string(),
            group.rules.clone(),
        ]
    };
    let whole = |value: Option<f64>, stderr| match value {
        Some(value) => figure(value, stderr, group.decimals()),
        None => "-".to_owned(),
    };
    [
        row(
            "naive",
            GroupMean::Naive,
            whole(group.naive, group.naive_stderr),
        ),
        row(
            "weighted",
            GroupMean::Weighted,
            whole(group.weighted, group.stderr),
        ),
    ]
}
