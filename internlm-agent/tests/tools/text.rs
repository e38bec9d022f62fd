//! `text_stats`.

use internlm_agent::tools::text::{TextLimits, text_stats_within};
use internlm_agent::tools::text_stats;
use serde_json::json;

use super::support::{limit, misfit, text};

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

#[test]
fn a_text_that_is_too_long_is_not_counted() {
    let tool = text_stats_within(TextLimits::default().with_max_bytes(6));
    assert!(text(&tool, json!({"text": "草莓"})).contains("\"characters\": 2"));
    let told = limit(&tool, json!({"text": "草莓!"}));
    assert_eq!(told, "`text` has 7 bytes; 6 are allowed");
    let told = limit(&tool, json!({"text": "", "part": "a".repeat(7)}));
    assert_eq!(told, "`part` has 7 bytes; 6 are allowed");
    let long = "a".repeat((1 << 20) + 1);
    assert!(limit(&text_stats(), json!({"text": long})).contains("1048576 are allowed"));
}
