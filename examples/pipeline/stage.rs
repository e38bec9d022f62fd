//! Stages: what came out of each, kept so that a second run goes on where the first one stood.

use std::path::{Path, PathBuf};
use std::time::Instant;

use comfy_table::{Table, presets};
use indicatif::ProgressBar;
use internlm_examples::output::Output;
use internlm_examples::{Error, Result, progress};
use internlm_model::ModelDir;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What came out of a stage.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// Its name; filled in by [`Stages::run`].
    #[serde(default)]
    pub(crate) stage: String,
    /// What came out, in a line.
    pub(crate) what: String,
    /// Bytes of weights that it read or wrote.
    pub(crate) bytes: Option<u64>,
    /// How good it is, in a line.
    pub(crate) quality: Option<String>,
    /// Seconds that it took, also if that was in an earlier run.
    #[serde(default)]
    pub(crate) seconds: f64,
    /// Whether an earlier run did it.
    #[serde(default)]
    pub(crate) skipped: bool,
    /// Figures for programs.
    #[serde(default)]
    pub(crate) details: Value,
}

/// A finished stage in a file: of which model and options it is, and what came out.
#[derive(Serialize, Deserialize)]
struct Kept {
    of: String,
    stage: Stage,
}

/// The stages of a run.
pub(crate) struct Stages {
    folder: PathBuf,
    /// What all stages depend on.
    model: String,
    output: Output,
    done: Vec<Stage>,
    /// Whether a stage was run in this run: later ones then are, too.
    ran: bool,
}

impl Stages {
    /// Stages of a model in the run's folder.
    ///
    /// # Errors
    /// The folder can't be made, or the model's files can't be read.
    pub(crate) fn open(out: &Path, model: &ModelDir, json: bool) -> Result<Self> {
        let folder = out.join("stages");
        std::fs::create_dir_all(&folder).map_err(Error::io(folder.display().to_string()))?;
        let path = std::path::absolute(model.path()).map_err(Error::io("the model's path"))?;
        let metadata = std::fs::metadata(&path).map_err(Error::io(path.display().to_string()))?;
        let modified = metadata.modified().ok();
        Ok(Self {
            folder,
            model: format!("{}, {} bytes, {modified:?}", path.display(), metadata.len()),
            output: Output::new(json),
            done: Vec::new(),
            ran: false,
        })
    }

    /// Runs a stage, unless an earlier run finished it with the same model and options and all stages before it.
    ///
    /// # Errors
    /// Those of the stage, and files that can't be written.
    pub(crate) fn run(
        &mut self,
        name: &str,
        options: &str,
        work: impl FnOnce(&ProgressBar) -> Result<Stage>,
    ) -> Result<()> {
        let file = self.folder.join(format!("{}.json", name.replace(' ', "-")));
        let of = format!("{}; {options}", self.model);
        let stage = match self.kept(&file, &of) {
            Some(stage) => Stage {
                skipped: true,
                ..stage
            },
            None => {
                let bar = progress::bar(0, name);
                let began = Instant::now();
                let stage = work(&bar);
                bar.finish_and_clear();
                self.ran = true;
                let stage = Stage {
                    stage: name.to_owned(),
                    seconds: began.elapsed().as_secs_f64(),
                    ..stage?
                };
                keep(
                    &file,
                    &Kept {
                        of,
                        stage: stage.clone(),
                    },
                )?;
                stage
            }
        };
        if self.output.is_json() {
            self.output.record(&stage, |_| String::new())?;
        } else {
            let end = if stage.skipped { " (done before)" } else { "" };
            self.output
                .text(&format!("{name}: {}{end}\n", stage.what))?;
        }
        self.done.push(stage);
        Ok(())
    }

    fn kept(&self, file: &Path, of: &str) -> Option<Stage> {
        let text = std::fs::read_to_string(file).ok()?;
        let kept: Kept = serde_json::from_str(&text).ok()?;
        (!self.ran && kept.of == of).then_some(kept.stage)
    }

    /// The stages that are done.
    pub(crate) fn done(&self) -> &[Stage] {
        &self.done
    }

    /// All stages as a table.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        table.set_header(["stage", "what came out", "size", "time", "quality"]);
        for stage in &self.done {
            table.add_row([
                stage.stage.clone(),
                stage.what.clone(),
                stage.size(),
                stage.time(),
                stage.quality.clone().unwrap_or_default(),
            ]);
        }
        format!("{table}\n")
    }
}

impl Stage {
    pub(crate) fn size(&self) -> String {
        let mib = |bytes| format!("{:.1} MB", bytes as f64 / 1e6);
        self.bytes.map(mib).unwrap_or_default()
    }

    pub(crate) fn time(&self) -> String {
        let before = if self.skipped { ", before" } else { "" };
        format!("{:.1} s{before}", self.seconds)
    }
}

/// Writes under another name first, so that a stage is finished or not there.
fn keep(file: &Path, kept: &Kept) -> Result<()> {
    let text = serde_json::to_string_pretty(kept).map_err(|e| Error::Input(e.to_string()))?;
    let io = || Error::io(file.display().to_string());
    let beside = file.with_extension("tmp");
    std::fs::write(&beside, text).map_err(io())?;
    std::fs::rename(&beside, file).map_err(io())
}
