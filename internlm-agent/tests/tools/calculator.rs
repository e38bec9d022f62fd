//! `calculator`; its expressions have tests of their own, beside its source.

use internlm_agent::tools::calculator;
use serde_json::json;

use super::support::{failure, misfit, text};

#[test]
fn it_calculates() {
    let want = "449";
    assert_eq!(text(&calculator(), json!({"expression": "37*12+5"})), want);
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let want = "`expression` must be string, not a number";
    assert_eq!(misfit(&calculator(), json!({"expression": 449})), want);
}

#[test]
fn numbers_and_brackets_have_limits() {
    let want = "a number would have more than 262144 bits";
    assert_eq!(
        failure(&calculator(), json!({"expression": "9**9**9**9"})),
        want
    );
    let deep = json!({"expression": "(".repeat(100_000)});
    let want = "brackets are nested deeper than 64";
    assert_eq!(failure(&calculator(), deep), want);
}
