//! Figures over all items.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::super::metric::{MetricKind, MetricSpec};
use crate::benchmark::{Sample, Score};

/// The figures of one metric under one key of the samples.
pub(super) fn score(
    metric: &MetricSpec,
    kind: MetricKind,
    key: &str,
    samples: &[Sample],
) -> Vec<Score> {
    let parts: Vec<&Json> = samples
        .iter()
        .filter_map(|sample| sample.metrics.get(key))
        .collect();
    if parts.is_empty() {
        return Vec::new();
    }
    let one = |value: f64, stderr: Option<f64>| Score {
        metric: key.to_owned(),
        value,
        stderr,
        n: parts.len(),
        higher_is_better: metric
            .higher_is_better
            .unwrap_or_else(|| kind.higher_is_better()),
    };
    let numbers = || -> Vec<f64> { parts.iter().filter_map(|part| part.as_f64()).collect() };
    match kind {
        MetricKind::Perplexity => {
            let lls = numbers();
            vec![one((-mean(&lls)).exp(), perplexity_stderr(&lls))]
        }
        MetricKind::WordPerplexity | MetricKind::BytePerplexity => {
            vec![one((-weighted_mean(&parts)).exp(), None)]
        }
        MetricKind::BitsPerByte => {
            vec![one(-weighted_mean(&parts) / std::f64::consts::LN_2, None)]
        }
        MetricKind::BrierScore => vec![one(mean(&numbers()), None)],
        MetricKind::F1 if parts[0].is_array() => vec![one(binary_f1(&parts), None)],
        MetricKind::Mcc => vec![one(matthews(&parts), None)],
        MetricKind::InstLevelStrictAcc | MetricKind::InstLevelLooseAcc => {
            let all: Vec<f64> = parts
                .iter()
                .filter_map(|part| part.as_array())
                .flatten()
                .filter_map(Json::as_bool)
                .map(|followed| if followed { 1.0 } else { 0.0 })
                .collect();
            vec![one(mean(&all), None)]
        }
        MetricKind::Needle => {
            let values = numbers();
            let mut scores = vec![one(mean(&values), stderr(&values))];
            scores.extend(cells(key, samples));
            scores
        }
        MetricKind::Bleu | MetricKind::Chrf => super::generation::corpus(kind, metric, &parts)
            .map(|value| one(value, None))
            .into_iter()
            .collect(),
        _ => {
            let values = numbers();
            vec![one(mean(&values), stderr(&values))]
        }
    }
}

/// The heat map of a needle: a figure for each length and depth, named `needle[length=1000,depth=50]`.
fn cells(key: &str, samples: &[Sample]) -> Vec<Score> {
    let mut cells: BTreeMap<(u64, u64), Vec<f64>> = BTreeMap::new();
    for sample in samples {
        let number = |name: &str| sample.metrics.get(name).and_then(Json::as_u64);
        if let (Some(length), Some(depth), Some(value)) = (
            number("length"),
            number("depth"),
            sample.metrics.get(key).and_then(Json::as_f64),
        ) {
            cells.entry((length, depth)).or_default().push(value);
        }
    }
    cells
        .into_iter()
        .map(|((length, depth), values)| Score {
            metric: format!("{key}[length={length},depth={depth}]"),
            value: mean(&values),
            stderr: stderr(&values),
            n: values.len(),
            higher_is_better: true,
        })
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample's standard deviation over the root of n; None for one value.
fn stderr(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mean = mean(values);
    let sum: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Some((sum / (values.len() - 1) as f64).sqrt() / (values.len() as f64).sqrt())
}

/// By the delta method: the standard error of the mean times the perplexity. The peer draws bootstrap samples, whose
/// spread tends to the same.
fn perplexity_stderr(lls: &[f64]) -> Option<f64> {
    stderr(lls).map(|stderr| stderr * (-mean(lls)).exp())
}

/// The sum of log-likelihoods over the sum of units.
fn weighted_mean(parts: &[&Json]) -> f64 {
    let (mut sum, mut weight) = (0.0, 0.0);
    for part in parts {
        sum += part[0].as_f64().unwrap_or(0.0);
        weight += part[1].as_f64().unwrap_or(0.0);
    }
    sum / weight
}

/// True and false positives and negatives; choice 1 is yes.
fn confusion(parts: &[&Json]) -> [f64; 4] {
    let mut counts = [0.0; 4];
    for part in parts {
        let (gold, predicted) = (part[0].as_u64() == Some(1), part[1].as_u64() == Some(1));
        let at = match (gold, predicted) {
            (true, true) => 0,
            (false, true) => 1,
            (false, false) => 2,
            (true, false) => 3,
        };
        counts[at] += 1.0;
    }
    counts
}

fn binary_f1(parts: &[&Json]) -> f64 {
    let [tp, fp, _, missed] = confusion(parts);
    if tp == 0.0 {
        return 0.0;
    }
    2.0 * tp / (2.0 * tp + fp + missed)
}

fn matthews(parts: &[&Json]) -> f64 {
    let [tp, fp, tn, missed] = confusion(parts);
    let product = (tp + fp) * (tp + missed) * (tn + fp) * (tn + missed);
    if product == 0.0 {
        return 0.0;
    }
    (tp * tn - fp * missed) / product.sqrt()
}
