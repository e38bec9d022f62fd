//! The tensors of a module that a `quantization_config` describes: AWQ and GPTQ.

use internlm_kernels::{ScaleType, ZeroType};
use internlm_quant::awq::AwqTensors;
use internlm_quant::ggml::GgmlType;
use internlm_quant::gptq::{GptqParts, GptqTensors, column_order};
use internlm_quant::{QuantizationConfig, QuantizationMethod, RawTensor};

use super::LoadConfig;
use super::file::Bytes;
use super::matrix::{Form, ReadCodes};
use super::source::{ElementType, Stored, TensorSource, check_shape};
use crate::error::{Error, Result};

/// Codes of a word.
const PER_WORD: usize = 8;

/// The zero point of files that hold none.
const SYMMETRIC_ZERO: u8 = 8;

/// The stored tensors of one module.
#[derive(Debug)]
pub(super) struct Words<'a> {
    method: &'a QuantizationMethod,
    group_size: usize,
    columns: usize,
    qweight: &'a Stored,
    qzeros: Option<&'a Stored>,
    scales: &'a Stored,
    g_idx: Option<&'a Stored>,
}

impl<'a> Words<'a> {
    /// Finds the tensors beside a `qweight` and checks all shapes; what lacks is added to `missing`.
    ///
    /// # Errors
    /// Shapes that the configuration does not imply, and groups that do not divide the columns.
    pub(super) fn find(
        source: &'a dyn TensorSource,
        config: &'a QuantizationConfig,
        path: &str,
        [rows, columns]: [usize; 2],
        missing: &mut Vec<String>,
    ) -> Result<Option<Self>> {
        let group_size = config
            .group_size_of(columns)
            .map_err(|source| Error::from(source).in_tensor(path))?;
        let groups = columns / group_size;
        let (words, may_lack_zeros) = match config.method {
            QuantizationMethod::Awq { zero_point } => ([columns, rows / PER_WORD], !zero_point),
            QuantizationMethod::Gptq { sym, .. } => ([columns / PER_WORD, rows], sym),
            QuantizationMethod::Int8 => return Ok(None),
        };
        let mut find = |suffix: &str, shape: &[usize], may_lack: bool| -> Result<_> {
            let name = format!("{path}.{suffix}");
            let Some(presented) = source.find(&name) else {
                if !may_lack {
                    missing.push(name);
                }
                return Ok(None);
            };
            check_shape(&presented, &name, shape)?;
            Ok(presented.blocks.first().map(|block| block.stored))
        };
        let qweight = find("qweight", &words, false)?;
        let qzeros = find("qzeros", &[groups, rows / PER_WORD], may_lack_zeros)?;
        let scales = find("scales", &[groups, rows], false)?;
        let g_idx = match config.method {
            QuantizationMethod::Awq { .. } | QuantizationMethod::Int8 => None,
            QuantizationMethod::Gptq { .. } => find("g_idx", &[columns], true)?,
        };
        Ok(match (qweight, scales) {
            (Some(qweight), Some(scales)) => Some(Self {
                method: &config.method,
                group_size,
                columns,
                qweight,
                qzeros,
                scales,
                g_idx,
            }),
            _ => None,
        })
    }

    /// The stored tensors by their suffixes.
    pub(super) fn stored(&self) -> impl Iterator<Item = (&'static str, &'a Stored)> {
        let tensors = [
            ("qweight", Some(self.qweight)),
            ("qzeros", self.qzeros),
            ("scales", Some(self.scales)),
            ("g_idx", self.g_idx),
        ];
        tensors
            .into_iter()
            .filter_map(|(suffix, stored)| Some((suffix, stored?)))
    }

    /// The form that the codes have. Of the data, only `g_idx` is read.
    ///
    /// # Errors
    /// A `g_idx` that can't be read or does not share the inputs equally among the groups.
    pub(super) fn form(&self, options: &LoadConfig) -> Result<Form> {
        let order = match self.g_idx {
            Some(g_idx) => {
                let bytes = g_idx.read(options.mmap)?;
                column_order(&g_idx.raw("g_idx", &bytes)?, self.columns, self.group_size)?
            }
            None => None,
        };
        Ok(Form {
            bits: 4,
            group_size: self.group_size,
            scales: match self.scales.element_type {
                ElementType::Known(GgmlType::F16) => ScaleType::F16,
                _ => ScaleType::F32,
            },
            zeros: match self.qzeros {
                Some(_) => ZeroType::Points,
                None => ZeroType::Constant(SYMMETRIC_ZERO),
            },
            order,
        })
    }

    /// Calls `f` with what reads the codes. Words hold inputs as rows, so that a range of outputs lies
    /// all over the tensors: they are mapped (or read) as a whole, once, for all threads.
    ///
    /// # Errors
    /// A file that can't be read, tensors of other types, and what `f` fails with.
    pub(super) fn with_codes<R>(
        &self,
        options: &LoadConfig,
        f: impl FnOnce(&ReadCodes<'_>) -> Result<R>,
    ) -> Result<R> {
        let read = |stored: Option<&Stored>| stored.map(|s| s.read(options.mmap)).transpose();
        let bytes = (
            self.qweight.read(options.mmap)?,
            read(self.qzeros)?,
            self.scales.read(options.mmap)?,
            read(self.g_idx)?,
        );
        let qweight = self.qweight.raw("qweight", &bytes.0)?;
        let qzeros = optional("qzeros", self.qzeros, bytes.1.as_ref())?;
        let scales = self.scales.raw("scales", &bytes.2)?;
        let g_idx = optional("g_idx", self.g_idx, bytes.3.as_ref())?;
        match *self.method {
            QuantizationMethod::Awq { zero_point } => {
                let tensors =
                    AwqTensors::new(qweight, qzeros, scales, self.group_size, zero_point)?;
                f(&|rows| Ok(tensors.codes(rows)?))
            }
            QuantizationMethod::Gptq { sym, zeros, .. } => {
                let parts = GptqParts {
                    qweight,
                    qzeros,
                    scales,
                    g_idx,
                };
                let tensors = GptqTensors::new(parts, self.group_size, zeros, sym)?;
                f(&|rows| Ok(tensors.codes(rows)?))
            }
            // Its tensors are no words: `find` gives none.
            QuantizationMethod::Int8 => Err(self.qweight.wrong_type("qweight")),
        }
    }
}

fn optional<'b>(
    suffix: &str,
    stored: Option<&Stored>,
    bytes: Option<&'b Bytes>,
) -> Result<Option<RawTensor<'b>>> {
    match (stored, bytes) {
        (Some(stored), Some(bytes)) => stored.raw(suffix, bytes).map(Some),
        _ => Ok(None),
    }
}
