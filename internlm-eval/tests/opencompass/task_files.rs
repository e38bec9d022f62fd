//! Tasks from the files of this crate.

use std::path::Path;

use internlm_eval::Row;
use internlm_eval::opencompass::Spec;
use serde::Deserialize;

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
