//! Figures over all items.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::generation;
use crate::benchmark::{Sample, Score};
use crate::error::Result;
use crate::metric::standard_error::{self, DRAWS, bootstrap};
use crate::metric::{classification, mean, perplexity};
use crate::task::metric::{MetricKind, MetricSpec};

/// The figures of one metric under one key of the samples. None where it is not defined, as for no items.
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
    let mut scores = Vec::new();
    if let Ok((value, stderr)) = figure(metric, kind, &parts) {
        scores.push(Score {
            metric: key.to_owned(),
            value,
            stderr,
            n: parts.len(),
            higher_is_better: metric
                .higher_is_better
                .unwrap_or_else(|| kind.higher_is_better()),
        });
    }
    if kind == MetricKind::Needle {
        scores.extend(cells(key, samples));
    }
    scores
}

/// Value and standard error, by the peer's choice of the two: the sample's for means, a bootstrap where it draws one,
/// none elsewhere.
fn figure(metric: &MetricSpec, kind: MetricKind, parts: &[&Json]) -> Result<(f64, Option<f64>)> {
    let numbers = || -> Vec<f64> { parts.iter().filter_map(|part| part.as_f64()).collect() };
    match kind {
        MetricKind::Perplexity => {
            let lls = numbers();
            let drawn = |at: &[usize]| {
                let sum: f64 = at.iter().map(|at| lls[*at]).sum();
                (-sum / at.len() as f64).exp()
            };
            Ok((
                perplexity::per_item(&lls)?,
                bootstrap(lls.len(), DRAWS, drawn).ok(),
            ))
        }
        MetricKind::WordPerplexity | MetricKind::BytePerplexity => {
            Ok((perplexity::per_unit(&units(parts))?, None))
        }
        MetricKind::BitsPerByte => Ok((perplexity::bits_per_byte(&units(parts))?, None)),
        MetricKind::BrierScore => Ok((mean(&numbers())?, None)),
        MetricKind::F1 if parts[0].is_array() => labelled(parts, classification::f1_binary),
        MetricKind::Mcc => labelled(parts, classification::matthews_correlation),
        MetricKind::InstLevelStrictAcc | MetricKind::InstLevelLooseAcc => {
            let all: Vec<f64> = parts
                .iter()
                .filter_map(|part| part.as_array())
                .flatten()
                .map(|followed| {
                    if followed == &Json::Bool(true) {
                        1.0
                    } else {
                        0.0
                    }
                })
                .collect();
            Ok((mean(&all)?, None))
        }
        MetricKind::Bleu => generation::bleu(metric, parts),
        MetricKind::Chrf => generation::chrf(parts),
        _ => {
            let values = numbers();
            Ok((mean(&values)?, standard_error::of_mean(&values).ok()))
        }
    }
}

/// Log-likelihoods with their numbers of units.
fn units(parts: &[&Json]) -> Vec<(f64, usize)> {
    parts
        .iter()
        .filter_map(|part| {
            let units = usize::try_from(part[1].as_u64()?).ok()?;
            Some((part[0].as_f64()?, units))
        })
        .collect()
}

/// A figure of pairs of right and predicted labels; one that is none of the choices counts as -1.
fn labelled(
    parts: &[&Json],
    figure: fn(&[classification::Labels]) -> Result<f64>,
) -> Result<(f64, Option<f64>)> {
    let pairs: Vec<classification::Labels> = parts
        .iter()
        .map(|part| {
            (
                part[0].as_i64().unwrap_or(-1),
                part[1].as_i64().unwrap_or(-1),
            )
        })
        .collect();
    let drawn = |at: &[usize]| {
        let chosen: Vec<classification::Labels> = at.iter().map(|at| pairs[*at]).collect();
        figure(&chosen).unwrap_or(f64::NAN)
    };
    Ok((figure(&pairs)?, bootstrap(pairs.len(), DRAWS, drawn).ok()))
}

/// The heat map of a needle: a figure for each length and depth, named `needle[length=1000,depth=50]`.
fn cells(key: &str, samples: &[Sample]) -> Vec<Score> {
    let mut cells: BTreeMap<(u64, u64), Vec<f64>> = BTreeMap::new();
    for sample in samples {
        let number = |name: &str| sample.metrics.get(name).and_then(Json::as_u64);
        let value = sample.metrics.get(key).and_then(Json::as_f64);
        if let (Some(length), Some(depth), Some(value)) = (number("length"), number("depth"), value)
        {
            cells.entry((length, depth)).or_default().push(value);
        }
    }
    cells
        .into_iter()
        .filter_map(|((length, depth), values)| {
            Some(Score {
                metric: format!("{key}[length={length},depth={depth}]"),
                value: mean(&values).ok()?,
                stderr: standard_error::of_mean(&values).ok(),
                n: values.len(),
                higher_is_better: true,
            })
        })
        .collect()
}
