//! Where the shared goldens and the real model are, and how tests skip without them.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::PathBuf;

/// A folder or file beside the workspace, or `None` with a printed reason; with `CI=true` a panic.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("INTERNLM_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    found(root.join(path), "set INTERNLM_SHARED")
}

/// SmolLM2-135M-Instruct as GGUF.
pub(crate) fn smollm2() -> Option<PathBuf> {
    let file = std::env::var_os("INTERNLM_SMOLLM2_GGUF").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../models/SmolLM2-135M-Instruct.Q4_1.gguf"
            ))
        },
        PathBuf::from,
    );
    found(
        file,
        "run examples/fetch_smollm2.sh or set INTERNLM_SMOLLM2_GGUF",
    )
}

fn found(path: PathBuf, how: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    let ci = std::env::var("CI").is_ok_and(|v| v == "true");
    assert!(!ci, "{} is absent and CI=true; {how}", path.display());
    println!("skipped: {} is absent; {how}", path.display());
    None
}

/// The largest absolute difference.
pub(crate) fn max_abs_diff(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter()
        .zip(want)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}
