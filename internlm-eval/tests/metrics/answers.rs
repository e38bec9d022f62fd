//! Which part of a text is the answer to a formula: verdicts of math-verify 0.9.0 on random texts of formulas, boxes,
//! numbers and phrases, as OpenCompass 0.5.4 (`MATHVerifyEvaluator`) and lm-evaluation-harness 0.4.13 (`minerva_math`)
//! call it.

use internlm_eval::math::{Anchors, verify_extracted};
use serde_json::Value;

#[test]
fn verdicts_are_those_of_math_verify() {
    let cases = include_str!("../fixtures/math_verify.jsonl");
    assert_eq!(cases.lines().count(), 300);
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| case[name].as_str().unwrap();
        let (gold, text) = (field("gold"), field("text"));
        let opencompass = verify_extracted(text, &format!("${gold}$"), Anchors::Needed);
        assert_eq!(opencompass, case["opencompass"], "{line}");
        let harness = verify_extracted(text, &format!("\\boxed{{{gold}}}"), Anchors::Optional);
        assert_eq!(harness, case["harness"], "{line}");
    }
}
