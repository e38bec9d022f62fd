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
    /// The bytes of a stored tensor are not as many as its dtype and shape take.
    #[error("{what} of shape {shape:?} holds {got} bytes")]
    RawLength {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// Its bytes.
        got: usize,
    },
    /// A tensor is absent that the others can't be read without.
    #[error("{what} is missing: {why}")]
    Missing {
        /// Which tensor.
        what: String,
        /// What asks for it.
        why: &'static str,
    },
    /// Groups do not fill the inputs of a matrix.
    #[error("groups of {group_size} do not divide {in_features} inputs{}", offer(.offers))]
    GroupSize {
        /// Inputs of a group.
        group_size: usize,
        /// Inputs of the matrix.
        in_features: usize,
        /// Those of 128, 64 and 32 that do divide them.
        offers: Vec<usize>,
    },
    /// A `quantization_config` is not what its format says.
    #[error("quantization_config: `{key}` {message}")]
    QuantizationConfig {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// A `quantization_config` asks for something that is not read.
    #[error("quantization_config: `{key}` is {got}, only {known} can be read")]
    QuantizationUnsupported {
        /// The key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What can be read.
        known: &'static str,
    },
    /// The blocks of a ggml type are no codes with a scale and a zero.
    #[error("{ggml_type} is no type of codes with a scale and a zero")]
    NoCodes {
        /// The type's name.
        ggml_type: &'static str,
    },
    /// Values that are to be quantized are infinite or not a number.
    #[error("{what} is not finite")]
    NotFinite {
        /// Which values.
        what: &'static str,
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
    /// A group of layers was described in a way that the search can't use.
    #[error("group of `{group}`: {what}")]
    Group {
        /// Its first layer, or the tensor that is wrong.
        group: String,
        /// What is wrong with it.
        what: String,
    },
    /// An exponent of smoothing that is no part of a whole.
    #[error("alpha of smoothing is {alpha}, expected 0 to 1")]
    Alpha {
        /// The exponent.
        alpha: f32,
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

/// The sizes that would do, as the end of a sentence.
fn offer(sizes: &[usize]) -> String {
    match sizes {
        [] => "; neither 128 nor 64 nor 32 does".to_owned(),
        [one] => format!("; {one} does"),
        [first, rest @ ..] => {
            let rest: Vec<String> = rest.iter().map(usize::to_string).collect();
            format!("; {first} and {} do", rest.join(" and "))
        }
    }
}
