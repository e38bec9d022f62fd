//! The goldens of metrics and post-processors, and how figures are held against them.

use serde_json::Value;

#[cfg(feature = "langdetect")]
use crate::common::lines;
use crate::common::shared;

/// A golden as one JSON value.
pub(crate) fn json(name: &str) -> Option<Value> {
    let text = std::fs::read_to_string(shared(&format!("goldens/eval/{name}"))?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// A golden as a JSON value per line.
#[cfg(feature = "langdetect")]
pub(crate) fn json_lines(name: &str) -> Option<Vec<Value>> {
    shared(&format!("goldens/eval/{name}")).map(|file| lines(&file))
}

/// Both sides compute in f64.
pub(crate) const TOLERANCE: f64 = 1e-9;

#[track_caller]
pub(crate) fn near(got: f64, want: &Value, what: &str) {
    let want = want
        .as_f64()
        .unwrap_or_else(|| panic!("{what}: {want} is no number"));
    assert!(
        (got - want).abs() <= TOLERANCE,
        "{what}: {got} instead of {want}"
    );
}

#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

#[track_caller]
pub(crate) fn items(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("{value} is no list"))
}
