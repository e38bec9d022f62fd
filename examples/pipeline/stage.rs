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

use crate::about::About;
use crate::fingerprint::fingerprint;

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
    /// When it was done, in UTC.
    #[serde(default)]
    pub(crate) date: String,
    /// Whether an earlier run did it.
    #[serde(default)]
    pub(crate) skipped: bool,
    /// Figures for programs.
    #[serde(default)]
    pub(crate) details: Value,
}

/// A finished stage in a file.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Of what it is: the model's files, how is computed, the stage's options.
    of: Vec<String>,
    /// The files that it made, as it left them.
    made: Vec<Vec<String>>,
    stage: Stage,
}

/// The stages of a run.
pub(crate) struct Stages {
    folder: PathBuf,
    /// What all stages depend on.
    of: Vec<String>,
    output: Output,
    done: Vec<Stage>,
    /// Whether a stage was run in this run: later ones then are, too.
    ran: bool,
}

impl Stages {
    /// Stages of a model in the run's folder, which is new, empty, or that of an earlier run: files are removed from it.
    ///
    /// # Errors
    /// A folder with other things in it, one that can't be made, and a model's files that can't be listed.
    pub(crate) fn open(out: &Path, model: &ModelDir, about: &About, json: bool) -> Result<Self> {
        let folder = out.join("stages");
        let holds = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
        if holds && !folder.is_dir() {
            return Err(Error::Input(format!(
                "--out {}: holds files of others; expected a new or an empty folder, or that of an earlier run",
                out.display()
            )));
        }
        std::fs::create_dir_all(&folder).map_err(Error::io(folder.display().to_string()))?;
        let mut of = vec![about.key()];
        of.extend(fingerprint(model.path())?);
        Ok(Self {
            folder,
            of,
            output: Output::new(json),
            done: Vec::new(),
            ran: false,
        })
    }

    /// Runs a stage, unless an earlier run finished it with the same model and options, all stages before it, and its
    /// files are as it left them.
    ///
    /// # Errors
    /// Those of the stage, and files that can't be read or written.
    pub(crate) fn run(
        &mut self,
        name: &str,
        options: &str,
        makes: &[&Path],
        work: impl FnOnce(&ProgressBar) -> Result<Stage>,
    ) -> Result<()> {
        let file = self.folder.join(file_name(name));
        let mut of = self.of.clone();
        of.push(format!("options: {options}"));
        let stage = match self.kept(&file, &of, makes)? {
            Some(stage) => Stage {
                skipped: true,
                ..stage
            },
            None => {
                self.begin(makes)?;
                let bar = progress::bar(0, name);
                let began = Instant::now();
                let stage = work(&bar);
                bar.finish_and_clear();
                let stage = Stage {
                    stage: name.to_owned(),
                    seconds: began.elapsed().as_secs_f64(),
                    date: jiff::Timestamp::now()
                        .strftime("%Y-%m-%d %H:%M")
                        .to_string(),
                    ..stage?
                };
                let made = fingerprints(makes)?;
                let kept = stage.clone();
                keep(
                    &file,
                    &Kept {
                        of,
                        made,
                        stage: kept,
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

    fn kept(&self, file: &Path, of: &[String], makes: &[&Path]) -> Result<Option<Stage>> {
        let Some(kept) = read(file).filter(|kept| !self.ran && kept.of == of) else {
            return Ok(None);
        };
        // Files that are gone have no lines, and every stage that makes some makes at least one.
        let made = fingerprints(makes)?;
        let whole = made == kept.made && made.iter().all(|files| !files.is_empty());
        Ok(whole.then_some(kept.stage))
    }

    /// Forgets what an earlier run kept of this stage and of those after it, and removes the stage's files: a run that
    /// is killed from here on leaves nothing that looks finished.
    fn begin(&mut self, makes: &[&Path]) -> Result<()> {
        if !self.ran {
            self.ran = true;
            let done: Vec<String> = self
                .done
                .iter()
                .map(|stage| file_name(&stage.stage))
                .collect();
            let io = || Error::io(self.folder.display().to_string());
            for entry in std::fs::read_dir(&self.folder).map_err(io())? {
                let entry = entry.map_err(io())?;
                let is_done = done.iter().any(|name| entry.file_name() == **name);
                if !is_done && read(&entry.path()).is_some() {
                    remove(&entry.path())?;
                }
            }
        }
        makes.iter().try_for_each(|path| remove(path))
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

/// The file that keeps a stage.
fn file_name(stage: &str) -> String {
    format!("{}.json", stage.replace(' ', "-"))
}

/// A stage that an earlier run kept; none where the file is something else.
fn read(file: &Path) -> Option<Kept> {
    let text = std::fs::read_to_string(file).ok()?;
    serde_json::from_str(&text).ok()
}

fn fingerprints(paths: &[&Path]) -> Result<Vec<Vec<String>>> {
    paths.iter().map(|path| fingerprint(path)).collect()
}

fn remove(path: &Path) -> Result<()> {
    let removed = match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(path.display().to_string())(error))
        }
        _ => Ok(()),
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
