//! A report for spreadsheets (RFC 4180).

use super::Report;
use crate::benchmark::GroupMean;

const HEAD: [&str; 17] = [
    "dataset",
    "version",
    "metric",
    "mode",
    "value",
    "stderr",
    "n",
    "items",
    "failed",
    "model",
    "rules",
    "shots",
    "prompt_sha256",
    "data_sha256",
    "members",
    "absent",
    "rule_set_gives",
];

pub(super) fn csv(report: &Report) -> String {
    let mut text = line(HEAD.map(str::to_owned));
    let model = &report.model.name;
    let number = |value: Option<f64>| match value.filter(|value| value.is_finite()) {
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    };
    for benchmark in &report.benchmarks {
        let identity = &benchmark.identity;
        let row = |metric: &str, value: Option<f64>, stderr: Option<f64>, n: usize| {
            line([
                benchmark.name.clone(),
                benchmark.version().to_owned(),
                metric.to_owned(),
                identity.mode.clone(),
                number(value),
                number(stderr),
                n.to_string(),
                benchmark.items.to_string(),
                benchmark.failed.to_string(),
                model.clone(),
                identity.rules.clone(),
                identity.shots.to_string(),
                identity.prompt_hash.clone(),
                identity.data_hash.clone(),
                String::new(),
                String::new(),
                "yes".to_owned(),
            ])
        };
        if benchmark.scores.is_empty() {
            text.push_str(&row("-", None, None, 0));
        }
        for score in &benchmark.scores {
            text.push_str(&row(
                &score.metric,
                Some(score.value),
                score.stderr,
                score.n,
            ));
        }
    }
    for name in &report.missing {
        let mut row: [String; 17] = std::array::from_fn(|_| "-".to_owned());
        row[0].clone_from(name);
        row[9].clone_from(model);
        text.push_str(&line(row));
    }
    for group in &report.groups {
        let means = [
            (
                "naive_average",
                GroupMean::Naive,
                group.naive,
                group.naive_stderr,
            ),
            (
                "weighted_average",
                GroupMean::Weighted,
                group.weighted,
                group.stderr,
            ),
        ];
        for (mode, mean, value, stderr) in means {
            let own = if group.own == Some(mean) { "yes" } else { "no" };
            text.push_str(&line([
                group.name.clone(),
                "-".to_owned(),
                group.metric.clone(),
                mode.to_owned(),
                number(value),
                number(stderr),
                group.items.to_string(),
                (group.items + group.failed).to_string(),
                group.failed.to_string(),
                model.clone(),
                group.rules.clone(),
                "-".to_owned(),
                "-".to_owned(),
                "-".to_owned(),
                group.members.join(" "),
                group.absent.join(" "),
                own.to_owned(),
            ]));
        }
    }
    text
}

fn line<const N: usize>(fields: [String; N]) -> String {
    format!("{}\n", fields.map(|field| quote(&field)).join(","))
}

fn quote(field: &str) -> String {
    // A spreadsheet takes what begins like this for a formula; names come from files.
    let formula = field.starts_with(['=', '+', '@']);
    match formula || field.contains(['"', ',', '\n', '\r']) {
        true if formula => format!("\"'{}\"", field.replace('"', "\"\"")),
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(quote("exact_match,strict"), "\"exact_match,strict\"");
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote("=1+1"), "\"'=1+1\"");
        assert_eq!(quote("-"), "-");
    }
}
