//! Where the shared goldens are, how tests skip without them, and tasks from their files.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::{Path, PathBuf};

use internlm_eval::Row;
use internlm_eval::opencompass::Spec;
use serde::Deserialize;

/// A folder or file beside the workspace, or `None` with a printed reason; with `CI=true` a panic.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
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

/// What these tests need of a task file.
#[derive(Deserialize)]
pub(crate) struct TaskFile {
    pub(crate) name: String,
    #[serde(default, rename = "subset")]
    pub(crate) subsets: Vec<Row>,
    pub(crate) opencompass: Spec,
}

impl TaskFile {
    /// The rules of each subset with its id; of the task itself, if it has none.
    pub(crate) fn specs(&self) -> Vec<(String, Spec)> {
        if self.subsets.is_empty() {
            return vec![(String::new(), self.opencompass.clone())];
        }
        let subsets = self.subsets.iter();
        subsets
            .map(|subset| {
                let id = subset["id"].as_str().unwrap().to_owned();
                (id, self.opencompass.with_subset(subset))
            })
            .collect()
    }
}

/// The task files of this crate by name.
pub(crate) fn task_files() -> Vec<(String, TaskFile)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tasks/opencompass");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let file = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, file)
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}
