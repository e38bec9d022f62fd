//! Judging, against OpenCompass's own evaluators.

use std::time::Duration;

use internlm_core::CodeExecutor;
use internlm_core::code_executor::{CodeOutput, CodeRequest, CodeStatus};
use internlm_eval::opencompass::{Dialect, Evaluation, Evaluator, Inferencer, Judge, Spec, scores};
use internlm_eval::{Error, Item, Request, Response, Row, Score};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    evaluator: Row,
    pred: String,
    gold: Value,
    score: f64,
    #[serde(default)]
    answer: Option<Value>,
}

fn item(gold: Value, row: Value) -> Item {
    Item {
        index: 0,
        row: row.as_object().cloned().unwrap_or_default(),
        requests: vec![Request::Rolling {
            text: String::new(),
        }],
        gold,
    }
}

fn texts(answers: &[&str]) -> Response {
    Response::Texts {
        answers: answers
            .iter()
            .map(|answer| vec![(*answer).to_owned()])
            .collect(),
    }
}

fn judge(evaluation: Value) -> (Judge, Evaluator) {
    let evaluation: Evaluation = serde_json::from_value(evaluation).unwrap();
    let evaluator = evaluation.evaluator.clone();
    let spec = Spec {
        inferencer: Inferencer::default(),
        evaluation,
        ..Spec::default()
    };
    (Judge::new("t", &spec, &Dialect::Plain).unwrap(), evaluator)
}

/// The figure of this name.
fn named(figures: &[Score], name: &str) -> f64 {
    let found = figures.iter().find(|score| score.metric == name);
    found
        .unwrap_or_else(|| panic!("no {name} among {figures:?}"))
        .value
}

/// The first figure of one answer.
fn figure(evaluation: Value, gold: Value, answer: &str) -> f64 {
    let (judge, evaluator) = judge(evaluation);
    let sample = judge
        .judge(&item(gold, json!({})), &[], &[texts(&[answer])], None)
        .unwrap();
    scores(&evaluator, &[sample])[0].value
}

/// `gaokao.py`, `triviaqa.py` and `lambada.py` of OpenCompass 0.5.2 made the fixture.
#[test]
fn scores_are_upstreams() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("fixtures/evaluators.json")).unwrap();
    for case in cases {
        let evaluator: Row = case
            .evaluator
            .iter()
            .filter(|(name, _)| ["kind", "question_type"].contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let id = format!("{evaluator:?} {:?} {}", case.pred, case.gold);
        let (judge, evaluator) = judge(json!({"evaluator": evaluator}));
        let item = item(case.gold, json!({}));
        let sample = judge
            .judge(&item, &[], &[texts(&[&case.pred])], None)
            .unwrap();
        if let Some(answer) = case.answer {
            assert_eq!(sample.prediction, answer, "{id}");
        }
        let value = scores(&evaluator, &[sample])[0].value;
        assert!(
            (value - case.score).abs() < 1e-9,
            "{id}: {value}, not {}",
            case.score
        );
    }
}

#[test]
fn answers_are_taken_out_and_compared() {
    let gsm8k = json!({"evaluator": {"kind": "gsm8k"}, "pred_postprocessor": "gsm8k_postprocess",
        "dataset_postprocessor": "gsm8k_dataset_postprocess"});
    let gold = json!("6 * 7 = <<6*7=42>>42\n#### 42");
    assert_eq!(
        figure(gsm8k.clone(), gold.clone(), "So it is 42.0.\nQuestion: 43"),
        100.0
    );
    assert_eq!(figure(gsm8k, gold, "So it is 43"), 0.0);
    let bbh = json!({"evaluator": {"kind": "exact", "metric": "score"}, "pred_role": "BOT",
        "pred_postprocessor": "bbh_mcq_postprocess", "dataset_postprocessor": "bbh_mcq_postprocess"});
    assert_eq!(figure(bbh, json!("(B)"), "so the answer is (B)."), 100.0);
    let free = json!({"evaluator": {"kind": "bbh"}});
    assert_eq!(
        figure(free.clone(), json!("False"), "So the answer is False."),
        100.0
    );
    assert_eq!(
        figure(free.clone(), json!("False"), "So the answer is false."),
        100.0
    );
    assert_eq!(figure(free, json!("False"), "So the answer is True."), 0.0);
    let math =
        json!({"evaluator": {"kind": "math"}, "dataset_postprocessor": "extract_boxed_answer"});
    let solution = json!("It is $\\boxed{\\frac{1}{2}}$.");
    assert_eq!(
        figure(
            math.clone(),
            solution.clone(),
            "The answer is $\\boxed{0.5}$."
        ),
        100.0
    );
    assert_eq!(figure(math, solution, "The answer is $\\boxed{0.6}$."), 0.0);
    let accuracy = json!({"evaluator": {"kind": "accuracy"}, "pred_postprocessor": "first_option_postprocess:ABCD"});
    assert_eq!(figure(accuracy, json!("C"), "答案选C"), 100.0);
    let plain = json!({});
    assert_eq!(figure(plain, json!(3), "3"), 100.0);
    let cloze = json!({"evaluator": {"kind": "agieval_cloze"}});
    assert_eq!(
        figure(cloze, json!("12"), "The answer is therefore $12$"),
        100.0
    );
    let em = json!({"evaluator": {"kind": "em"}});
    assert_eq!(figure(em, json!(["the cat"]), "cat."), 100.0);
    let squad = json!({"evaluator": {"kind": "squad"}});
    assert!((figure(squad, json!("Broncos"), "the Denver Broncos!\nx") - 200.0 / 3.0).abs() < 1e-9);
    let truthful = json!({"evaluator": {"kind": "truthful_qa", "metrics": ["bleu"]}});
    let gold = json!({"question": "q", "answers": {"best_answer": "a b c d",
        "correct_answers": ["a b c d e"], "incorrect_answers": ["f g h i j"]}});
    assert_eq!(figure(truthful, gold, "a b c d e"), 1.0);
}

#[test]
fn ifeval_has_four_figures() {
    let (judge, evaluator) = judge(json!({"evaluator": {"kind": "ifeval"}}));
    let gold = json!({"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma", "detectable_format:title"],
        "kwargs": [{"x": null}, {}]});
    let item = item(gold, json!({}));
    let sample = judge
        .judge(&item, &[], &[texts(&["no comma, no title"])], None)
        .unwrap();
    assert_eq!(sample.correct, Some(false));
    let other = judge
        .judge(&item, &[], &[texts(&["<<title>> no comma"])], None)
        .unwrap();
    let scores = scores(&evaluator, &[sample, other]);
    let names: Vec<_> = scores.iter().map(|score| score.metric.as_str()).collect();
    assert_eq!(
        names,
        [
            "Prompt-level-strict-accuracy",
            "Inst-level-strict-accuracy",
            "Prompt-level-loose-accuracy",
            "Inst-level-loose-accuracy"
        ]
    );
    assert!(
        scores.iter().all(|score| (score.value - 50.0).abs() < 1e-9),
        "{scores:?}"
    );
}

#[test]
fn repeated_answers_have_a_mean_and_a_stability() {
    let (judge, evaluator) = judge(json!({}));
    let item = item(json!("A"), json!({}));
    let sample = judge
        .judge(&item, &[], &[texts(&["A", "B", "A", "A"])], None)
        .unwrap();
    let figures = scores(&evaluator, &[sample]);
    assert_eq!(figures[0].metric, "accuracy (4 runs average)");
    assert_eq!(figures[0].value, 75.0);
    let named = |name: &str| named(&figures, name);
    assert_eq!(named("G-Pass@4_1.0"), 0.0);
    assert_eq!(named("G-Pass@4_0.75"), 100.0);
}

/// Says how each program ended, by what is written in it.
struct Scripted;

impl CodeExecutor for Scripted {
    fn run(&self, request: &CodeRequest) -> internlm_core::Result<CodeOutput> {
        let (status, stderr) = if request.code.contains("loop") {
            (CodeStatus::TimedOut, "")
        } else if request.code.contains("wrong") {
            (CodeStatus::Exited(1), "Traceback\nAssertionError\n")
        } else if request.code.contains("broken") {
            (CodeStatus::Exited(1), "NameError: name 'x' is not defined")
        } else {
            (CodeStatus::Exited(0), "")
        };
        Ok(CodeOutput {
            status,
            stdout: String::new(),
            stderr: stderr.into(),
            elapsed: Duration::ZERO,
        })
    }

    fn confinement(&self) -> &str {
        "none: nothing is run"
    }
}

#[test]
fn programs_are_run() {
    let (mbpp, evaluator) = judge(json!({"evaluator": {"kind": "mbpp"}}));
    let item_of = |row: Value| item(json!("assert f(1) == 1"), row);
    let item = item_of(json!({}));
    let refused = mbpp.judge(&item, &[], &[texts(&["x"])], None);
    assert!(
        matches!(refused, Err(Error::NoExecutor { .. })),
        "{refused:?}"
    );
    let answers = ["right", "wrong", "broken", "loop"]
        .map(|kind| format!(" '# {kind}\ndef f(x): return x'\n[DONE]"));
    let samples: Vec<_> = answers
        .iter()
        .map(|answer| {
            mbpp.judge(&item, &[], &[texts(&[answer])], Some(&Scripted))
                .unwrap()
        })
        .collect();
    let figures = scores(&evaluator, &samples);
    let named = |name: &str| named(&figures, name);
    assert_eq!(named("score"), 25.0);
    for name in ["pass", "timeout", "failed", "wrong_answer"] {
        assert_eq!(named(name), 1.0, "{name}");
    }
    let (human_eval, evaluator) =
        judge(json!({"evaluator": {"kind": "human_eval", "k": [1, 2, 10]},
        "pred_postprocessor": "humaneval_postprocess_v2"}));
    let item =
        item_of(json!({"prompt": "def f(x):\n", "test": "def check(c): pass", "entry_point": "f"}));
    let sample = human_eval
        .judge(
            &item,
            &[],
            &[texts(&["```python\n    return x\n```", "wrong"])],
            Some(&Scripted),
        )
        .unwrap();
    let figures = scores(&evaluator, &[sample]);
    let names: Vec<_> = figures
        .iter()
        .map(|score| (score.metric.as_str(), score.value))
        .collect();
    assert_eq!(
        names,
        [("humaneval_pass@1", 50.0), ("humaneval_pass@2", 100.0)]
    );
}
