//! Any text may come from a model: nothing panics, hangs or runs.

use std::sync::LazyLock;

use internlm_eval::extract::compare::Comparison;
use internlm_eval::extract::{Extractor, filter};
use internlm_eval::ifeval::{Instruction, check};
use internlm_eval::math;
use internlm_eval::metric::tokenize::{Tercom, Tokenizer};
use internlm_eval::metric::{bleu, chrf, rouge, squad, ter};
use proptest::prelude::*;
use serde_json::json;

const EXTRACTORS: &[&str] = &[
    "first_option_postprocess:ABCD",
    "last_option_postprocess:ABCD",
    "match_answer_pattern:(?i)ANSWER\\s*:\\s*([A-D])",
    "xml_tag_postprocessor:<conclude>",
    "extract_non_reasoning_content",
    "agieval.parse_math_answer:zero-shot",
    "agieval.parse_math_answer:few-shot-CoT",
    "agieval.parse_qa_multiple_answer:zero-shot",
    "agieval.parse_few_shot_qa_single_answer:few-shot",
    "agieval.extract_answer_in_bracket",
    "general",
    "first-number",
    "gsm8k",
    "gsm8k_dataset",
    "bbh-mcq",
    "bbh-freeform",
    "strategyqa",
    "triviaqa",
    "humaneval_v2",
    "humaneval_v3",
    "humaneval_internal_v1",
    "humaneval_internal_v2",
    "mbpp",
    "mbpp2",
    "math",
    "math_v2",
    "math_judgement",
    "boxed",
    "minerva_math",
];

static PARSED: LazyLock<Vec<Extractor>> = LazyLock::new(|| {
    EXTRACTORS
        .iter()
        .map(|name| Extractor::parse(name).unwrap())
        .collect()
});

const COMPARISONS: [Comparison; 8] = [
    Comparison::Exact,
    Comparison::BbhFreeform,
    Comparison::Gsm8k,
    Comparison::MathV1,
    Comparison::MathV2,
    Comparison::Agieval,
    Comparison::Minerva,
    Comparison::MathVerify,
];

/// Texts of pieces that the rules look for, and of anything.
fn texts() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "answer is ",
        "答案是",
        "A",
        "Question:",
        "#### ",
        "```",
        "\n",
        "[BEGIN]",
        "DONE",
        "'",
        "\\boxed{",
        "{",
        "}",
        "\\frac",
        "\\sqrt",
        "$",
        "=",
        "/",
        "1",
        ".5",
        ",",
        "(",
        ")",
        "[",
        "-",
        "^",
        "|",
        "<think>",
        "</conclude>",
        "【",
        "】",
        "**",
        " ",
        "\\begin{pmatrix}",
        "\\\\",
        "&",
        "\\text{",
        "cm",
        "°",
        "%",
        "!",
        "é",
        "\u{1c}",
        "½",
        "７",
        "±",
        "_",
    ];
    let piece = prop_oneof![
        8 => prop::sample::select(PIECES).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in texts(), other in texts()) {
        for extractor in PARSED.iter() {
            let _ = extractor.extract_text(&text);
        }
        for comparison in COMPARISONS {
            let equal = comparison.equal(Some(&text), Some(&other));
            prop_assert_eq!(equal, comparison.equal(Some(&other), Some(&text)), "{:?}", comparison);
        }
        let filter = filter::Filter::bbh().unwrap();
        prop_assert_eq!(filter.apply(vec![text.clone()], &[]).unwrap().len(), 1);
    }

    #[test]
    fn a_text_equals_itself(text in texts()) {
        for comparison in COMPARISONS {
            let needs_text = matches!(comparison, Comparison::Minerva | Comparison::MathVerify);
            if !needs_text || math::verify(&text, &text) {
                prop_assert!(comparison.equal(Some(&text), Some(&text)) || needs_text, "{:?}", comparison);
            }
        }
    }

    #[test]
    fn scores_stay_within_their_bounds(prediction in texts(), reference in texts()) {
        let pair = [(prediction.as_str(), &[reference.as_str()][..])];
        for tokenizer in [Tokenizer::V13a, Tokenizer::International, Tokenizer::Chinese, Tokenizer::Character, Tokenizer::None] {
            let score = bleu::Bleu { tokenizer, ..bleu::Bleu::sentence() }.corpus(&pair).unwrap().score;
            prop_assert!((0.0..=100.0 + 1e-9).contains(&score), "{}", score);
        }
        let score = chrf::Chrf::plus_plus().corpus(&pair).unwrap();
        prop_assert!((0.0..=100.0 + 1e-9).contains(&score));
        let full = Tercom { normalized: true, no_punctuation: true, asian_support: true, case_sensitive: true };
        prop_assert!(ter::corpus(full, &pair).unwrap() >= 0.0);
        for kind in [rouge::Kind::N(1), rouge::Kind::N(2), rouge::Kind::L, rouge::Kind::LSum] {
            let score = rouge::score(kind, &prediction, &reference, true);
            prop_assert!(score.f1 <= score.precision.max(score.recall) + 1e-12);
        }
        prop_assert!((0.0..=1.0).contains(&squad::f1(&prediction, &[&reference])));
    }

    #[test]
    fn a_prediction_that_is_its_reference_scores_full_marks(text in "[a-z]{3,8}( [a-z]{3,8}){3,9}") {
        let pair = [(text.as_str(), &[text.as_str()][..])];
        prop_assert!((bleu::Bleu::default().corpus(&pair).unwrap().score - 100.0).abs() < 1e-9);
        prop_assert!((chrf::Chrf::plus_plus().corpus(&pair).unwrap() - 100.0).abs() < 1e-9);
        prop_assert_eq!(ter::corpus(Tercom::default(), &pair).unwrap(), 0.0);
        prop_assert_eq!(rouge::score(rouge::Kind::LSum, &text, &text, true).f1, 1.0);
    }

    #[test]
    fn loose_is_never_stricter_than_strict(response in texts()) {
        let arguments = [
            ("length_constraints:number_sentences", json!({"num_sentences": 2, "relation": "at least"})),
            ("change_case:capital_word_frequency", json!({"capital_frequency": 1, "capital_relation": "at least"})),
            ("detectable_format:number_bullet_lists", json!({"num_bullets": 1})),
            ("detectable_format:json_format", json!({})),
            ("combination:two_responses", json!({})),
        ];
        let instructions: Vec<Instruction> = arguments
            .iter()
            .map(|(id, arguments)| Instruction::parse(id, arguments.as_object().unwrap()).unwrap())
            .collect();
        let followed = check(&instructions, &response).unwrap();
        for (strict, loose) in followed.strict.iter().zip(&followed.loose) {
            prop_assert!(loose | !strict);
        }
    }

    #[test]
    fn sums_are_equal_in_any_order(numbers in prop::collection::vec(-50_i32..50, 1..6)) {
        let sum = |numbers: &mut dyn Iterator<Item = &i32>| {
            let terms: Vec<String> = numbers.map(|n| format!("({n})x^2/{{3}}")).collect();
            terms.join("+")
        };
        let (there, back) = (sum(&mut numbers.iter()), sum(&mut numbers.iter().rev()));
        prop_assert!(math::verify(&there, &back), "{} {}", there, back);
        let total: i32 = numbers.iter().sum();
        let folded = format!("\\frac{{{total}}}{{3}}x^2");
        prop_assert!(math::verify(&there, &folded), "{} {}", there, folded);
    }
}

/// Long texts made to trip backtracking and nested rules end in an answer or an error.
#[test]
fn long_hostile_texts_end() {
    let long = [
        "[BEGIN]'".repeat(3000),
        "```\n".repeat(3000),
        "1.".repeat(10_000),
        format!("{}x", "1".repeat(20_000)),
        "{".repeat(20_000),
        "\\boxed{".repeat(5000),
        "\\frac".repeat(5000),
        "answer is ".repeat(5000),
        "<think>".repeat(3000),
        "* \n".repeat(5000),
        " \n".repeat(10_000),
        "\"".repeat(10_000),
        "a.b. ".repeat(3000),
        "故选A".repeat(3000),
    ];
    for text in &long {
        for extractor in PARSED.iter() {
            let _ = extractor.extract_text(text);
        }
        for comparison in COMPARISONS {
            let _ = comparison.equal(Some(text), Some("1"));
        }
    }
}
