//! Lagent, MindSearch and T-Eval, case by case: `shared/goldens/agent`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lagent_tools;
mod lenient;
mod lenient_runs;
mod parsers;
mod runs;
mod tools;
mod typed_tools;

use std::path::PathBuf;

use serde_json::Value;

/// The cases of a golden file, or `None` with a printed reason; with `CI=true` a panic.
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn golden(name: &str) -> Option<Value> {
    let root = std::env::var_os("INTERNLM_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let file = root.join("goldens/agent").join(name);
    if !file.exists() {
        let ci = std::env::var("CI").is_ok_and(|v| v == "true");
        assert!(
            !ci,
            "{} is absent and CI=true; set INTERNLM_SHARED",
            file.display()
        );
        println!("skipped: {} is absent; set INTERNLM_SHARED", file.display());
        return None;
    }
    let text = std::fs::read_to_string(&file).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// Runs a check on every case of a file.
pub(crate) fn each(name: &str, check: impl Fn(&str, &Value)) {
    let Some(golden) = golden(name) else {
        return;
    };
    let cases = golden["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        check(case["id"].as_str().unwrap(), case);
    }
}

/// Whether the original code raised an exception.
pub(crate) fn raised(expect: &Value) -> bool {
    expect.get("error").is_some() && expect.get("message").is_some()
}

/// Numbers of different spelling are equal in Python: `1` and `1.0`.
pub(crate) fn same(got: &Value, want: &Value) -> bool {
    match (got, want) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        // A reader of JSON makes a float of a whole number that is too large.
        (Value::Object(a), Value::Number(b)) if a.len() == 1 => {
            let digits = a.get("$int").and_then(Value::as_str);
            digits.and_then(|digits| digits.parse::<f64>().ok()) == b.as_f64()
        }
        (a, b) => a == b,
    }
}

#[track_caller]
pub(crate) fn assert_same(got: &Value, want: &Value, what: &str) {
    assert!(same(got, want), "{what}\ngot  {got}\nwant {want}");
}
