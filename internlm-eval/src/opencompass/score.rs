//! From samples to figures.

use serde_json::Value;

use super::evaluator::Evaluator;
use crate::benchmark::{Sample, Score};
use crate::metric::bleu::Bleu;
use crate::metric::{pass_at_k, standard_error};

/// The figures of a task, per cent.
pub fn scores(evaluator: &Evaluator, samples: &[Sample]) -> Vec<Score> {
    let mut scores = match evaluator {
        Evaluator::Accuracy | Evaluator::Gsm8k | Evaluator::Lambada | Evaluator::Math { .. } => {
            vec![percent("accuracy", samples)]
        }
        Evaluator::Exact { metric } => vec![percent(metric, samples)],
        Evaluator::Em | Evaluator::Bbh | Evaluator::AgievalCloze | Evaluator::TriviaQa => {
            vec![percent("score", samples)]
        }
        Evaluator::HumanEval { k } => k.iter().filter_map(|k| pass(*k, samples)).collect(),
        Evaluator::Mbpp => {
            let mut scores = vec![percent("score", samples)];
            for name in ["pass", "timeout", "failed", "wrong_answer"] {
                let values = numbers(name, samples);
                scores.push(Score {
                    metric: name.into(),
                    value: values.iter().sum(),
                    stderr: None,
                    n: values.len(),
                    higher_is_better: name == "pass",
                });
            }
            scores
        }
        Evaluator::Ifeval => ifeval(samples),
        Evaluator::GaokaoBench { .. } => vec![points(samples)],
        Evaluator::TruthfulQa { metrics } => {
            let parts = ["max", "diff", "acc"];
            let names = metrics
                .iter()
                .flat_map(|m| parts.map(|part| format!("{m}_{part}")));
            let scores = names.map(|name| {
                let mut score = mean(&name, 1.0, &numbers(&name, samples));
                score.value = rounded(score.value);
                score
            });
            scores.collect()
        }
        Evaluator::Rouge => ["rouge1", "rouge2", "rougeL", "rougeLsum"]
            .map(|name| percent(name, samples))
            .into(),
        Evaluator::JiebaRouge => ["rouge1", "rouge2", "rougeL"]
            .map(|name| percent(name, samples))
            .into(),
        Evaluator::Bleu => corpus_bleu(samples).into_iter().collect(),
        Evaluator::Squad => vec![percent("f1", samples)],
    };
    let runs = samples
        .first()
        .and_then(right_of)
        .map_or(1, |(_, count)| count);
    if runs > 1 && !matches!(evaluator, Evaluator::HumanEval { .. }) {
        for score in &mut scores {
            score.metric = format!("{} ({runs} runs average)", score.metric);
        }
        scores.extend(stability(runs, samples));
    }
    scores
}

/// Python's `round(value, 4)`, which upstream reports: of the decimals the nearest one to the exact value, ties to even.
fn rounded(value: f64) -> f64 {
    format!("{value:.4}").parse().unwrap_or(value)
}

/// An item's right answers and all its answers.
fn right_of(sample: &Sample) -> Option<(usize, usize)> {
    let pair = sample.metrics.get("right_of")?.as_array()?;
    let number = |value: &Value| usize::try_from(value.as_u64()?).ok();
    Some((number(pair.first()?)?, number(pair.get(1)?)?))
}

fn numbers(name: &str, samples: &[Sample]) -> Vec<f64> {
    let values = samples
        .iter()
        .filter_map(|sample| sample.metrics.get(name)?.as_f64());
    values.collect()
}

fn percent(name: &str, samples: &[Sample]) -> Score {
    mean(name, 100.0, &numbers(name, samples))
}

fn mean(name: &str, unit: f64, values: &[f64]) -> Score {
    let stderr = standard_error::of_mean(values).ok();
    Score {
        metric: name.into(),
        value: unit * crate::metric::mean(values).unwrap_or(0.0),
        stderr: stderr
            .map(|stderr| unit * stderr)
            .filter(|stderr| stderr.is_finite()),
        n: values.len(),
        higher_is_better: true,
    }
}

/// pass@k, if every item has k answers.
fn pass(k: usize, samples: &[Sample]) -> Option<Score> {
    let values = samples.iter().map(|sample| {
        let (right, count) = right_of(sample)?;
        if count < k {
            return None;
        }
        pass_at_k::pass_at_k(count, right, k).ok()
    });
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    Some(mean(&format!("humaneval_pass@{k}"), 100.0, &values))
}

/// G-Pass@k and mG-Pass@k of all answers of each item.
fn stability(runs: usize, samples: &[Sample]) -> Vec<Score> {
    let mut scores = Vec::new();
    let mut add = |name: String, value: &dyn Fn(usize, usize) -> Option<f64>| {
        let values = samples.iter().map(|sample| {
            let (right, count) = right_of(sample)?;
            value(right, count)
        });
        if let Some(values) = values.collect::<Option<Vec<f64>>>() {
            scores.push(mean(&name, 100.0, &values));
        }
    };
    for (name, tau) in [
        ("0.0", 0.0),
        ("0.25", 0.25),
        ("0.5", 0.5),
        ("0.75", 0.75),
        ("1.0", 1.0),
    ] {
        add(format!("G-Pass@{runs}_{name}"), &|right, count| {
            pass_at_k::g_pass_at_k(count, right, runs, tau).ok()
        });
    }
    add(format!("mG-Pass@{runs}"), &|right, count| {
        pass_at_k::mg_pass_at_k(count, right, runs).ok()
    });
    scores
}

fn ifeval(samples: &[Sample]) -> Vec<Score> {
    let mut scores = Vec::new();
    for (name, kind) in [("strict", "strict"), ("loose", "loose")] {
        let mut prompts = Vec::new();
        let mut instructions = Vec::new();
        for sample in samples {
            let Some(followed) = sample.metrics.get(kind).and_then(Value::as_array) else {
                continue;
            };
            let followed: Vec<bool> = followed.iter().map(|f| f.as_bool() == Some(true)).collect();
            prompts.push(f64::from(u8::from(followed.iter().all(|f| *f))));
            instructions.extend(followed.into_iter().map(|f| f64::from(u8::from(f))));
        }
        scores.push(mean(
            &format!("Prompt-level-{name}-accuracy"),
            100.0,
            &prompts,
        ));
        scores.push(mean(
            &format!("Inst-level-{name}-accuracy"),
            100.0,
            &instructions,
        ));
    }
    scores
}

fn points(samples: &[Sample]) -> Score {
    let (mut made, mut full) = (0.0, 0.0);
    for sample in samples {
        let points = sample.metrics.get("points").and_then(Value::as_array);
        let of = |i: usize| points.and_then(|p| p.get(i)?.as_f64()).unwrap_or(0.0);
        made += of(0);
        full += of(1);
    }
    Score {
        metric: "score".into(),
        value: if full > 0.0 { 100.0 * made / full } else { 0.0 },
        stderr: None,
        n: samples.len(),
        higher_is_better: true,
    }
}

fn corpus_bleu(samples: &[Sample]) -> Option<Score> {
    let pairs = samples.iter().filter_map(|sample| {
        let pair = sample.metrics.get("bleu")?.as_array()?;
        let references = pair.get(1)?.as_array()?.iter().filter_map(Value::as_str);
        Some((pair.first()?.as_str()?, references.collect::<Vec<_>>()))
    });
    let pairs: Vec<(&str, Vec<&str>)> = pairs.collect();
    let pairs: Vec<(&str, &[&str])> = pairs.iter().map(|(p, r)| (*p, r.as_slice())).collect();
    let score = Bleu::default().corpus(&pairs).ok()?;
    Some(Score {
        metric: "score".into(),
        value: score.score,
        stderr: None,
        n: pairs.len(),
        higher_is_better: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_as_python_rounds() {
        let pairs = [
            (0.03125, 0.0312),
            (0.09375, 0.0938),
            (0.123_45, 0.1235),
            (2.000_05, 2.0),
            (-0.031_25, -0.0312),
        ];
        for (value, want) in pairs {
            assert_eq!(rounded(value), want, "{value}");
        }
        assert!(rounded(f64::NAN).is_nan());
    }
}
