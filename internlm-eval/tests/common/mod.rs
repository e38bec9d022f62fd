//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says why")]

use std::path::{Path, PathBuf};

use internlm_core::scorer::TokenScore;
use internlm_eval::Response;
use serde_json::Value;

/// A file or folder of the data beside the repository. None, with a line that says so, where it is not there; under
/// CI that is a failure.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("INTERNLM_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(
        !ci,
        "{} is absent and CI=true; set INTERNLM_SHARED",
        found.display()
    );
    eprintln!(
        "skipped: {} is absent; set INTERNLM_SHARED",
        found.display()
    );
    None
}

/// A folder of the fixtures in the repository.
pub(crate) fn fixtures(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path)
}

/// The lines of a JSONL file.
pub(crate) fn lines(file: &Path) -> Vec<Value> {
    std::fs::read_to_string(file)
        .unwrap()
        .split('\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A response with this log-likelihood.
pub(crate) fn scored(ll: f64, greedy: bool) -> Response {
    Response::Scores {
        tokens: vec![TokenScore {
            id: 0,
            logprob: ll as f32,
            is_argmax: greedy,
        }],
    }
}

/// A response with one text.
pub(crate) fn said(text: &str) -> Response {
    Response::Texts {
        answers: vec![vec![text.to_owned()]],
    }
}
