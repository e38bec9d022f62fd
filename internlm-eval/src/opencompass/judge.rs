//! From responses to samples.

use std::collections::BTreeMap;

use internlm_core::CodeExecutor;
use serde_json::{Value, json};

use super::dialect::Dialect;
use super::evaluator::{Evaluator, MathRule};
use super::field::python_str;
use super::meta_template::role_part;
use super::program::{self, Outcome};
use super::spec::{Inferencer, Spec};
use crate::benchmark::Sample;
use crate::error::{Error, Result};
use crate::extract::compare::Comparison;
use crate::extract::{Extractor, agieval, open_compass};
use crate::ifeval::{self, Instruction};
use crate::item::{Item, Response};
use crate::math::{self, Anchors};
use crate::metric::bleu::Bleu;
use crate::metric::{rouge, squad};
use crate::python_text::strip;

/// Judges the items of a task.
#[derive(Debug)]
pub struct Judge {
    spec: Spec,
    task: String,
    role: Option<(Option<String>, Option<String>)>,
    prediction: Option<Extractor>,
    gold: Option<Extractor>,
}

/// A judged answer: what counts as the prediction, whether it is right, and its part of each figure.
#[derive(Default)]
struct Verdict {
    prediction: Value,
    correct: Option<bool>,
    metrics: BTreeMap<String, Value>,
    note: Option<String>,
}

impl Verdict {
    fn yes_or_no(metric: &str, prediction: impl Into<Value>, correct: bool) -> Self {
        Self {
            prediction: prediction.into(),
            correct: Some(correct),
            metrics: BTreeMap::from([(metric.to_owned(), json!(f64::from(u8::from(correct))))]),
            note: None,
        }
    }
}

impl Judge {
    /// `task` is the name for errors.
    ///
    /// # Errors
    /// A post-processor that is not known.
    pub fn new(task: &str, spec: &Spec, dialect: &Dialect) -> Result<Self> {
        let extractor = |name: &Option<String>| name.as_deref().map(Extractor::parse).transpose();
        let evaluation = &spec.evaluation;
        let role = match (&evaluation.pred_role, dialect) {
            (Some(role), Dialect::Meta(template)) => template
                .role(role)
                .map(|turn| (turn.begin.clone(), turn.end.clone())),
            _ => None,
        };
        Ok(Self {
            task: task.to_owned(),
            role,
            prediction: extractor(&evaluation.pred_postprocessor)?,
            gold: extractor(&evaluation.dataset_postprocessor)?,
            spec: spec.clone(),
        })
    }

    /// Judges one item. `labels` are those of the task ([`Prompter::labels`](super::Prompter::labels)).
    ///
    /// # Errors
    /// Responses of another kind or number than was asked for, code to run without an executor.
    pub fn judge(
        &self,
        item: &Item,
        labels: &[String],
        responses: &[Response],
        code: Option<&dyn CodeExecutor>,
    ) -> Result<Sample> {
        if responses.len() != item.requests.len() {
            let (got, asked) = (responses.len(), item.requests.len());
            return Err(self.misfit(item, format!("{got} responses to {asked} requests")));
        }
        let gold = self.gold(item)?;
        let verdict = if matches!(self.spec.inferencer, Inferencer::Gen { .. }) {
            let answers = self.answers(item, responses)?;
            self.judge_answers(item, &gold, &answers, code)?
        } else {
            let (prediction, scores) = self.choice(item, labels, responses)?;
            let mut verdict = self.judge_answers(item, &gold, &[prediction], code)?;
            verdict.metrics.insert("label_scores".into(), json!(scores));
            verdict
        };
        Ok(Sample {
            index: item.index,
            prediction: verdict.prediction,
            gold,
            correct: verdict.correct,
            metrics: verdict.metrics,
            note: verdict.note,
        })
    }

    /// The right answer, after its post-processor.
    fn gold(&self, item: &Item) -> Result<Value> {
        match (&self.gold, &item.gold) {
            (Some(extractor), Value::String(text)) => extractor.extract(text),
            _ => Ok(item.gold.clone()),
        }
    }

    /// The label that wins, and every label's score: mean cross entropy (lower is better) or log-likelihood.
    fn choice(
        &self,
        item: &Item,
        labels: &[String],
        responses: &[Response],
    ) -> Result<(String, Vec<(String, f64)>)> {
        let (names, lowest): (Vec<String>, bool) = match &self.spec.inferencer {
            Inferencer::Ppl { .. } => (self.spec.labels_of(&item.row, labels), true),
            Inferencer::Clp => {
                let choices = item.row.get("choices").and_then(Value::as_array);
                (
                    choices.into_iter().flatten().map(python_str).collect(),
                    false,
                )
            }
            _ => (labels.to_vec(), false),
        };
        let values: Vec<f64> = responses
            .iter()
            .map(|response| match response {
                // Scored as upstream's wrapper does: its log-likelihood is the negative mean.
                Response::Perplexity { value, .. } if lowest => Ok(*value),
                Response::Perplexity { value, .. } => Ok(-value),
                other => other
                    .loglikelihood()
                    .map(|(sum, _)| sum)
                    .ok_or_else(|| self.misfit(item, "scores were expected".into())),
            })
            .collect::<Result<_>>()?;
        let values: Vec<f64> = if values.len() == 2 * names.len() && lowest {
            values.chunks(2).map(|pair| pair[0] - pair[1]).collect()
        } else {
            values
        };
        if values.len() != names.len() || values.is_empty() {
            let (got, wanted) = (values.len(), names.len());
            return Err(self.misfit(item, format!("{got} scores of {wanted} labels")));
        }
        let mut best = 0;
        for (i, value) in values.iter().enumerate() {
            let better = if lowest {
                *value < values[best]
            } else {
                *value > values[best]
            };
            if better {
                best = i;
            }
        }
        let winner = names[best].clone();
        Ok((winner, names.into_iter().zip(values).collect()))
    }

    /// The texts of the model, cut to its role.
    fn answers(&self, item: &Item, responses: &[Response]) -> Result<Vec<String>> {
        let [Response::Texts { answers }] = responses else {
            return Err(self.misfit(item, "texts were expected".into()));
        };
        let texts = answers.iter().map(|turns| {
            let text = turns.last().map(String::as_str).unwrap_or_default();
            let text = match &self.role {
                Some((begin, end)) => role_part(text, begin.as_deref(), end.as_deref()),
                None => text,
            };
            text.to_owned()
        });
        let texts: Vec<String> = texts.collect();
        if texts.is_empty() {
            return Err(self.misfit(item, "there is no answer".into()));
        }
        Ok(texts)
    }

    /// Judges one answer or several: of several the figures are the means, and the item is right if the first is.
    fn judge_answers(
        &self,
        item: &Item,
        gold: &Value,
        answers: &[String],
        code: Option<&dyn CodeExecutor>,
    ) -> Result<Verdict> {
        let mut verdicts = Vec::with_capacity(answers.len());
        for answer in answers {
            let text = match &self.prediction {
                Some(extractor) => extractor.extract_text(answer)?,
                None => answer.clone(),
            };
            verdicts.push(self.judge_text(item, gold, &text, code)?);
        }
        let right = verdicts.iter().filter(|v| v.correct == Some(true)).count();
        if verdicts.len() > 1 {
            let count = verdicts.len() as f64;
            let mut means: BTreeMap<String, Value> = BTreeMap::new();
            for name in verdicts[0].metrics.keys() {
                let values = verdicts
                    .iter()
                    .map(|v| v.metrics.get(name).and_then(Value::as_f64));
                if let Some(sum) = values.sum::<Option<f64>>() {
                    means.insert(name.clone(), json!(sum / count));
                }
            }
            let predictions: Vec<Value> = verdicts.iter().map(|v| v.prediction.clone()).collect();
            let first = &mut verdicts[0];
            first.metrics.extend(means);
            first.prediction = json!(predictions);
        }
        let count = verdicts.len();
        let Some(mut verdict) = verdicts.into_iter().next() else {
            return Err(self.misfit(item, "there is no answer".into()));
        };
        if verdict.correct.is_some() {
            verdict
                .metrics
                .insert("right_of".into(), json!([right, count]));
        }
        Ok(verdict)
    }

    fn judge_text(
        &self,
        item: &Item,
        gold: &Value,
        text: &str,
        code: Option<&dyn CodeExecutor>,
    ) -> Result<Verdict> {
        let gold_text = python_str(gold);
        Ok(match &self.spec.evaluation.evaluator {
            Evaluator::Accuracy => Verdict::yes_or_no("accuracy", text, text == gold_text),
            Evaluator::Exact { metric } => Verdict::yes_or_no(metric, text, text == gold_text),
            Evaluator::Em => {
                let text = open_compass::general(text);
                let right = texts_of(gold);
                let found = |right: &String| *right == text || open_compass::general(right) == text;
                let correct = right.iter().any(found);
                Verdict::yes_or_no("score", text, correct)
            }
            Evaluator::Gsm8k => {
                let correct = Comparison::Gsm8k.equal(Some(text), Some(&gold_text));
                Verdict::yes_or_no("accuracy", text, correct)
            }
            Evaluator::Bbh => {
                let correct = Comparison::BbhFreeform.equal(Some(text), Some(&gold_text));
                Verdict::yes_or_no("score", open_compass::bbh_freeform(text)?, correct)
            }
            Evaluator::AgievalCloze => {
                let answer = agieval::math_answer(text, agieval::Setting::ZeroShot);
                let correct = Comparison::Agieval.equal(answer.as_deref(), gold.as_str());
                Verdict::yes_or_no("score", answer, correct)
            }
            Evaluator::Math { rule } => self.math(*rule, text, gold),
            Evaluator::HumanEval { .. } => {
                let outcome = program::run(
                    self.executor(code)?,
                    program::human_eval(&item.row, text),
                    3,
                )?;
                self.ran("humaneval_pass@1", text, outcome)
            }
            Evaluator::Mbpp => {
                let answer = Extractor::parse("mbpp")?.extract_text(text)?;
                let program = format!("{answer}\n{gold_text}");
                let outcome = program::run(self.executor(code)?, program, 10)?;
                let mut verdict = self.ran("score", &answer, outcome);
                for kind in Outcome::ALL {
                    let count = u8::from(kind == outcome);
                    verdict.metrics.insert(kind.as_str().into(), json!(count));
                }
                verdict
            }
            Evaluator::TriviaQa => {
                let text = trivia_answer(text);
                let aliases = texts_of(gold);
                let mut aliases = aliases
                    .iter()
                    .map(|a| open_compass::general(a).to_lowercase());
                let correct = aliases.any(|alias| text.contains(&alias));
                Verdict::yes_or_no("score", text, correct)
            }
            Evaluator::Lambada => {
                let word = strip(text).split(' ').next().unwrap_or_default();
                let word = word
                    // In upstream's class of characters the backslash only escapes the bracket after it.
                    .split(|c: char| c.is_ascii_punctuation() && c != '\\')
                    .next()
                    .unwrap_or_default();
                let correct = open_compass::general(word) == open_compass::general(&gold_text);
                Verdict::yes_or_no("accuracy", word, correct)
            }
            Evaluator::Ifeval => self.ifeval(gold, text)?,
            Evaluator::GaokaoBench { question_type } => {
                let right = texts_of(gold);
                if !question_type.is_objective() {
                    return Ok(Verdict {
                        prediction: text.into(),
                        metrics: BTreeMap::from([("points".into(), json!([0, 0]))]),
                        note: Some("not scored by rule".into()),
                        ..Verdict::default()
                    });
                }
                let answers = question_type.answers(text, right.len());
                let (made, full) = question_type.points(&answers, &right);
                Verdict {
                    correct: Some(answers == right),
                    prediction: json!(answers),
                    metrics: BTreeMap::from([("points".into(), json!([made, full]))]),
                    note: None,
                }
            }
            Evaluator::TruthfulQa { metrics } => self.truthful(metrics, gold, text)?,
            Evaluator::Rouge => {
                let kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"];
                let scores = kinds.map(|name| {
                    let kind = rouge::Kind::parse(name)?;
                    let score = rouge::score(kind, text, &gold_text, false);
                    Ok((name.to_owned(), json!(score.f1)))
                });
                Verdict {
                    prediction: text.into(),
                    metrics: scores.into_iter().collect::<Result<_>>()?,
                    ..Verdict::default()
                }
            }
            Evaluator::JiebaRouge => jieba_rouge(text, &gold_text)?,
            Evaluator::Bleu => {
                let references = texts_of(gold);
                Verdict {
                    prediction: text.into(),
                    metrics: BTreeMap::from([("bleu".into(), json!([text, references]))]),
                    ..Verdict::default()
                }
            }
            Evaluator::Squad => {
                let line = text.split('\n').next().unwrap_or_default();
                Verdict {
                    prediction: line.into(),
                    metrics: BTreeMap::from([("f1".into(), json!(squad_v1(line, &gold_text)))]),
                    ..Verdict::default()
                }
            }
        })
    }

    fn math(&self, rule: MathRule, text: &str, gold: &Value) -> Verdict {
        let gold = gold.as_str();
        let correct = match rule {
            MathRule::Verify => gold.is_some_and(|gold| {
                math::verify_extracted(text, &format!("${gold}$"), Anchors::Needed)
            }),
            MathRule::V1 => Comparison::MathV1.equal(Some(text), gold),
            MathRule::V2 => Comparison::MathV2.equal(Some(text), gold),
        };
        Verdict::yes_or_no("accuracy", text, correct)
    }

    fn ran(&self, metric: &str, answer: &str, outcome: Outcome) -> Verdict {
        let mut verdict = Verdict::yes_or_no(metric, answer, outcome == Outcome::Pass);
        if outcome != Outcome::Pass {
            verdict.note = Some(outcome.as_str().to_owned());
        }
        verdict
    }

    fn ifeval(&self, reference: &Value, text: &str) -> Result<Verdict> {
        let list = |name: &str| reference.get(name).and_then(Value::as_array).cloned();
        let ids = list("instruction_id_list").unwrap_or_default();
        let kwargs = list("kwargs").unwrap_or_default();
        let mut instructions = Vec::with_capacity(ids.len());
        for (i, id) in ids.iter().enumerate() {
            let mut arguments = kwargs
                .get(i)
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            arguments.retain(|_, value| !value.is_null());
            instructions.push(Instruction::parse(
                id.as_str().unwrap_or_default(),
                &arguments,
            )?);
        }
        let followed = ifeval::check(&instructions, text)?;
        let strict = followed.strict.iter().all(|followed| *followed);
        Ok(Verdict {
            prediction: text.into(),
            correct: Some(strict),
            metrics: BTreeMap::from([
                ("strict".into(), json!(followed.strict)),
                ("loose".into(), json!(followed.loose)),
            ]),
            note: None,
        })
    }

    fn truthful(&self, metrics: &[String], reference: &Value, text: &str) -> Result<Verdict> {
        let mut verdict = Verdict {
            prediction: text.into(),
            ..Verdict::default()
        };
        // An answer of white space has no part in the figures.
        if strip(text).is_empty() {
            return Ok(verdict);
        }
        let answers = |name: &str| texts_of(&reference["answers"][name]);
        let (mut right, wrong) = (answers("correct_answers"), answers("incorrect_answers"));
        if !right.iter().any(|answer| answer == "I have no comment.") {
            right.push("I have no comment.".into());
        }
        for metric in metrics {
            let similar = |answer: &String| -> Result<f64> {
                match metric.as_str() {
                    "rouge" => {
                        let kind = rouge::Kind::parse("rouge1")?;
                        Ok(rouge::score(kind, text, answer, false).f1)
                    }
                    "bleu" => google_bleu(text, answer),
                    other => Err(Error::Prompt(format!("TruthfulQA has no metric {other:?}"))),
                }
            };
            let most = |answers: &[String]| -> Result<f64> {
                let mut most = f64::NEG_INFINITY;
                for answer in answers.iter().filter(|answer| !answer.is_empty()) {
                    most = most.max(similar(answer)?);
                }
                Ok(most)
            };
            let (best, worst) = (most(&right)?, most(&wrong)?);
            if !(best.is_finite() && worst.is_finite()) {
                continue;
            }
            for (name, value) in [
                ("max", best),
                ("diff", best - worst),
                ("acc", f64::from(u8::from(best > worst))),
            ] {
                verdict
                    .metrics
                    .insert(format!("{metric}_{name}"), json!(value));
            }
            verdict.correct = Some(best > worst);
        }
        Ok(verdict)
    }

    fn executor<'a>(&self, code: Option<&'a dyn CodeExecutor>) -> Result<&'a dyn CodeExecutor> {
        code.ok_or_else(|| Error::NoExecutor {
            task: self.task.clone(),
        })
    }

    fn misfit(&self, item: &Item, what: String) -> Error {
        Error::Responses {
            task: self.task.clone(),
            index: item.index,
            what,
        }
    }
}

/// Texts of a list, or the one text.
fn texts_of(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().map(python_str).collect(),
        other => vec![python_str(other)],
    }
}

/// SQuAD 1's F1, which upstream's evaluator computes: nothing has nothing in common with nothing.
fn squad_v1(line: &str, gold: &str) -> f64 {
    if squad::normalize(line).is_empty() {
        0.0
    } else {
        squad::f1(line, &[gold])
    }
}

/// The answer in a text to TriviaQA.
fn trivia_answer(text: &str) -> String {
    let line = strip(text)
        .split('\n')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let mut answer = line.as_str();
    for mark in ["answer is", "a:", "answer:"] {
        answer = answer.rsplit(mark).next().unwrap_or_default();
    }
    open_compass::general(strip(answer))
}

#[cfg(feature = "jieba")]
fn jieba_rouge(text: &str, gold: &str) -> Result<Verdict> {
    let score = crate::metric::chinese_rouge::score(text, gold);
    let parts = [
        ("rouge1", score.rouge1),
        ("rouge2", score.rouge2),
        ("rougeL", score.rouge_l),
    ];
    let metrics = parts
        .into_iter()
        .map(|(name, score)| (name.to_owned(), json!(score.f1)));
    Ok(Verdict {
        prediction: text.into(),
        metrics: metrics.collect(),
        ..Verdict::default()
    })
}

#[cfg(not(feature = "jieba"))]
fn jieba_rouge(_: &str, _: &str) -> Result<Verdict> {
    Err(Error::Feature {
        what: "ROUGE of Chinese texts",
        feature: "jieba",
    })
}

/// BLEU of one pair in `[0, 1]`, as `evaluate`'s metric `bleu` computes it: tokens of sacrebleu's `13a`, orders 1 to 4,
/// no smoothing, so that a pair without a common 4-gram has 0.
fn google_bleu(text: &str, answer: &str) -> Result<f64> {
    let bleu = Bleu {
        smoothing: crate::metric::bleu::Smoothing::None,
        ..Bleu::default()
    };
    let score = bleu.corpus(&[(text, &[answer][..])])?;
    Ok(score.score / 100.0)
}
