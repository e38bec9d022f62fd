//! Checkpoints on disk: folders in Hugging Face layout and GGUF files.
//!
//! Every format ends as a table of stored tensors: which bytes of which file, of which type and
//! shape. Tables are read with limits and checked against the file before anything is allocated by
//! them. [`ModelDir`] finds out what a path holds; the decoder takes tensors by checkpoint path from
//! a `Loader`, which checks names and shapes of the whole checkpoint before it reads the first.
//!
//! Matrices of 4 to 8 bits stay packed: on the CPU their codes are put in the order that kernels read, on
//! other devices they are tensors, which each product dequantizes. Either is made range of rows by range of
//! rows, and no dense copy is.
//!
//! Files are mapped a few megabytes or one module at a time, copied out and unmapped, so resident
//! memory stays near the weights alone. A file that another process cuts while it is mapped ends the program by
//! a signal; [`LoadConfig::with_mmap`] chooses plain reads, which make it an error.

mod dir;
mod elements;
mod file;
mod gguf;
mod head;
mod int8;
mod loader;
mod matrix;
mod named;
mod packed;
mod pickle;
mod prepared;
mod random;
mod read;
mod safetensors;
mod shards;
mod snapshot;
mod source;
mod torch;
mod words;
mod zip;

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device};
pub use internlm_kernels::Activation;
use internlm_kernels::Compute;

pub use dir::ModelDir;
pub(crate) use dir::read_small;
pub(crate) use loader::{Loader, linear_modules};
pub(crate) use named::NamedTensors;
pub(crate) use random::{seed_of, uniform};
pub(crate) use safetensors::read_all;

// Stored numbers are little-endian and are copied as they are.
#[cfg(target_endian = "big")]
compile_error!("checkpoints can't be loaded on big-endian machines");
pub use head::HeadWeights;
pub use loader::{LoadProgress, LoadReport};
pub use prepared::Prepared;

use crate::error::Result;

/// A function that is told how far loading is.
pub type OnProgress = Arc<dyn Fn(LoadProgress) + Send + Sync>;

/// How to load a checkpoint.
#[derive(Clone)]
#[non_exhaustive]
pub struct LoadConfig {
    /// The dtype of dense matrices. Without one they stay as stored (f64 becomes f32). bf16 and f16
    /// narrow what is wider; on the CPU f32 leaves narrower weights as they are, because the kernels
    /// widen them exactly. Norms and biases are never narrowed.
    ///
    /// On other devices it is also the dtype of activations; without one that is the dtype of the head, f32
    /// where the head is packed.
    ///
    /// Blocks of GGUF become dense if a dtype is given. AWQ and GPTQ stay packed all the same; only what
    /// their files leave dense follows it.
    pub dtype: Option<DType>,
    /// Whether matrices of 4, 5, 6 and 8 bits stay packed (the default); otherwise they are dequantized to
    /// `dtype`, f32 without one. On devices other than the CPU a packed matrix is dequantized for every
    /// product, which costs time where there would be memory for dense ones.
    pub packed: bool,
    /// Whether packed matrices are [`PackedTensors`](internlm_quant::PackedTensors) on the CPU too, as they
    /// always are on other devices. It is for tests of that form without such a device: on the CPU the
    /// kernels are faster, and products in tensors don't round activations.
    pub packed_tensors: bool,
    /// What embedding and head are held as: as stored by default. Rounded ones need `packed`.
    pub head: HeadWeights,
    /// How activations are rounded before a product of the CPU kernels with a packed matrix: bf16 by
    /// default. [`Activation::F32`] is exact.
    pub packed_activation: Activation,
    /// Where weights go.
    pub device: Device,
    /// Where packed matrices are kept between runs, so that later ones read them as they lie in
    /// memory. That is the order of the CPU kernels: of what is dense or in tensors, as on other devices,
    /// nothing is kept.
    pub prepared: Option<Prepared>,
    /// Whether files are mapped or read.
    pub mmap: bool,
    /// Whether weights that are not finite are an error.
    pub check_finite: bool,
    /// Threads of loading and of the kernels; without a number, as many as there are cores.
    pub threads: Option<usize>,
    /// Kernels and threads to share with another model, in place of new ones.
    pub compute: Option<Arc<Compute>>,
    /// Told after every tensor, on the thread that loads.
    pub on_progress: Option<OnProgress>,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            dtype: None,
            packed: true,
            packed_tensors: false,
            head: HeadWeights::Stored,
            packed_activation: Activation::Bf16,
            device: Device::Cpu,
            prepared: None,
            mmap: true,
            check_finite: true,
            threads: None,
            compute: None,
            on_progress: None,
        }
    }
}

impl fmt::Debug for LoadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadConfig")
            .field("dtype", &self.dtype)
            .field("packed", &self.packed)
            .field("packed_tensors", &self.packed_tensors)
            .field("head", &self.head)
            .field("packed_activation", &self.packed_activation)
            .field("device", &self.device)
            .field("prepared", &self.prepared)
            .field("mmap", &self.mmap)
            .field("check_finite", &self.check_finite)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl LoadConfig {
    /// Sets the dtype of dense matrices.
    #[must_use]
    pub fn with_dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// Chooses whether matrices stay packed (the default).
    #[must_use]
    pub fn with_packed(mut self, packed: bool) -> Self {
        self.packed = packed;
        self
    }

    /// Chooses whether packed matrices are tensors on the CPU too; see
    /// [`packed_tensors`](LoadConfig::packed_tensors).
    #[must_use]
    pub fn with_packed_tensors(mut self, packed_tensors: bool) -> Self {
        self.packed_tensors = packed_tensors;
        self
    }

    /// Sets what embedding and head are held as.
    #[must_use]
    pub fn with_head(mut self, head: HeadWeights) -> Self {
        self.head = head;
        self
    }

    /// Sets how activations are rounded before a product with a packed matrix.
    #[must_use]
    pub fn with_packed_activation(mut self, activation: Activation) -> Self {
        self.packed_activation = activation;
        self
    }

    /// Sets where weights go.
    #[must_use]
    pub fn with_device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Keeps packed matrices between runs; see [`Prepared`].
    #[must_use]
    pub fn with_prepared(mut self, prepared: Prepared) -> Self {
        self.prepared = Some(prepared);
        self
    }

    /// Chooses mapped files (the default) or plain reads.
    #[must_use]
    pub fn with_mmap(mut self, mmap: bool) -> Self {
        self.mmap = mmap;
        self
    }

    /// Chooses whether weights that are not finite are an error (the default).
    #[must_use]
    pub fn with_check_finite(mut self, check_finite: bool) -> Self {
        self.check_finite = check_finite;
        self
    }

    /// Sets the number of threads.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Shares kernels and threads with another model.
    #[must_use]
    pub fn with_compute(mut self, compute: Arc<Compute>) -> Self {
        self.compute = Some(compute);
        self
    }

    /// Sets a function that is told how far loading is.
    #[must_use]
    pub fn with_on_progress(mut self, f: impl Fn(LoadProgress) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(f));
        self
    }

    /// The shared kernels, or new ones.
    ///
    /// # Errors
    /// An instruction set in `INTERNLM_KERNELS` that is not there, no threads, or a system that
    /// starts none.
    pub fn compute(&self) -> Result<Arc<Compute>> {
        match &self.compute {
            Some(compute) => Ok(compute.clone()),
            None => Ok(Arc::new(Compute::new(self.threads)?)),
        }
    }

    /// Whether the blocks of GGUF stay packed.
    fn packs_blocks(&self) -> bool {
        self.packed && self.dtype.is_none()
    }

    /// Whether packed matrices are for the kernels, and not tensors.
    fn packs_for_kernels(&self) -> bool {
        self.packed && self.device.is_cpu() && !self.packed_tensors
    }

    /// Threads that copy and convert.
    fn load_threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(cores).clamp(1, 16)
    }
}
