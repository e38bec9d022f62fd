//! `--model`, `--dtype`, `--device`, `--threads`: which model, where and how precisely.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use internlm_model::candle::{DType, Device};
use internlm_model::load::{Activation, HeadWeights, Prepared};
use internlm_model::{CausalLm, LoadConfig, ModelDir, TextModel};
use internlm_serve::{Engine, EngineConfig};
use internlm_tokenize::Tokenizer;

use crate::error::{Error, Result};
use crate::progress;

/// A checkpoint and how to run it.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// A folder in Hugging Face layout, a .gguf file, or a hub id (org/name, org/name@revision)
    #[arg(long, value_name = "PATH|ID")]
    pub model: PathBuf,
    /// Where and how precisely to compute.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// Where and how precisely to compute.
#[derive(Args, Clone, Debug)]
pub struct RuntimeArgs {
    /// Precision of dense weights and their activations; without it weights keep their stored dtype
    /// and the CPU computes in f32. Blocks of GGUF become dense in it
    #[arg(long)]
    pub dtype: Option<Precision>,
    /// Where to compute: cpu, cuda, cuda:N or metal (the last ones need a build with that feature)
    #[arg(long, default_value = "cpu")]
    pub device: Place,
    /// Threads on the CPU; all cores without it
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Read files instead of mapping them: a file that is cut meanwhile is then an error, not a
    /// signal
    #[arg(long)]
    pub no_mmap: bool,
    /// Embedding and head, where the model stores them as floats: as stored, or rounded while loading
    #[arg(long, default_value = "stored")]
    pub head: Head,
    /// Keep packed weights in a file as the processor wants them, which later runs read faster: beside the
    /// model (NAME.gguf.prepared, or model.prepared in a folder), or at --prepared=FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub prepared: Option<Option<PathBuf>>,
    /// Precision of activations in products with packed weights of 4 to 8 bits; on dense weights this
    /// changes nothing
    #[arg(long, default_value = "bf16")]
    pub act: Activations,
}

/// Names of dtypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32 bits.
    F32,
    /// 16 bits with f32's exponent.
    Bf16,
    /// IEEE 16 bits.
    F16,
}

impl Precision {
    /// The name as on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
            Precision::F16 => DType::F16,
        }
    }
}

/// Precisions of activations in 4-bit matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Activations {
    /// Exact.
    F32,
    /// Rounded to bf16, or to integers of 16 bits where there is AVX2 alone.
    Bf16,
    /// Quantized by token and group.
    Int8,
}

impl Activations {
    /// The name as on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Activations::F32 => "f32",
            Activations::Bf16 => "bf16",
            Activations::Int8 => "int8",
        }
    }

    fn activation(self) -> Activation {
        match self {
            Activations::F32 => Activation::F32,
            Activations::Bf16 => Activation::Bf16,
            Activations::Int8 => Activation::Int8,
        }
    }
}

/// What embedding and head are held as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Head {
    /// As stored.
    Stored,
    /// 8 bits.
    Int8,
    /// 4 bits.
    Int4,
}

impl Head {
    /// The name as on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Head::Stored => "stored",
            Head::Int8 => "int8",
            Head::Int4 => "int4",
        }
    }

    fn weights(self) -> HeadWeights {
        match self {
            Head::Stored => HeadWeights::Stored,
            Head::Int8 => HeadWeights::Int8,
            Head::Int4 => HeadWeights::Int4,
        }
    }
}

/// A device by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU by its number.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.split_once(':') {
            None if name == "cpu" => Ok(Place::Cpu),
            None if name == "cuda" => Ok(Place::Cuda(0)),
            None if name == "metal" => Ok(Place::Metal),
            Some(("cuda", number)) => {
                let number = number.parse().map_err(|e| format!("cuda:{number}: {e}"))?;
                Ok(Place::Cuda(number))
            }
            _ => Err("expected cpu, cuda, cuda:N or metal".to_owned()),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Cpu => f.write_str("cpu"),
            Place::Cuda(n) => write!(f, "cuda:{n}"),
            Place::Metal => f.write_str("metal"),
        }
    }
}

impl Place {
    fn device(self) -> Result<Device> {
        let (name, built, device) = match self {
            Place::Cpu => return Ok(Device::Cpu),
            Place::Cuda(n) => ("cuda", cfg!(feature = "cuda"), Device::new_cuda(n)),
            Place::Metal => ("metal", cfg!(feature = "metal"), Device::new_metal(0)),
        };
        device.map_err(|e| {
            Error::Input(if built {
                format!("--device {name}: {e}")
            } else {
                format!("--device {name}: this program was built without it; build with `--features {name}`")
            })
        })
    }
}

impl RuntimeArgs {
    /// Options for loading.
    ///
    /// # Errors
    /// A device that is not there or not built in.
    pub fn load_config(&self) -> Result<LoadConfig> {
        let mut config = LoadConfig::default();
        config.dtype = self.dtype.map(Precision::dtype);
        config.device = self.device.device()?;
        config.threads = self.threads.map(usize::from);
        config.mmap = !self.no_mmap;
        config.head = self.head.weights();
        config.prepared = self.prepared.clone().map(|path| match path {
            Some(path) => Prepared::At(path),
            None => Prepared::Beside,
        });
        config.packed_activation = self.act.activation();
        Ok(config)
    }
}

impl ModelArgs {
    /// The checkpoint's folder or file; a hub id is downloaded first.
    ///
    /// # Errors
    /// No such folder, file or hub id.
    pub fn dir(&self) -> Result<ModelDir> {
        Ok(ModelDir::open(find(&self.model, &[])?)?)
    }

    /// Loads model and tokenizer.
    ///
    /// # Errors
    /// Whatever the checkpoint's files lack.
    pub fn text_model(&self) -> Result<TextModel> {
        let config = self.runtime.load_config()?;
        let dir = self.dir()?;
        let tokenizer = Tokenizer::load(dir.path())?;
        Ok(TextModel::new(load(&dir, config)?, tokenizer)?)
    }

    /// Loads model and tokenizer, and starts an engine over them.
    ///
    /// # Errors
    /// Whatever the checkpoint's files lack, or a cache that does not fit the memory.
    pub fn engine(&self) -> Result<Engine> {
        Ok(Engine::new(self.text_model()?, EngineConfig::default())?)
    }

    /// Loads the model, and the tokenizer if the folder has one.
    ///
    /// # Errors
    /// Whatever the checkpoint's files lack, but for a tokenizer.
    pub fn model_and_tokenizer(&self) -> Result<(CausalLm, Option<Tokenizer>)> {
        let config = self.runtime.load_config()?;
        let dir = self.dir()?;
        let tokenizer = match Tokenizer::load(dir.path()) {
            Ok(tokenizer) => Some(tokenizer),
            Err(internlm_tokenize::Error::NoTokenizer { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok((load(&dir, config)?, tokenizer))
    }
}

/// Loads a model and shows that it takes a while.
///
/// # Errors
/// Whatever the checkpoint's files lack.
pub fn load(dir: &ModelDir, config: LoadConfig) -> Result<CausalLm> {
    let bar = progress::bytes(format!("loading {}", dir.name()));
    let shown = bar.clone();
    let model = CausalLm::load(
        dir,
        config.with_on_progress(move |progress| {
            shown.set_length(progress.total_bytes);
            shown.set_position(progress.bytes);
        }),
    );
    bar.finish_and_clear();
    Ok(model?)
}

/// Loads a tokenizer from a folder that may hold nothing else, a file or a hub id.
///
/// # Errors
/// No such folder, file or hub id, or no tokenizer in it.
pub fn tokenizer(model: &Path) -> Result<Tokenizer> {
    Ok(Tokenizer::load(find(model, &["*token*", "*.jinja"])?)?)
}

/// Bytes of the weight files of a folder, or of a file.
///
/// # Errors
/// They can't be read.
pub fn weight_bytes(path: &Path) -> Result<u64> {
    let size = |path: &Path| {
        let metadata = std::fs::metadata(path);
        metadata
            .map(|m| m.len())
            .map_err(Error::io(path.display().to_string()))
    };
    if path.is_file() {
        return size(path);
    }
    let mut bytes = 0;
    for entry in std::fs::read_dir(path).map_err(Error::io(path.display().to_string()))? {
        let file = entry.map_err(Error::io(path.display().to_string()))?.path();
        let ending = file.extension().and_then(|e| e.to_str());
        if matches!(ending, Some("safetensors" | "bin" | "gguf")) {
            bytes += size(&file)?;
        }
    }
    Ok(bytes)
}

/// The local folder or file of `--model`; only these files of a hub's repository, if any are named.
fn find(model: &Path, patterns: &[&str]) -> Result<PathBuf> {
    if model.exists() {
        return Ok(model.to_path_buf());
    }
    match hub_id(model) {
        Some(id) => download(id, patterns),
        None => Err(Error::NoModel {
            path: model.to_path_buf(),
            hint: if model.to_string_lossy().contains("SmolLM2") {
                "; examples/fetch_smollm2.sh fetches SmolLM2"
            } else {
                ""
            },
        }),
    }
}

/// `org/name`, `org/name@revision` or `org/name/file.gguf`, unless `org` is a folder here, which
/// makes it a misspelt path. Whether it is well-formed is the hub's business.
fn hub_id(model: &Path) -> Option<&str> {
    let id = model.to_str()?;
    let (org, rest) = id.split_once('/')?;
    let repository = rest.split('@').next()?;
    let is_path = org.is_empty()
        || repository.is_empty()
        || org.starts_with(['.', '~'])
        || id.contains(char::is_whitespace)
        || repository.contains('/') != repository.ends_with(".gguf")
        || Path::new(org).exists();
    (!is_path).then_some(id)
}

#[cfg(feature = "hub")]
fn download(id: &str, patterns: &[&str]) -> Result<PathBuf> {
    let bar = progress::bytes(format!("fetching {id}"));
    let shown = bar.clone();
    let fetch = internlm_model::hub::Fetch::new(id).with_progress(move |progress| {
        shown.set_length(progress.all_total);
        shown.set_position(progress.all_done);
    });
    let path = patterns
        .iter()
        .fold(fetch, |fetch, pattern| fetch.with_pattern(*pattern))
        .run();
    bar.finish_and_clear();
    Ok(path?)
}

#[cfg(not(feature = "hub"))]
fn download(id: &str, _patterns: &[&str]) -> Result<PathBuf> {
    Err(Error::Input(format!(
        "--model {id}: no such folder, and this program was built without the hub; build with `--features hub`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_are_told_from_paths() {
        let id = |s: &'static str| hub_id(Path::new(s)).is_some();
        assert!(id("internlm/internlm2_5-1_8b-chat"));
        assert!(id("internlm/internlm2_5-1_8b-chat@v1.0"));
        assert!(id("internlm/internlm2-chat-7b@refs/pr/3"));
        assert!(id("org/name/name-q8_0.gguf"));
        for path in [
            "internlm",
            "/internlm/x",
            "../a",
            "./a/b",
            "a/b/c",
            "a/b.gguf",
            "src/x",
            "a/",
            "a b/c",
        ] {
            assert!(!id(path), "{path}");
        }
    }

    #[test]
    fn places_have_names() {
        assert_eq!("cpu".parse(), Ok(Place::Cpu));
        assert_eq!("cuda:3".parse(), Ok(Place::Cuda(3)));
        for wrong in ["", "cuda:", "cuda:x", "gpu", "cpu:1"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
