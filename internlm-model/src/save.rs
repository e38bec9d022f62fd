//! Checkpoints to disk, in Hugging Face layout.
//!
//! Everything is written to a folder beside the target, synced, and then renamed, so the target
//! either holds a whole checkpoint or is not there. Tensors are taken from an iterator one shard at
//! a time, so a checkpoint that is made on the fly never has to be in memory at once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use internlm_core::gguf::{Gguf, GgufWriter};
use internlm_quant::QuantizationConfig;
use serde_json::{Map, Value, json};

use crate::causal_lm::CausalLm;
use crate::config::{Config, GenerationConfig};
use crate::error::{Error, Result};
use crate::load::ModelDir;

/// Files that come along from the folder that a model was loaded from.
const SIDE_FILES: [&str; 11] = [
    "tokenizer.gguf",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
];

/// How to save a checkpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SaveConfig {
    /// Most bytes of data of one safetensors file; a tensor that is larger gets its own.
    pub max_shard_bytes: u64,
    /// A folder whose tokenizer files and Python classes (`*.py`, with the `auto_map` that names
    /// them) are copied; or a GGUF file, whose vocabulary becomes `tokenizer.gguf`.
    pub files_from: Option<PathBuf>,
    /// How the tensors are packed, where they are: goes into `config.json`.
    pub quantization: Option<QuantizationConfig>,
}

impl Default for SaveConfig {
    fn default() -> Self {
        Self {
            max_shard_bytes: 4 << 30,
            files_from: None,
            quantization: None,
        }
    }
}

impl SaveConfig {
    /// Sets the most bytes of one file.
    #[must_use]
    pub fn with_max_shard_bytes(mut self, max_shard_bytes: u64) -> Self {
        self.max_shard_bytes = max_shard_bytes;
        self
    }

    /// Sets the folder, or GGUF file, that tokenizer files come from.
    #[must_use]
    pub fn with_files_from(mut self, folder: impl Into<PathBuf>) -> Self {
        self.files_from = Some(folder.into());
        self
    }

    /// Sets how the tensors are packed.
    #[must_use]
    pub fn with_quantization(mut self, quantization: QuantizationConfig) -> Self {
        self.quantization = Some(quantization);
        self
    }
}

impl CausalLm {
    /// Saves the model as a folder that [`ModelDir::open`] and the official classes read. The
    /// folder must not exist yet, or be empty.
    ///
    /// # Errors
    /// A target that holds something, a file that can't be read or written.
    pub fn save(&self, target: impl AsRef<Path>, config: &SaveConfig) -> Result<ModelDir> {
        let tensors = self.tensors()?.into_iter().map(Ok);
        save(
            target.as_ref(),
            self.config(),
            self.generation_config(),
            tensors,
            config,
        )
    }
}

/// Saves tensors by checkpoint path. Each is dropped once its shard is written. Tensors of i32 are words of
/// codes; those of u8 are the bytes of i8, which candle does not have, and are written as such.
///
/// # Errors
/// A target that holds something, a tensor of another dtype than f32, bf16, f16, i32 and u8, a name that comes
/// twice, a file that can't be read or written, and whatever the iterator meets.
pub fn save(
    target: &Path,
    config: &Config,
    generation_config: &GenerationConfig,
    tensors: impl IntoIterator<Item = Result<(String, Tensor)>>,
    options: &SaveConfig,
) -> Result<ModelDir> {
    if is_taken(target)? {
        return Err(Error::OutputExists {
            path: target.to_path_buf(),
        });
    }
    let staging = Staging::new(target)?;
    let dtype = write_tensors(&staging.path, tensors, options.max_shard_bytes)?;
    let mut config_json = config.to_json();
    if let Some(dtype) = dtype {
        config_json["torch_dtype"] = json!(dtype);
    }
    if let Some(quantization) = &options.quantization {
        config_json["quantization_config"] = quantization.to_json();
    }
    if let Some(from) = options.files_from.as_ref().filter(|from| from.is_file()) {
        write_vocabulary(from, &staging.path)?;
    } else if let Some(from) = &options.files_from {
        copy_side_files(from, &staging.path, &mut config_json)?;
    }
    write_json(&staging.path.join("config.json"), &config_json)?;
    write_json(
        &staging.path.join("generation_config.json"),
        &generation_config.to_json(),
    )?;
    staging.finish(target)?;
    ModelDir::open(target)
}

/// Whether there is something at the target that is not an empty folder.
pub(crate) fn is_taken(target: &Path) -> Result<bool> {
    match fs::read_dir(target) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(true),
        Err(source) => Err(io_error(target, source)),
    }
}

/// A folder beside the target that is removed unless it is finished.
pub(crate) struct Staging {
    pub(crate) path: PathBuf,
    parent: PathBuf,
}

impl Staging {
    pub(crate) fn new(target: &Path) -> Result<Self> {
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let Some(name) = target.file_name() else {
            let what = io::Error::new(io::ErrorKind::InvalidInput, "has no name of its own");
            return Err(io_error(target, what));
        };
        fs::create_dir_all(&parent).map_err(|e| io_error(&parent, e))?;
        let name = format!(".{}.tmp-{}", name.to_string_lossy(), std::process::id());
        let path = parent.join(name);
        // A rest of a killed process of the same number.
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|e| io_error(&path, e))?;
        }
        fs::create_dir(&path).map_err(|e| io_error(&path, e))?;
        Ok(Self { path, parent })
    }

    pub(crate) fn finish(self, target: &Path) -> Result<()> {
        sync_folder(&self.path)?;
        // Windows does not rename onto an empty folder.
        match fs::remove_dir(target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(target, error));
            }
            _ => {}
        }
        fs::rename(&self.path, target).map_err(|e| io_error(target, e))?;
        sync_folder(&self.parent)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; otherwise nothing better can be done.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|e| io_error(folder, e))
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_folder: &Path) -> Result<()> {
    Ok(())
}

/// Writes shards and their index; returns the dtype of the largest tensor as torch calls it.
fn write_tensors(
    folder: &Path,
    tensors: impl IntoIterator<Item = Result<(String, Tensor)>>,
    max_shard_bytes: u64,
) -> Result<Option<&'static str>> {
    let mut shard: Vec<(String, Tensor)> = Vec::new();
    let mut shard_bytes = 0;
    let mut shards: Vec<Vec<String>> = Vec::new();
    let mut total_size = 0;
    let mut largest = (0, None);
    let mut names = std::collections::BTreeSet::new();
    let staged = |index: usize| folder.join(format!("shard-{index}"));
    let mut flush = |shard: &mut Vec<(String, Tensor)>| -> Result<()> {
        write_shard(&staged(shards.len()), shard)?;
        shards.push(shard.drain(..).map(|(name, _)| name).collect());
        Ok(())
    };
    for tensor in tensors {
        let (name, tensor) = tensor?;
        if !names.insert(name.clone()) {
            return Err(Error::DuplicateTensor { name });
        }
        let bytes = (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
        if bytes > largest.0 && tensor.dtype().is_float() {
            largest = (bytes, Some(type_names(tensor.dtype())?.1));
        }
        if !shard.is_empty() && shard_bytes + bytes > max_shard_bytes {
            flush(&mut shard)?;
            shard_bytes = 0;
        }
        total_size += bytes;
        shard_bytes += bytes;
        shard.push((name, tensor));
    }
    flush(&mut shard)?;
    let count = shards.len();
    let final_name = |index: usize| match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    };
    let mut weight_map = Map::new();
    for (index, names) in shards.into_iter().enumerate() {
        let file = folder.join(final_name(index));
        fs::rename(staged(index), &file).map_err(|e| io_error(&file, e))?;
        weight_map.extend(
            names
                .into_iter()
                .map(|name| (name, json!(final_name(index)))),
        );
    }
    if count > 1 {
        let index = json!({"metadata": {"total_size": total_size}, "weight_map": weight_map});
        write_json(&folder.join("model.safetensors.index.json"), &index)?;
    }
    Ok(largest.1)
}

/// Writes one safetensors file. `format: pt` is what transformers asks for.
pub(crate) fn write_shard(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut offset = 0;
    for (name, tensor) in tensors {
        let end = offset + tensor.elem_count() * tensor.dtype().size_in_bytes();
        let info = json!({
            "dtype": type_names(tensor.dtype())?.0,
            "shape": tensor.dims(),
            "data_offsets": [offset, end],
        });
        header.insert(name.clone(), info);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // Data is aligned to 8 bytes; spaces are part of the format.
    header.resize(header.len().next_multiple_of(8), b' ');
    let io = |e| io_error(path, e);
    let mut file = io::BufWriter::new(File::create_new(path).map_err(io)?);
    file.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(io)?;
    file.write_all(&header).map_err(io)?;
    for (_, tensor) in tensors {
        write_elements(path, &mut file, tensor)?;
    }
    let file = file
        .into_inner()
        .map_err(|e| io_error(path, e.into_error()))?;
    file.sync_all().map_err(io)
}

/// Writes a tensor's elements, row-major and little-endian.
fn write_elements(path: &Path, out: &mut impl Write, tensor: &Tensor) -> Result<()> {
    let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(cpu), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(candle_core::Error::Msg("a contiguous tensor on the CPU".to_owned()).into());
    };
    let bytes: &[u8] = match cpu {
        CpuStorage::F32(v) => bytemuck::cast_slice(&v[start..end]),
        CpuStorage::F16(v) => bytemuck::cast_slice(&v[start..end]),
        CpuStorage::BF16(v) => bytemuck::cast_slice(&v[start..end]),
        CpuStorage::I32(v) => bytemuck::cast_slice(&v[start..end]),
        CpuStorage::U8(v) => &v[start..end],
        _ => {
            return Err(Error::WeightDtype {
                got: tensor.dtype(),
            });
        }
    };
    out.write_all(bytes).map_err(|e| io_error(path, e))
}

/// What safetensors and torch call a dtype.
fn type_names(dtype: DType) -> Result<(&'static str, &'static str)> {
    match dtype {
        DType::F32 => Ok(("F32", "float32")),
        DType::F16 => Ok(("F16", "float16")),
        DType::BF16 => Ok(("BF16", "bfloat16")),
        // Words of packed codes.
        DType::I32 => Ok(("I32", "int32")),
        DType::U8 => Ok(("I8", "int8")),
        got => Err(Error::WeightDtype { got }),
    }
}

/// Writes the vocabulary of a GGUF file: its metadata about the tokenizer, without tensors, as
/// llama.cpp's `ggml-vocab-*.gguf`.
fn write_vocabulary(from: &Path, to: &Path) -> Result<()> {
    let gguf = Gguf::open(from)?;
    let mut writer = GgufWriter::new();
    for (key, value) in gguf.metadata {
        if key == "general.architecture" || key.starts_with("tokenizer.") {
            writer = writer.with_metadata(key, value);
        }
    }
    let path = to.join("tokenizer.gguf");
    let file = File::create_new(&path).map_err(|e| io_error(&path, e))?;
    writer.write(io::BufWriter::new(&file), &path, |_, _| Ok(()))?;
    file.sync_all().map_err(|e| io_error(&path, e))
}

/// Copies tokenizer files and Python classes. `auto_map` names classes, so it goes with them.
fn copy_side_files(from: &Path, to: &Path, config: &mut Value) -> Result<()> {
    let entries = fs::read_dir(from).map_err(|e| io_error(from, e))?;
    let mut classes = false;
    for entry in entries {
        let path = entry.map_err(|e| io_error(from, e))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let is_class = name.ends_with(".py");
        if (is_class || SIDE_FILES.contains(&name)) && path.is_file() {
            fs::copy(&path, to.join(name)).map_err(|e| io_error(&path, e))?;
            classes |= is_class;
        }
    }
    let source = from.join("config.json");
    if classes && source.is_file() {
        let bytes = crate::load::read_small(&source)?;
        let source: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|e| Error::Json {
                file: source.clone(),
                source: e,
            })?;
        if let Some(auto_map) = source.get("auto_map") {
            config["auto_map"] = auto_map.clone();
        }
    }
    Ok(())
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let io = |e| io_error(path, e);
    let mut file = File::create_new(path).map_err(io)?;
    writeln!(file, "{value:#}").map_err(io)?;
    file.sync_all().map_err(io)
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        file: path.to_path_buf(),
        source,
    }
}
