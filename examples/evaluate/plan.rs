//! Which tasks, by which rules, over which data: kept in a run's folder so that it can be read again.

use std::path::{Path, PathBuf};

use internlm_eval::Task;
use internlm_eval::task::options::ChatOptions;
use internlm_eval::task::spec::Rules;
use internlm_eval::task::{Loaded, TaskOptions, load, load_file};
use internlm_examples::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::arguments::RunArguments;

const FILE: &str = "configs/evaluate.json";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    tasks: Vec<String>,
    tasks_files: Vec<PathBuf>,
    data: PathBuf,
    rules: Option<String>,
    limit: Option<usize>,
    shots: Option<usize>,
    chat: bool,
}

impl Plan {
    pub(crate) fn of(arguments: &RunArguments) -> Self {
        Self {
            tasks: arguments.tasks.clone(),
            tasks_files: arguments.tasks_file.clone(),
            data: arguments.data.clone().unwrap_or_default(),
            rules: arguments.rules.clone(),
            limit: arguments.limit,
            shots: arguments.shots,
            chat: arguments.chat,
        }
    }

    /// What the run in a folder did.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(Error::io(&shown))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::Input(format!("{shown}: {e}; expected what `evaluate` wrote")))
    }

    /// The plan with the data of another one, where its own is not there any more.
    pub(crate) fn with_data_of(mut self, other: &Plan) -> Self {
        if !self.data.exists() {
            self.data.clone_from(&other.data);
        }
        self
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Input(e.to_string()))?;
        let io = || Error::io(path.display().to_string());
        std::fs::create_dir_all(folder.join("configs")).map_err(io())?;
        std::fs::write(&path, text).map_err(io())
    }

    /// The tasks with their data, which is in `data` if that is given.
    pub(crate) fn tasks(&self, data: Option<&Path>) -> Result<Tasks> {
        let data = data.unwrap_or(&self.data);
        let options = TaskOptions {
            limit: self.limit,
            shots: self.shots,
            chat: self.chat.then(ChatOptions::default),
            ..TaskOptions::default()
        };
        let rules = self.rules.as_deref().map(rules).transpose()?;
        let mut tasks = Tasks::default();
        for name in &self.tasks {
            tasks.add(name, load(name, rules, data, &options)?);
        }
        for file in &self.tasks_files {
            let name = file.display().to_string();
            tasks.add(&name, load_file(file, data, &options)?);
        }
        Ok(tasks)
    }
}

/// Tasks that have data, and names of those that have none.
#[derive(Default)]
pub(crate) struct Tasks {
    pub(crate) tasks: Vec<Task>,
    pub(crate) missing: Vec<String>,
}

impl Tasks {
    fn add(&mut self, name: &str, loaded: Loaded) {
        if let Some(first) = loaded.missing.first() {
            let count = loaded.missing.len();
            tracing::warn!("{name}: {count} of its tasks have no data; the first: {first}");
        }
        self.missing
            .extend(loaded.missing.iter().map(|error| match error {
                internlm_eval::Error::NoData { task, .. } => task.clone(),
                other => other.to_string(),
            }));
        self.tasks.extend(loaded.tasks);
    }
}

fn rules(name: &str) -> Result<Rules> {
    let all = [Rules::LmEval, Rules::Opencompass, Rules::Internlm];
    let found = all.into_iter().find(|rules| rules.as_str() == name);
    found.ok_or_else(|| {
        let names = all.map(Rules::as_str).join(", ");
        Error::Input(format!("--rules {name}: expected one of {names}"))
    })
}
