//! Everything that can go wrong with a weight.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has another shape than the operation needs.
    #[error("{what} has shape {got:?}, expected {want}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// What was expected.
        want: String,
    },
    /// A tensor has another dtype than the operation needs.
    #[error("{what} is {got}, expected {want}")]
    Dtype {
        /// Which tensor.
        what: &'static str,
        /// Its dtype.
        got: &'static str,
        /// What was expected.
        want: &'static str,
    },
    /// A tensor is not on the CPU, or its elements are not consecutive.
    #[error("{what} must be contiguous and on the CPU")]
    Layout {
        /// Which tensor.
        what: &'static str,
    },
    /// The data of a ggml tensor has another length than its elements need.
    #[error("{elements} elements of {ggml_type} take {want} bytes, {got} were given")]
    BlockLength {
        /// The type's name.
        ggml_type: &'static str,
        /// Number of elements asked for.
        elements: usize,
        /// Bytes given.
        got: usize,
        /// Bytes needed; for a number of elements that is no multiple of a block, rounded up.
        want: usize,
    },
    /// Codes, scales and zeros of a matrix do not belong together.
    #[error("{what} of a quantized matrix: {message}")]
    Codes {
        /// The field.
        what: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// A kernel refused its arguments.
    #[error(transparent)]
    Kernel(#[from] internlm_kernels::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
