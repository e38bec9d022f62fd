//! `text_stats`.

use internlm_agent::tools::text_stats;
use serde_json::json;

use super::support::{misfit, text};

#[test]
fn it_counts() {
    let arguments = json!({"text": "strawberry 草莓\n", "part": "r"});
    let want = "{\"characters\": 14, \"lines\": 1, \"occurrences\": 3, \"words\": 2}";
    let counted: serde_json::Value = serde_json::from_str(&text(&text_stats(), arguments)).unwrap();
    assert_eq!(
        counted,
        serde_json::from_str::<serde_json::Value>(want).unwrap()
    );
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let want = "`text` is missing; `texts` is unknown (known are: text, part)";
    assert_eq!(misfit(&text_stats(), json!({"texts": ""})), want);
}
