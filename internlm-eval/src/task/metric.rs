//! What a task measures.

use serde::{Deserialize, Serialize};

use super::spec::Mode;

/// A metric of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// Its name in reports.
    pub name: String,
    /// What it is; by default what its name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MetricKind>,
    /// Whether more is better; by default what its kind says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub higher_is_better: Option<bool>,
    /// Only after this filter; after each if None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// For `exact_match`: upper and lower case are the same.
    #[serde(default)]
    pub ignore_case: bool,
    /// For `exact_match`: ASCII punctuation is left out.
    #[serde(default)]
    pub ignore_punctuation: bool,
    /// For `exact_match`: digits are left out.
    #[serde(default)]
    pub ignore_numbers: bool,
    /// For `exact_match`: what these match is left out of both sides first, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regexes_to_ignore: Vec<String>,
    /// For `pass_at_k`: the k's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub k: Vec<usize>,
    /// For `pass_at_k`: the program that is run; a text that sees the row and `answer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// For `pass_at_k`: the program's time.
    #[serde(default = "three_seconds")]
    pub timeout_seconds: f64,
    /// For perplexities: the text whose words and bytes are counted, where it is not the scored one; text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<String>,
    /// Which choices are right, for `probability_mass`: an expression that gives a list of 0 and 1. For IFEval and tool
    /// calls what they check against; by default the row or the gold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// For BLEU, ROUGE and F1: how texts are cut to words; `zh` for Chinese.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
}

/// Kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// The likeliest choice is right; for `loglikelihood`: the target is what greedy decoding gives.
    Acc,
    /// The same with log-likelihoods divided by the choices' characters.
    AccNorm,
    /// The same, divided by UTF-8 bytes.
    AccBytes,
    /// The same, less the log-likelihood of the choice without the question.
    AccMutualInfo,
    /// Equal texts; for choices: greedy decoding gives the right one.
    ExactMatch,
    /// The share of the right choices in the probability of all (TruthfulQA mc2).
    ProbabilityMass,
    /// The squared distance of the choices' probabilities from the truth.
    BrierScore,
    /// The F1 of yes-or-no choices, or of words for generated texts.
    F1,
    /// Matthews' correlation coefficient.
    Mcc,
    /// exp of the mean negative log-likelihood of the targets.
    Perplexity,
    /// The same per word.
    WordPerplexity,
    /// The same per byte.
    BytePerplexity,
    /// log2 of it.
    BitsPerByte,
    /// An accepted answer stands in the text.
    Contains,
    /// The last number of the text is the right one.
    NumericMatch,
    /// Equal after MATH's normalisation of LaTeX, by the rule of Minerva.
    MinervaMath,
    /// Mathematically equal, whatever the form.
    MathVerify,
    /// Equal by AGIEval's own parser and normalisation.
    AgievalMath,
    /// Programs that pass their tests.
    PassAtK,
    /// IFEval: all instructions of a prompt are followed.
    PromptLevelStrictAcc,
    /// IFEval: the share of instructions that are followed.
    InstLevelStrictAcc,
    /// IFEval, with leniency towards the answer's frame.
    PromptLevelLooseAcc,
    /// IFEval, with leniency towards the answer's frame.
    InstLevelLooseAcc,
    /// Corpus BLEU of sacrebleu.
    Bleu,
    /// chrF of sacrebleu.
    Chrf,
    /// ROUGE-1's F.
    Rouge1,
    /// ROUGE-2's F.
    Rouge2,
    /// ROUGE-L's F.
    RougeL,
    /// The answer is a tool call in the wanted form.
    ToolFormat,
    /// It calls the right tool.
    ToolName,
    /// Its arguments are the right ones (the F1 of names and values).
    ToolArguments,
    /// A needle was found: the share of its key words in the answer, and its heat map.
    Needle,
}

impl MetricKind {
    /// The kind that a name says.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::from(name)).ok()
    }

    pub(super) fn higher_is_better(self) -> bool {
        !matches!(
            self,
            MetricKind::BrierScore
                | MetricKind::Perplexity
                | MetricKind::WordPerplexity
                | MetricKind::BytePerplexity
                | MetricKind::BitsPerByte
        )
    }

    /// Whether a mode gives what the metric needs.
    pub(super) fn fits(self, mode: Mode) -> bool {
        use MetricKind as K;
        match mode {
            Mode::MultipleChoice | Mode::Rank => matches!(
                self,
                K::Acc
                    | K::AccNorm
                    | K::AccBytes
                    | K::AccMutualInfo
                    | K::ExactMatch
                    | K::ProbabilityMass
                    | K::BrierScore
                    | K::F1
                    | K::Mcc
            ),
            Mode::Reward => matches!(self, K::Acc),
            Mode::Loglikelihood => matches!(self, K::Acc | K::Perplexity | K::ExactMatch),
            Mode::Rolling => {
                matches!(self, K::WordPerplexity | K::BytePerplexity | K::BitsPerByte)
            }
            Mode::Generate | Mode::Chat | Mode::MultiTurn => !matches!(
                self,
                K::Acc
                    | K::AccNorm
                    | K::AccBytes
                    | K::AccMutualInfo
                    | K::ProbabilityMass
                    | K::BrierScore
                    | K::Mcc
                    | K::Perplexity
                    | K::WordPerplexity
                    | K::BytePerplexity
                    | K::BitsPerByte
            ),
        }
    }
}

impl MetricSpec {
    pub(super) fn named(name: &str, kind: MetricKind) -> Self {
        MetricSpec {
            name: name.to_owned(),
            kind: Some(kind),
            higher_is_better: None,
            filter: None,
            ignore_case: false,
            ignore_punctuation: false,
            ignore_numbers: false,
            regexes_to_ignore: Vec::new(),
            k: Vec::new(),
            program: None,
            timeout_seconds: three_seconds(),
            counted: None,
            labels: None,
            tokenizer: None,
        }
    }

    /// What a mode measures if the task says nothing.
    pub(super) fn defaults(mode: Mode) -> Vec<Self> {
        let kinds: &[(&str, MetricKind)] = match mode {
            Mode::MultipleChoice => &[("acc", MetricKind::Acc), ("acc_norm", MetricKind::AccNorm)],
            Mode::Rank => &[("acc", MetricKind::Acc), ("acc_norm", MetricKind::AccNorm)],
            Mode::Reward => &[("acc", MetricKind::Acc)],
            Mode::Loglikelihood => &[
                ("perplexity", MetricKind::Perplexity),
                ("acc", MetricKind::Acc),
            ],
            Mode::Rolling => &[
                ("word_perplexity", MetricKind::WordPerplexity),
                ("byte_perplexity", MetricKind::BytePerplexity),
                ("bits_per_byte", MetricKind::BitsPerByte),
            ],
            Mode::Generate | Mode::Chat | Mode::MultiTurn => {
                &[("exact_match", MetricKind::ExactMatch)]
            }
        };
        kinds
            .iter()
            .map(|(name, kind)| Self::named(name, *kind))
            .collect()
    }

    pub(super) fn kind(&self) -> Option<MetricKind> {
        self.kind.or_else(|| MetricKind::of_name(&self.name))
    }
}

fn three_seconds() -> f64 {
    3.0
}
