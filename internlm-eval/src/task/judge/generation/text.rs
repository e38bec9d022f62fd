//! Texts against texts.

use serde_json::{Value as Json, json};

use crate::error::Result;
use crate::extract::agieval;
use crate::math::{self, Anchors, equivalence, minerva};
use crate::metric::bleu::Bleu;
use crate::metric::chrf::Chrf;
use crate::metric::standard_error::{DRAWS_OF_CORPUS_METRICS, bootstrap};
use crate::metric::tokenize::Tokenizer;
use crate::metric::{rouge, squad};
use crate::task::metric::{MetricKind, MetricSpec};

/// The item's part of a metric; None if the metric is none of texts.
pub(super) fn judge(
    metric: &MetricSpec,
    kind: MetricKind,
    answer: &str,
    golds: &[String],
) -> Result<Option<Json>> {
    let references: Vec<&str> = golds.iter().map(String::as_str).collect();
    let any = |equal: &dyn Fn(&str) -> bool| truth(references.iter().any(|gold| equal(gold)));
    Ok(Some(match kind {
        MetricKind::ExactMatch => {
            let rule = metric.exact_match()?;
            let mut right = false;
            for gold in &references {
                right |= rule.matches(answer, gold)?;
            }
            truth(right)
        }
        MetricKind::Contains => {
            let rule = metric.exact_match()?;
            let answer = rule.normalized(answer)?;
            let mut right = false;
            for gold in &references {
                let gold = rule.normalized(gold)?;
                right |= !gold.is_empty() && answer.contains(&gold);
            }
            truth(right)
        }
        MetricKind::NumericMatch => {
            let said = last_number(answer);
            any(&|gold| {
                let pair = said.zip(last_number(gold));
                pair.is_some_and(|(said, gold)| (said - gold).abs() < 1e-6)
            })
        }
        MetricKind::MinervaMath => {
            let said = minerva::answer(answer);
            any(&|gold| minerva::is_equiv(&said, gold))
        }
        MetricKind::MathVerify => {
            any(&|gold| math::verify_extracted(answer, gold, Anchors::Optional))
        }
        MetricKind::AgievalMath => {
            // The gold goes through the same parser; where both give nothing they are equal, as for the peer.
            let said = agieval::formula(answer);
            any(&|gold| match (&said, &agieval::formula(gold)) {
                (Some(said), Some(gold)) => equivalence::agieval_is_equiv(said, gold),
                (said, gold) => said == gold,
            })
        }
        MetricKind::F1 => json!(squad::f1(answer, &references)),
        MetricKind::Rouge1 | MetricKind::Rouge2 | MetricKind::RougeL => {
            json!(rouge_f1(metric, kind, answer, &references)?)
        }
        MetricKind::Bleu | MetricKind::Chrf => json!([answer, references]),
        MetricKind::Needle => {
            let said = answer.to_lowercase();
            let found = references
                .iter()
                .filter(|key| said.contains(&key.to_lowercase()));
            json!(found.count() as f64 / references.len().max(1) as f64)
        }
        _ => return Ok(None),
    }))
}

fn truth(right: bool) -> Json {
    json!(if right { 1.0 } else { 0.0 })
}

fn rouge_f1(
    metric: &MetricSpec,
    kind: MetricKind,
    answer: &str,
    references: &[&str],
) -> Result<f64> {
    let name = match kind {
        MetricKind::Rouge1 => "rouge1",
        MetricKind::Rouge2 => "rouge2",
        _ => "rougeL",
    };
    #[cfg(feature = "jieba")]
    if metric.tokenizer.as_deref() == Some("zh") {
        let best = references.iter().map(|reference| {
            let score = crate::metric::chinese_rouge::score(answer, reference);
            match kind {
                MetricKind::Rouge1 => score.rouge1.f1,
                MetricKind::Rouge2 => score.rouge2.f1,
                _ => score.rouge_l.f1,
            }
        });
        return Ok(best.fold(0.0, f64::max));
    }
    #[cfg(not(feature = "jieba"))]
    if metric.tokenizer.as_deref() == Some("zh") {
        return Err(crate::Error::Feature {
            what: "ROUGE of Chinese",
            feature: "jieba",
        });
    }
    Ok(rouge::best(rouge::Kind::parse(name)?, answer, references, false).f1)
}

/// Corpus BLEU of pairs `[answer, references]`, with its standard error.
pub(in crate::task::judge) fn bleu(
    metric: &MetricSpec,
    parts: &[&Json],
) -> Result<(f64, Option<f64>)> {
    let mut bleu = Bleu::default();
    if let Some(tokenizer) = &metric.tokenizer {
        bleu.tokenizer = Tokenizer::parse(tokenizer)?;
    }
    let statistics = parts
        .iter()
        .map(|part| bleu.statistics(part[0].as_str().unwrap_or_default(), &references(part)))
        .collect::<Result<Vec<_>>>()?;
    let value = bleu.score(&statistics)?.score;
    let drawn = |at: &[usize]| {
        let chosen = at.iter().map(|at| &statistics[*at]);
        bleu.score(chosen).map_or(f64::NAN, |score| score.score)
    };
    Ok((
        value,
        bootstrap(statistics.len(), DRAWS_OF_CORPUS_METRICS, drawn).ok(),
    ))
}

/// Corpus chrF of pairs `[answer, references]`, with its standard error.
pub(in crate::task::judge) fn chrf(parts: &[&Json]) -> Result<(f64, Option<f64>)> {
    let chrf = Chrf::default();
    let statistics = parts
        .iter()
        .map(|part| chrf.statistics(part[0].as_str().unwrap_or_default(), &references(part)))
        .collect::<Result<Vec<_>>>()?;
    let value = chrf.score(&statistics)?;
    let drawn = |at: &[usize]| {
        let chosen = at.iter().map(|at| &statistics[*at]);
        chrf.score(chosen).unwrap_or(f64::NAN)
    };
    Ok((
        value,
        bootstrap(statistics.len(), DRAWS_OF_CORPUS_METRICS, drawn).ok(),
    ))
}

fn references(part: &Json) -> Vec<&str> {
    let references = part[1].as_array().map_or(&[][..], Vec::as_slice);
    references.iter().filter_map(Json::as_str).collect()
}

/// The last number of a text; commas between its digits do not count.
fn last_number(text: &str) -> Option<f64> {
    let text = text.replace(',', "");
    let mut last = None;
    let mut number = String::new();
    for character in text.chars().chain([' ']) {
        let fits = match character {
            '-' => number.is_empty(),
            '.' => !number.is_empty() && number != "-" && !number.contains('.'),
            digit => digit.is_ascii_digit(),
        };
        if fits {
            number.push(character);
            continue;
        }
        last = number.trim_end_matches('.').parse().ok().or(last);
        number.clear();
        if character == '-' {
            number.push(character);
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_numbers() {
        assert_eq!(last_number("it is 1,234.50 or -7."), Some(-7.0));
        assert_eq!(last_number("3-4"), Some(-4.0));
        assert_eq!(last_number("none - ."), None);
        assert_eq!(last_number("1.2.3"), Some(3.0));
    }

    #[track_caller]
    fn check(kind: MetricKind, answer: &str, golds: &[&str], want: f64) {
        let golds: Vec<String> = golds.iter().map(|gold| (*gold).to_owned()).collect();
        let metric = MetricSpec::named("m", kind);
        let value = judge(&metric, kind, answer, &golds).unwrap().unwrap();
        assert!((value.as_f64().unwrap() - want).abs() < 1e-12, "{value}");
    }

    #[test]
    fn kinds() {
        check(MetricKind::ExactMatch, "a", &["b", "a"], 1.0);
        check(
            MetricKind::Contains,
            "it is Onion soup",
            &["onion", "Onion"],
            1.0,
        );
        check(MetricKind::Contains, "x", &[""], 0.0);
        check(MetricKind::NumericMatch, "it is 1,000.", &["1000"], 1.0);
        check(
            MetricKind::F1,
            "the Denver Broncos!",
            &["Broncos"],
            2.0 / 3.0,
        );
        check(MetricKind::Rouge1, "a b", &["a c"], 0.5);
        check(MetricKind::AgievalMath, "so $x = 3$", &["3"], 1.0);
        check(
            MetricKind::Needle,
            "Red and BLUE",
            &["red", "green", "blue"],
            2.0 / 3.0,
        );
    }
}
