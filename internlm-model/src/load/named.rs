//! Small files of named tensors that are not a checkpoint's, such as adapters.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::file::SourceFile;
use super::source::{Table, TensorSource, check_shape};
use super::{LoadConfig, read, safetensors, torch};
use crate::error::{Error, Result};

/// The tensors of one safetensors file, or of one that `torch.save` wrote.
#[derive(Debug)]
pub(crate) struct NamedTensors(Table);

impl NamedTensors {
    /// Reads and checks the table; a name that ends in `.bin` means a file of `torch.save`.
    ///
    /// # Errors
    /// A file that can't be read, is cut or breaks its format.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = Arc::new(SourceFile::open(path)?);
        let tensors = match path.extension().is_some_and(|e| e == "bin") {
            true => torch::table(&file)?,
            false => safetensors::table(&file)?,
        };
        Ok(Self(Table {
            path: path.to_path_buf(),
            tensors,
        }))
    }

    /// All names, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.names()
    }

    /// A tensor in f32 on the CPU.
    ///
    /// # Errors
    /// One that is missing, of another shape, not of floats, or not finite.
    pub(crate) fn tensor(&self, name: &str, want: &[usize]) -> Result<Tensor> {
        let Some(found) = self.0.find(name) else {
            return Err(Error::MissingTensors {
                file: self.0.path.clone(),
                names: vec![name.to_owned()],
                count: 1,
            });
        };
        check_shape(&found, name, want)?;
        let options = LoadConfig::default().with_dtype(DType::F32);
        // Narrow tensors stay narrow in memory on the CPU, and are widened here.
        Ok(read::tensors(&[(name, found)], &options)?.to_dtype(DType::F32)?)
    }
}
