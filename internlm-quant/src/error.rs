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
    /// Groups of this size don't divide a row.
    #[error(
        "groups of {group_size} don't divide the {columns} inputs of a row; {}",
        offer(offered)
    )]
    GroupSize {
        /// The size that was asked for.
        group_size: usize,
        /// Inputs of a row.
        columns: usize,
        /// Usual sizes that do.
        offered: Vec<usize>,
    },
    /// A slice has another length than its shape.
    #[error("{what} has {got} elements, expected {want}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Its length.
        got: usize,
        /// What was expected.
        want: String,
    },
    /// Numbers are NaN or infinite.
    #[error("{what}: {count} values are not finite")]
    NotFinite {
        /// Which numbers.
        what: String,
        /// How many.
        count: usize,
    },
    /// A group of layers was described in a way that the search can't use.
    #[error("group of `{group}`: {what}")]
    Group {
        /// The first consumer.
        group: String,
        /// What is wrong with it.
        what: String,
    },
    /// There is nothing to calibrate on.
    #[error("calibration needs at least one sequence of tokens, none was given")]
    NoCalibration,
    /// The second moments of a layer's inputs have no Cholesky factor, whatever the damping.
    #[error("the second moments of {columns} inputs are not positive definite, even when damped")]
    NotPositive {
        /// Number of inputs.
        columns: usize,
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

/// What an error about a group size suggests.
fn offer(sizes: &[usize]) -> String {
    match sizes {
        [] => "no usual size does".to_owned(),
        sizes => {
            let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
            format!("use {}", sizes.join(" or "))
        }
    }
}
