//! Finished blocks on disk, until all are there.
//!
//! A block is a safetensors file with the tensors of the final checkpoint and a JSON file with its
//! report. Both get their names by a rename once they are synced, the tensors last: a block whose
//! tensors are there is finished. A fingerprint of everything that decides the result tells whether
//! the folder belongs to this run; blocks of another one are thrown away.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use internlm_quant::awq::AwqTensors;
use internlm_quant::calibrate::{Calibrate, Parameter, WeightSink};
use internlm_quant::quantize::AwqConfig;
use internlm_quant::report::LayerReport;
use internlm_quant::rtn::ScaleType;
use internlm_quant::{RawDtype, RawTensor};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::network::BlockwiseLm;
use crate::error::{Error, Result};
use crate::load::{ModelDir, read_small};
use crate::save::{io_error, sync_folder, write_json, write_shard};

const JOURNAL: &str = "journal.json";

/// The folder `.NAME.quantize` beside the output `NAME`.
pub(super) struct WorkFolder {
    path: PathBuf,
    group_size: usize,
    scales: RawDtype,
}

/// What the folder belongs to.
#[derive(PartialEq, Serialize, Deserialize)]
struct Journal {
    fingerprint: String,
}

#[derive(Serialize, Deserialize)]
struct BlockReport {
    layers: Vec<LayerReport>,
}

impl WorkFolder {
    /// Finds the folder of an interrupted run with the same source, method and data, or makes a new
    /// one.
    pub(super) fn open(
        target: &Path,
        dir: &ModelDir,
        awq: &AwqConfig,
        sequences: &[Vec<u32>],
    ) -> Result<Self> {
        let Some(name) = target.file_name() else {
            let what = std::io::Error::new(ErrorKind::InvalidInput, "has no name of its own");
            return Err(io_error(target, what));
        };
        let path = target.with_file_name(format!(".{}.quantize", name.to_string_lossy()));
        let work = Self {
            path,
            group_size: awq.group_size,
            scales: match awq.scales {
                ScaleType::F32 => RawDtype::F32,
                ScaleType::F16 => RawDtype::F16,
            },
        };
        let journal = Journal {
            fingerprint: fingerprint(dir, awq, sequences)?,
        };
        if work.journal()?.as_ref() != Some(&journal) {
            work.clear()?;
            work.write_json(JOURNAL, &json!(journal))?;
        }
        Ok(work)
    }

    /// The journal, if there is one that can be read.
    fn journal(&self) -> Result<Option<Journal>> {
        let file = self.path.join(JOURNAL);
        match file.is_file() {
            true => Ok(serde_json::from_slice(&read_small(&file)?).ok()),
            false => Ok(None),
        }
    }

    /// Begins anew. A folder of this name that holds anything else is left alone.
    fn clear(&self) -> Result<()> {
        match fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(&self.path, error)),
            Ok(entries) => {
                for entry in entries {
                    let name = entry.map_err(|e| io_error(&self.path, e))?.file_name();
                    let name = name.to_string_lossy();
                    if name != JOURNAL && !name.starts_with("block-") && !name.ends_with(".tmp") {
                        return Err(Error::WorkFolder {
                            path: self.path.join(&*name),
                            what: "is no file of an interrupted quantization; move it elsewhere"
                                .to_owned(),
                        });
                    }
                }
                self.remove()?;
            }
        }
        fs::create_dir_all(&self.path).map_err(|e| io_error(&self.path, e))
    }

    /// Removes the folder.
    pub(super) fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.path).map_err(|e| io_error(&self.path, e))
    }

    fn tensor_file(&self, block: usize) -> PathBuf {
        self.path.join(format!("block-{block:05}.safetensors"))
    }

    fn report_name(block: usize) -> String {
        format!("block-{block:05}.json")
    }

    /// Whether a block is there.
    pub(super) fn finished(&self, block: usize) -> bool {
        self.tensor_file(block).is_file() && self.path.join(Self::report_name(block)).is_file()
    }

    /// Writes the loaded block of a network.
    pub(super) fn write(
        &self,
        model: &mut BlockwiseLm<'_>,
        block: usize,
        layers: &[LayerReport],
    ) -> Result<()> {
        let mut packed = Packed {
            scales: self.scales,
            tensors: Vec::new(),
        };
        model.finish_block(block, &mut packed)?;
        let report = BlockReport {
            layers: layers.to_vec(),
        };
        self.write_json(&Self::report_name(block), &json!(report))?;
        let file = self.tensor_file(block);
        let staged = file.with_extension("tmp");
        remove_file(&staged)?;
        write_shard(&staged, &packed.tensors)?;
        fs::rename(&staged, &file).map_err(|e| io_error(&file, e))?;
        sync_folder(&self.path)
    }

    fn write_json(&self, name: &str, value: &serde_json::Value) -> Result<()> {
        let (file, staged) = (self.path.join(name), self.path.join(format!("{name}.tmp")));
        remove_file(&staged)?;
        write_json(&staged, value)?;
        fs::rename(&staged, &file).map_err(|e| io_error(&file, e))
    }

    /// What was done to the layers of a finished block.
    pub(super) fn report(&self, block: usize) -> Result<Vec<LayerReport>> {
        let file = self.path.join(Self::report_name(block));
        let report: BlockReport = serde_json::from_slice(&read_small(&file)?)
            .map_err(|source| Error::Json { file, source })?;
        Ok(report.layers)
    }

    /// The tensors of a finished block, as the final checkpoint has them, sorted by name.
    pub(super) fn tensors(&self, block: usize) -> Result<Vec<(String, Tensor)>> {
        let file = self.tensor_file(block);
        let tensors = candle_core::safetensors::load(&file, &Device::Cpu).map_err(|source| {
            Error::WorkFolder {
                path: file.clone(),
                what: format!("can't be read ({source}); remove the folder to begin anew"),
            }
        })?;
        Ok(tensors
            .into_iter()
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect())
    }

    /// Puts the tensors of a finished block into a network that has loaded the dense block.
    pub(super) fn restore(&self, model: &mut BlockwiseLm<'_>, block: usize) -> Result<()> {
        let tensors: BTreeMap<_, _> = self.tensors(block)?.into_iter().collect();
        for (path, tensor) in &tensors {
            let Some(module) = path.strip_suffix(".qweight") else {
                let of_codes = [".qzeros", ".scales"].iter().any(|end| path.ends_with(end));
                if !of_codes {
                    model.set_weight(path, Parameter::Dense(tensor.clone()))?;
                }
                continue;
            };
            let part = |name: &str| match tensors.get(&format!("{module}.{name}")) {
                Some(tensor) => raw(tensor).map(Some),
                None => Ok(None),
            };
            let damaged = || Error::WorkFolder {
                path: self.tensor_file(block),
                what: format!("`{module}` is not whole; remove the folder to begin anew"),
            };
            let scales = part("scales")?.ok_or_else(damaged)?;
            let all =
                AwqTensors::new(raw(tensor)?, part("qzeros")?, scales, self.group_size, true)?;
            let codes = all.codes(0..all.out_features())?;
            model.set_weight(&format!("{module}.weight"), Parameter::Codes(codes))?;
        }
        Ok(())
    }
}

/// Gathers a block's tensors under the names of an AWQ checkpoint.
struct Packed {
    scales: RawDtype,
    tensors: Vec<(String, Tensor)>,
}

impl WeightSink for Packed {
    fn put(&mut self, path: &str, parameter: Parameter) -> internlm_quant::Result<()> {
        match parameter {
            Parameter::Dense(tensor) => self.tensors.push((path.to_owned(), tensor)),
            Parameter::Codes(codes) => {
                let module = path.strip_suffix(".weight").unwrap_or(path);
                let packed = AwqTensors::from_codes(&codes, self.scales)?;
                for (name, tensor) in packed.named(module) {
                    self.tensors.push((name, tensor.to_tensor(&Device::Cpu)?));
                }
            }
        }
        Ok(())
    }
}

/// The bytes of a tensor.
fn raw(tensor: &Tensor) -> Result<RawTensor<'static>> {
    let flat = tensor.flatten_all()?;
    let (dtype, bytes): (_, Vec<u8>) = match tensor.dtype() {
        DType::I32 => {
            let words = flat.to_vec1::<i32>()?.into_iter();
            (RawDtype::I32, words.flat_map(i32::to_le_bytes).collect())
        }
        DType::F16 => {
            let halves = flat.to_vec1::<half::f16>()?.into_iter();
            (
                RawDtype::F16,
                halves.flat_map(half::f16::to_le_bytes).collect(),
            )
        }
        _ => {
            let floats = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?.into_iter();
            (RawDtype::F32, floats.flat_map(f32::to_le_bytes).collect())
        }
    };
    Ok(RawTensor::new(dtype, tensor.dims(), bytes))
}

fn remove_file(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error(file, error)),
        _ => Ok(()),
    }
}

/// A number that changes with the source's files, the method and the calibration data (FNV-1a).
fn fingerprint(dir: &ModelDir, awq: &AwqConfig, sequences: &[Vec<u32>]) -> Result<String> {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes.len().to_le_bytes().iter().chain(bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(json!(awq).to_string().as_bytes());
    add(format!("{:?}", dir.config()?).as_bytes());
    for ids in sequences {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        add(&bytes);
    }
    let path = dir.path();
    let mut files = match path.is_dir() {
        false => vec![path.to_path_buf()],
        true => {
            let entries = fs::read_dir(path).map_err(|e| io_error(path, e))?;
            let paths = entries.map(|entry| entry.map(|entry| entry.path()));
            paths
                .collect::<std::io::Result<_>>()
                .map_err(|e| io_error(path, e))?
        }
    };
    files.sort();
    for file in files {
        let metadata = fs::metadata(&file).map_err(|e| io_error(&file, e))?;
        let modified = metadata.modified().map_err(|e| io_error(&file, e))?;
        add(file.to_string_lossy().as_bytes());
        add(format!("{} {modified:?}", metadata.len()).as_bytes());
    }
    Ok(format!("{hash:016x}"))
}
