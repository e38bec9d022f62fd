//! How answers are judged, as a task file says it.

use serde::{Deserialize, Serialize};

use super::gaokao::QuestionType;

/// What upstream calls `eval_cfg`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluation {
    /// The rule.
    pub evaluator: Evaluator,
    /// The role whose part of the answer counts, for models with a meta template: the answer is cut at that role's
    /// begin and end. (Upstream means to do so, but a condition that never holds keeps it from it; answers that stop
    /// at the role's end are the same either way.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pred_role: Option<String>,
    /// What takes the answer out of the model's text: a name of [`Extractor`](crate::extract::Extractor).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pred_postprocessor: Option<String>,
    /// The same for the right answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_postprocessor: Option<String>,
}

/// A rule of judging. Figures are per cent, but for those of [`TruthfulQa`](Evaluator::TruthfulQa).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Evaluator {
    /// The same text as the right answer, both as Python's `str` writes them (`AccEvaluator`).
    #[default]
    Accuracy,
    /// The same, under another name of the figure (`BBHEvaluator_mcq`, `AGIEvalEvaluator_mcq`).
    Exact {
        /// The figure's name.
        metric: String,
    },
    /// One of several answers, after the general clean-up of both sides (`EMEvaluator`).
    Em,
    /// The same text or number (`Gsm8kEvaluator`).
    Gsm8k,
    /// The right answer but for capitals, after BBH's clean-up (`BBHEvaluator`).
    Bbh,
    /// AGIEval's questions without options (`AGIEvalEvaluator`).
    AgievalCloze,
    /// Mathematical answers.
    Math {
        /// How they are compared.
        #[serde(default)]
        rule: MathRule,
    },
    /// HumanEval: the function's tests pass; pass@k where there are k answers (`HumanEvalEvaluator`). Runs code.
    HumanEval {
        /// The numbers k.
        k: Vec<usize>,
    },
    /// MBPP: the asserts hold (`MBPPEvaluator`). Runs code.
    Mbpp,
    /// An alias of the right answer is contained in the model's (`TriviaQAEvaluator`).
    TriviaQa,
    /// The first word (`LambadaEvaluator`).
    Lambada,
    /// IFEval's four figures (`IFEvaluator`).
    Ifeval,
    /// GAOKAO-Bench (`GaokaoBenchEvaluator`).
    GaokaoBench {
        /// The kind of question.
        question_type: QuestionType,
    },
    /// Similarity to the most similar true answer, less that to the most similar false one
    /// (`TruthfulQAEvaluator`), for texts that are not empty.
    TruthfulQa {
        /// `bleu`, `rouge`.
        metrics: Vec<String>,
    },
    /// ROUGE of English texts (`RougeEvaluator`).
    Rouge,
    /// ROUGE of Chinese texts over jieba's words (`JiebaRougeEvaluator`).
    JiebaRouge,
    /// BLEU of a corpus (`BleuEvaluator`).
    Bleu,
    /// F1 of words, of the first line of the answer (`SquadEvaluator`).
    Squad,
}

/// How mathematical answers are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MathRule {
    /// As values (`MATHVerifyEvaluator`); the answer is looked for in the whole text.
    #[default]
    Verify,
    /// As texts (`MATHEvaluator(version='v1')`).
    V1,
    /// As texts, with more clean-up (`MATHEvaluator(version='v2')`).
    V2,
}

impl Evaluator {
    /// Whether judging runs code that the model wrote.
    pub fn needs_code(&self) -> bool {
        matches!(self, Evaluator::HumanEval { .. } | Evaluator::Mbpp)
    }
}
