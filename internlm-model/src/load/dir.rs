//! What a path holds.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use internlm_core::gguf::Gguf;

use super::file::SourceFile;
use super::gguf::GgufTensors;
use super::loader::Loader;
use super::prepared::{SourceStamp, Store};
use super::source::{Table, TensorSource};
use super::{LoadConfig, safetensors, shards, snapshot, torch};
use crate::config::{Config, GenerationConfig};
use crate::error::{Error, Result};

/// Largest configuration or index file.
const MAX_JSON: u64 = 64 << 20;

/// A checkpoint on disk: a folder in Hugging Face layout, or a GGUF file.
///
/// ```no_run
/// use internlm_model::ModelDir;
///
/// let dir = ModelDir::open("internlm2_5-1_8b-chat")?;
/// println!("{} has {} layers", dir.name(), dir.config()?.num_hidden_layers);
/// # Ok::<(), internlm_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ModelDir {
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Folder(Weights),
    Gguf(Arc<Gguf>),
}

/// The weight files of a folder, by what they were found as.
#[derive(Clone, Debug)]
enum Weights {
    Safetensors(PathBuf),
    SafetensorsIndex(PathBuf),
    Torch(PathBuf),
    TorchIndex(PathBuf),
}

impl ModelDir {
    /// Finds out what is at a path. Only names and the head of a GGUF file are read.
    ///
    /// A folder needs `config.json` and one of `model.safetensors.index.json`,
    /// `model.safetensors`, `pytorch_model.bin.index.json`, `pytorch_model.bin`, or any one
    /// `.safetensors` file, in this order. A folder without them that holds one `.gguf` file means
    /// that file.
    ///
    /// # Errors
    /// A path that is not there, holds none of these (the error lists what it holds), or a GGUF
    /// file with a corrupt head.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(|source| Error::Io {
            file: path.to_path_buf(),
            source,
        })?;
        if metadata.is_dir() {
            return Self::folder(path);
        }
        let file = SourceFile::open(path)?;
        let magic = file.read(0, file.len().min(4))?;
        if magic != b"GGUF" {
            return Err(Error::NotACheckpoint {
                path: path.to_path_buf(),
                what: "is not a GGUF file; expected one, or a folder with config.json".to_owned(),
            });
        }
        Self::gguf(path)
    }

    fn gguf(path: &Path) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        if let Some(count @ 2..) = gguf.u32("split.count")? {
            return Err(Error::NotACheckpoint {
                path: path.to_path_buf(),
                what: format!("is one of {count} parts; expected a GGUF file in one part"),
            });
        }
        Ok(Self {
            path: path.to_path_buf(),
            kind: Kind::Gguf(Arc::new(gguf)),
        })
    }

    fn folder(path: &Path) -> Result<Self> {
        let names = names(path)?;
        let has = |name: &str| names.iter().any(|n| n == name);
        let ending = |ending: &str| {
            let mut matching = names.iter().filter(|n| n.ends_with(ending));
            matching.next().filter(|_| matching.next().is_none())
        };
        let at = |name: &str| path.join(name);
        let weights = if has("model.safetensors.index.json") {
            Some(Weights::SafetensorsIndex(at(
                "model.safetensors.index.json",
            )))
        } else if has("model.safetensors") {
            Some(Weights::Safetensors(at("model.safetensors")))
        } else if has("pytorch_model.bin.index.json") {
            Some(Weights::TorchIndex(at("pytorch_model.bin.index.json")))
        } else if has("pytorch_model.bin") {
            Some(Weights::Torch(at("pytorch_model.bin")))
        } else {
            ending(".safetensors").map(|name| Weights::Safetensors(at(name)))
        };
        match (has("config.json"), weights, ending(".gguf")) {
            (true, Some(weights), _) => Ok(Self {
                path: path.to_path_buf(),
                kind: Kind::Folder(weights),
            }),
            (_, _, Some(gguf)) => Self::gguf(&at(gguf)),
            (has_config, _, None) => {
                let lacks = match has_config {
                    false => "has no config.json",
                    true => "has no weights (model.safetensors, pytorch_model.bin or their index)",
                };
                Err(Error::NotACheckpoint {
                    path: path.to_path_buf(),
                    what: format!("{lacks}; it holds {}", listed(&names)),
                })
            }
        }
    }

    /// The folder, or the GGUF file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the checkpoint is called: the name of the folder as it was opened, or of the GGUF file
    /// without `.gguf`. A snapshot in the hub's cache is called by its hub id, `org/name`.
    pub fn name(&self) -> String {
        // Links are not followed: the name is the user's. `.` and `..` are no names.
        let spelled = std::path::absolute(&self.path).ok();
        let path = match spelled.filter(|path| path.file_name().is_some()) {
            Some(path) => path,
            None => self.path.canonicalize().unwrap_or_default(),
        };
        let name = match self.kind {
            Kind::Folder(_) => snapshot::id(&path)
                .map(Into::into)
                .or(path.file_name().map(Into::into)),
            Kind::Gguf(_) => path.file_stem().map(OsStr::to_os_string),
        };
        name.map_or_else(
            || "model".to_owned(),
            |name: OsString| name.to_string_lossy().into_owned(),
        )
    }

    /// The head of the GGUF file, if it is one.
    pub fn gguf_head(&self) -> Option<&Gguf> {
        match &self.kind {
            Kind::Folder(_) => None,
            Kind::Gguf(gguf) => Some(gguf),
        }
    }

    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// A file that can't be read, and as [`Config::from_json`] and [`Config::from_gguf`].
    pub fn config(&self) -> Result<Config> {
        match &self.kind {
            Kind::Folder(_) => {
                let file = self.path.join("config.json");
                Config::from_json(&file, &read_small(&file)?)
            }
            Kind::Gguf(gguf) => Config::from_gguf(gguf),
        }
    }

    /// Reads end tokens and sampling defaults: `generation_config.json` if it is there, else what
    /// the configuration says.
    ///
    /// # Errors
    /// As [`config`](ModelDir::config), and values of the wrong kind.
    pub fn generation_config(&self) -> Result<GenerationConfig> {
        let config = self.config()?;
        let file = self.path.join("generation_config.json");
        match &self.kind {
            Kind::Folder(_) if file.exists() => {
                GenerationConfig::from_json(&file, &read_small(&file)?, &config)
            }
            _ => Ok(GenerationConfig::of(&config)),
        }
    }

    /// A loader of the tensors, after a check of all names and shapes.
    pub(crate) fn loader<'a>(
        &self,
        config: &Config,
        options: &'a LoadConfig,
    ) -> Result<Loader<'a>> {
        Loader::new(self.source(config)?, config, options)
    }

    /// The same for a whole model: embedding and head as `options` say, packed matrices from or to a prepared file if `options` ask for one. `again`:
    /// it is made again if it is there.
    ///
    /// # Errors
    /// [`Error::Prepared`] for a file that can't be used, [`Error::HeadWeights`] for a head that can't be
    /// packed.
    pub(crate) fn model_loader<'a>(
        &self,
        config: &Config,
        options: &'a LoadConfig,
        again: bool,
    ) -> Result<Loader<'a>> {
        options.head.check(options)?;
        let source = self.source(config)?;
        let Some(prepared) = options
            .prepared
            .as_ref()
            .filter(|_| options.packs_for_kernels())
        else {
            return Ok(Loader::new(source, config, options)?.with_head(config));
        };
        // Before anything is read: a file that changes meanwhile makes what is written stale.
        let mut stamps = Vec::new();
        for file in source.files() {
            stamps.push(SourceStamp::of(file)?);
        }
        if let Kind::Folder(_) = self.kind {
            stamps.push(SourceStamp::of(&self.path.join("config.json"))?);
        }
        let loader = Loader::new(source, config, options)?;
        let store = Store::open(&prepared.path(&self.path), stamps, again)?;
        Ok(loader.with_head(config).with_store(store))
    }

    fn source(&self, config: &Config) -> Result<Box<dyn TensorSource>> {
        let weights = match &self.kind {
            Kind::Gguf(gguf) => return Ok(Box::new(GgufTensors::new(gguf, config)?)),
            Kind::Folder(weights) => weights,
        };
        let single = |path: &Path, read: ReadTable| -> Result<Table> {
            Ok(Table {
                path: path.to_path_buf(),
                tensors: read(&Arc::new(SourceFile::open(path)?))?,
            })
        };
        Ok(Box::new(match weights {
            Weights::Safetensors(path) => single(path, safetensors::table)?,
            Weights::Torch(path) => single(path, torch::table)?,
            Weights::SafetensorsIndex(index) => {
                shards::table(index, &self.path, safetensors::table)?
            }
            Weights::TorchIndex(index) => shards::table(index, &self.path, torch::table)?,
        }))
    }
}

/// Reads the tensor table of one file.
type ReadTable =
    fn(&Arc<SourceFile>) -> Result<std::collections::BTreeMap<String, super::source::Stored>>;

/// Reads a configuration or index file.
pub(crate) fn read_small(path: &Path) -> Result<Vec<u8>> {
    let file = SourceFile::open(path)?;
    if file.len() > MAX_JSON {
        return Err(file.corrupt(format!(
            "has {} bytes, expected at most {MAX_JSON}",
            file.len()
        )));
    }
    file.read(0, file.len())
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let io = |source| Error::Io {
        file: folder.to_path_buf(),
        source,
    };
    let entries = std::fs::read_dir(folder).map_err(io)?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(
            entry
                .map_err(io)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// Some names, for an error.
fn listed(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        few if few.len() <= 8 => few.join(", "),
        [few @ .., _] => format!("{} and {} more", few[..8].join(", "), names.len() - 8),
    }
}
