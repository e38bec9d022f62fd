//! Where the shared goldens are, and how tests skip without them.

use std::path::PathBuf;

use serde_json::Value;

/// A file beside the workspace, or `None` with a printed reason; with `CI=true` a panic.
fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("INTERNLM_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    let ci = std::env::var("CI").is_ok_and(|v| v == "true");
    assert!(
        !ci,
        "{} is absent and CI=true; set INTERNLM_SHARED",
        path.display()
    );
    println!("skipped: {} is absent; set INTERNLM_SHARED", path.display());
    None
}

/// A golden as one JSON value.
pub(crate) fn json(name: &str) -> Option<Value> {
    let text = std::fs::read_to_string(shared(&format!("goldens/eval/{name}"))?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// A golden as a JSON value per line.
#[cfg(feature = "langdetect")]
pub(crate) fn json_lines(name: &str) -> Option<Vec<Value>> {
    let text = std::fs::read_to_string(shared(&format!("goldens/eval/{name}"))?).unwrap();
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
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
