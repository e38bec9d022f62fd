//! Bars with intervals, one a benchmark: SVG that grows with the page, beside labels that do not.

use std::fmt::Write as _;

use super::html::escape;
use super::rows::figure;
use super::{BenchmarkReport, Report};
use crate::benchmark::Score;

/// Half the width of a 95 % interval of the normal distribution, in standard errors.
const HALF: f64 = 1.96;

pub(super) fn bars(report: &Report) -> String {
    let mut html = String::new();
    for benchmark in &report.benchmarks {
        if let Some(score) = benchmark.headline()
            && let Some(share) = share(benchmark, score)
        {
            let text = figure(score.value, score.stderr, benchmark.decimals());
            html.push_str(&bar(&benchmark.name, &score.metric, &text, share));
        }
    }
    for group in &report.groups {
        let unit = if group.rules == "opencompass" {
            100.0
        } else {
            1.0
        };
        let within = |(value, _): &(f64, Option<f64>)| (0.0..=unit).contains(value);
        if let Some((value, stderr)) = group.figure().filter(within) {
            let error = stderr.unwrap_or_default() / unit;
            let text = figure(value, stderr, group.decimals());
            let metric = format!("{} ({})", group.metric, group.figure_name());
            html.push_str(&bar(&group.name, &metric, &text, (value / unit, error)));
        }
    }
    match html.is_empty() {
        true => html,
        false => format!("<div class=\"bars\">\n{html}</div>\n"),
    }
}

/// Value and standard error as shares of the most that is possible; none for figures without a most, such as
/// perplexities.
fn share(benchmark: &BenchmarkReport, score: &Score) -> Option<(f64, f64)> {
    let unit = if benchmark.identity.rules == "opencompass" {
        100.0
    } else {
        1.0
    };
    let bounded = score.higher_is_better && (0.0..=unit).contains(&score.value);
    bounded.then(|| (score.value / unit, score.stderr.unwrap_or_default() / unit))
}

fn bar(name: &str, metric: &str, text: &str, (value, error): (f64, f64)) -> String {
    let place = |value: f64| 1000.0 * value.clamp(0.0, 1.0);
    let (low, high) = (place(value - HALF * error), place(value + HALF * error));
    let mut svg = format!(
        "<svg viewBox=\"0 0 1000 20\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">\
         <rect class=\"ground\" width=\"1000\" height=\"20\"/><path class=\"mark\" d=\"M250 0V20M500 0V20M750 0V20\"/>\
         <rect class=\"value\" y=\"3\" width=\"{:.1}\" height=\"14\"/>",
        escape(text),
        place(value)
    );
    if high > low {
        let _ = write!(
            svg,
            "<path class=\"interval\" d=\"M{low:.1} 10H{high:.1}M{low:.1} 5V15M{high:.1} 5V15\"/>"
        );
    }
    svg.push_str("</svg>");
    format!(
        "<div class=\"bar\"><span class=\"name\">{} <small>{}</small></span>{svg}<span class=\"number\">{}</span></div>\n",
        escape(name),
        escape(metric),
        escape(text)
    )
}
