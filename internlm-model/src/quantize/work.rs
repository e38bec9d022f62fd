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

use candle_core::{Device, Tensor};
use internlm_quant::awq::AwqTensors;
use internlm_quant::calibrate::{Calibrate, Parameter, WeightSink};
use internlm_quant::int8::Int8Tensors;
use internlm_quant::quantize::Method;
use internlm_quant::report::LayerReport;
use internlm_quant::rtn::ScaleType;
use internlm_quant::{Codes, RawDtype, RawTensor};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::network::BlockwiseLm;
use crate::error::{Error, Result};
use crate::load::{ModelDir, read_all, read_small};
use crate::save::{io_error, sync_folder, write_json, write_shard};

const JOURNAL: &str = "journal.json";

/// The folder `.NAME.quantize` beside the output `NAME`.
pub(super) struct WorkFolder {
    path: PathBuf,
    layout: Layout,
}

/// What codes become in files.
#[derive(Clone, Copy)]
enum Layout {
    Awq { group_size: usize, scales: RawDtype },
    Int8,
}

impl Layout {
    fn of(method: &Method) -> Self {
        match method {
            Method::Awq(awq) => Layout::Awq {
                group_size: awq.group_size,
                scales: match awq.scales {
                    ScaleType::F32 => RawDtype::F32,
                    ScaleType::F16 => RawDtype::F16,
                },
            },
            _ => Layout::Int8,
        }
    }

    /// The suffix of the tensor that only modules of codes have.
    fn marker(self) -> &'static str {
        match self {
            Layout::Awq { .. } => ".qweight",
            Layout::Int8 => ".weight_scale",
        }
    }

    /// The tensors of a module of codes.
    fn tensors(
        self,
        codes: &Codes,
        module: &str,
    ) -> internlm_quant::Result<Vec<(String, RawTensor<'static>)>> {
        Ok(match self {
            Layout::Awq { scales, .. } => AwqTensors::from_codes(codes, scales)?.named(module),
            Layout::Int8 => Int8Tensors::from_codes(codes, RawDtype::F32)?.named(module),
        })
    }

    /// The codes of a module, or `None` where a tensor lacks.
    fn codes(
        self,
        take: &mut impl FnMut(&str) -> Option<RawTensor<'static>>,
    ) -> internlm_quant::Result<Option<Codes>> {
        match self {
            Layout::Awq { group_size, .. } => {
                let (Some(qweight), Some(scales)) = (take("qweight"), take("scales")) else {
                    return Ok(None);
                };
                let all = AwqTensors::new(qweight, take("qzeros"), scales, group_size, true)?;
                all.codes(0..all.out_features()).map(Some)
            }
            Layout::Int8 => {
                let (Some(weight), Some(scale)) = (take("weight"), take("weight_scale")) else {
                    return Ok(None);
                };
                let all = Int8Tensors::new(weight, scale)?;
                all.codes(0..all.out_features()).map(Some)
            }
        }
    }
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
        method: &Method,
        sequences: &[Vec<u32>],
    ) -> Result<Self> {
        let Some(name) = target.file_name() else {
            let what = std::io::Error::new(ErrorKind::InvalidInput, "has no name of its own");
            return Err(io_error(target, what));
        };
        let path = target.with_file_name(format!(".{}.quantize", name.to_string_lossy()));
        let work = Self {
            path,
            layout: Layout::of(method),
        };
        let journal = Journal {
            fingerprint: fingerprint(dir, method, sequences)?,
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
            layout: self.layout,
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
        let tensors = self.raw_tensors(block)?.into_iter();
        let tensors = tensors.map(|(path, raw)| Ok((path, raw.to_tensor(&Device::Cpu)?)));
        tensors.collect()
    }

    fn raw_tensors(&self, block: usize) -> Result<Vec<(String, RawTensor<'static>)>> {
        let file = self.tensor_file(block);
        read_all(&file).map_err(|error| Error::WorkFolder {
            path: file,
            what: format!("can't be read ({error}); remove the folder to begin anew"),
        })
    }

    /// Puts the tensors of a finished block into a network that has loaded the dense block.
    pub(super) fn restore(&self, model: &mut BlockwiseLm<'_>, block: usize) -> Result<()> {
        let mut tensors: BTreeMap<_, _> = self.raw_tensors(block)?.into_iter().collect();
        let marker = self.layout.marker();
        let modules = tensors.keys().filter_map(|path| path.strip_suffix(marker));
        let modules: Vec<String> = modules.map(str::to_owned).collect();
        for module in modules {
            let mut take = |suffix: &str| tensors.remove(&format!("{module}.{suffix}"));
            let codes = self.layout.codes(&mut take)?;
            let codes = codes.ok_or_else(|| Error::WorkFolder {
                path: self.tensor_file(block),
                what: format!("`{module}` is not whole; remove the folder to begin anew"),
            })?;
            model.set_weight(&format!("{module}.weight"), Parameter::Codes(codes))?;
        }
        for (path, raw) in tensors {
            model.set_weight(&path, Parameter::Dense(raw.to_tensor(&Device::Cpu)?))?;
        }
        Ok(())
    }
}

/// Gathers a block's tensors under the names of the final checkpoint.
struct Packed {
    layout: Layout,
    tensors: Vec<(String, Tensor)>,
}

impl WeightSink for Packed {
    fn put(&mut self, path: &str, parameter: Parameter) -> internlm_quant::Result<()> {
        match parameter {
            Parameter::Dense(tensor) => self.tensors.push((path.to_owned(), tensor)),
            Parameter::Codes(codes) => {
                let module = path.strip_suffix(".weight").unwrap_or(path);
                for (name, tensor) in self.layout.tensors(&codes, module)? {
                    self.tensors.push((name, tensor.to_tensor(&Device::Cpu)?));
                }
            }
        }
        Ok(())
    }
}

fn remove_file(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error(file, error)),
        _ => Ok(()),
    }
}

/// A number that changes with the source's files, the method and the calibration data (FNV-1a).
fn fingerprint(dir: &ModelDir, method: &Method, sequences: &[Vec<u32>]) -> Result<String> {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes.len().to_le_bytes().iter().chain(bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(json!(method).to_string().as_bytes());
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
