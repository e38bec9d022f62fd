//! `postprocess.json`: all functions, input by input.

use internlm_eval::Error;
use internlm_eval::extract::Extractor;
use internlm_eval::extract::compare::Comparison;
use serde_json::Value;

use crate::goldens::{items, json, text};

/// Applies a function of the golden to an input: `None` where it fails.
fn apply(function: &str, input: &Value) -> Result<Value, Error> {
    let argument = |index: usize| text(&items(input)[index]);
    if let Ok(comparison) = Comparison::parse(function) {
        return Ok(comparison
            .equal(Some(argument(0)), Some(argument(1)))
            .into());
    }
    // Two functions take their setting with every input.
    let (name, subject) = match function {
        "match_answer_pattern" | "xml_tag_postprocessor" => {
            (format!("{function}:{}", argument(1)), argument(0))
        }
        "agieval.parse_math_answer" => (format!("{function}:{}", argument(0)), argument(1)),
        "agieval.parse_qa_multiple_answer" => (format!("{function}:{}", argument(1)), argument(0)),
        _ => (function.to_owned(), text(input)),
    };
    Extractor::parse(&name)?.extract(subject)
}

#[test]
fn every_function_answers_as_open_compass() {
    let Some(goldens) = json("postprocess.json") else {
        return;
    };
    let functions = goldens["functions"].as_object().unwrap();
    assert_eq!(functions.len(), 36);
    let mut wrong = Vec::new();
    for (name, function) in functions {
        for case in items(&function["cases"]) {
            let got = apply(name, &case["input"]);
            let agrees = match &got {
                Ok(value) => case.get("raises").is_none() && *value == case["output"],
                Err(error) => {
                    assert!(matches!(error, Error::Extract { .. }), "{name}: {error}");
                    case.get("raises").is_some()
                }
            };
            if !agrees {
                wrong.push(format!("{name}: {case} got {got:?}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
