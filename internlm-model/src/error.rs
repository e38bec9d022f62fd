//! Everything that can go wrong while loading and running a model.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not the JSON that was expected.
    #[error("{}: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The head of a GGUF file is cut, corrupt or lacks a key.
    #[error(transparent)]
    Gguf(internlm_core::Error),
    /// A value of a configuration is missing, contradictory or out of range.
    #[error("{}: `{field}`: {what}", file.display())]
    Config {
        /// The configuration file.
        file: PathBuf,
        /// The key, as the file spells it.
        field: String,
        /// What is wrong and what was expected.
        what: String,
    },
    /// A path holds no checkpoint that can be read.
    #[error("{}: {what}", path.display())]
    NotACheckpoint {
        /// The path.
        path: PathBuf,
        /// What was looked for and what is there.
        what: String,
    },
    /// A weight file is cut or breaks its format.
    #[error("{}: {what}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What was expected and what was found.
        what: String,
    },
    /// A prepared file is damaged, or was made of other files or with other options.
    #[error("{}: {what}; remove it to have it made again", file.display())]
    Prepared {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// An index names a file outside of its folder.
    #[error("{}: names `{}`, expected a file inside of the folder", file.display(), path.display())]
    OutsideFolder {
        /// The index.
        file: PathBuf,
        /// The path that it names.
        path: PathBuf,
    },
    /// A checkpoint lacks tensors.
    #[error("{}: {count} tensors are missing: {}{}", file.display(), names.join(", "), if *count > names.len() { ", ..." } else { "" })]
    MissingTensors {
        /// The file or index that should name them.
        file: PathBuf,
        /// Up to ten of their checkpoint paths.
        names: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// A tensor is stored in a type that can't be read as numbers.
    #[error("{}: tensor `{name}` is of type {got}, expected floats or blocks that can be dequantized", file.display())]
    TensorType {
        /// The file that holds it.
        file: PathBuf,
        /// The tensor's name.
        name: String,
        /// Its type, as the format calls it.
        got: String,
    },
    /// A weight is not finite.
    #[error("{}: tensor `{name}` holds {count} values that are not finite", file.display())]
    NonFiniteWeights {
        /// The file that holds it.
        file: PathBuf,
        /// The tensor's checkpoint path.
        name: String,
        /// How many values; after conversion, so an overflow of f16 counts.
        count: usize,
    },
    /// Weights can't be held in this dtype.
    #[error("weights can't be {}, expected f32, bf16 or f16", got.as_str())]
    WeightDtype {
        /// The dtype that was asked for.
        got: candle_core::DType,
    },
    /// Embedding and head can't be rounded where no matrix is packed.
    #[error("embedding and head can't be {got:?} here, expected packed matrices, or `Stored`")]
    HeadWeights {
        /// What was asked for.
        got: crate::load::HeadWeights,
    },
    /// A checkpoint would be saved over something that is there.
    #[error("{}: is there already, expected a new or empty folder", path.display())]
    OutputExists {
        /// The path.
        path: PathBuf,
    },
    /// The work folder of a quantization that was begun is used by something else, or is damaged.
    #[error("{}: {what}", path.display())]
    WorkFolder {
        /// The folder or a file in it.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// A checkpoint would hold two tensors of one name.
    #[error("tensor `{name}` comes twice")]
    DuplicateTensor {
        /// Their checkpoint path.
        name: String,
    },
    /// A tensor has another shape than the configuration implies.
    #[error("{}: tensor `{name}` has shape {got:?}, the config implies {want:?}", file.display())]
    TensorShape {
        /// The file that holds it.
        file: PathBuf,
        /// The tensor's checkpoint path.
        name: String,
        /// The shape in the file.
        got: Vec<usize>,
        /// The shape that the configuration implies.
        want: Vec<usize>,
    },
    /// A file of an adapter holds a tensor that is no adapter of the base model.
    #[error("{}: tensor `{name}` {what}", file.display())]
    AdapterTensor {
        /// The file that holds it.
        file: PathBuf,
        /// The tensor's name.
        name: String,
        /// What it is, and what was expected.
        what: &'static str,
    },
    /// An adapter was made for another network than the one it is used with.
    #[error("adapter `{name}`: made for {field} {got}, the model has {want}")]
    AdapterBase {
        /// The adapter.
        name: String,
        /// What differs, as the configuration calls it.
        field: &'static str,
        /// The value that the adapter was made for.
        got: String,
        /// The model's value.
        want: String,
    },
    /// A sequence asks for an adapter that the context does not have.
    #[error("a sequence asks for adapter {index}, the context has {count}")]
    AdapterIndex {
        /// The index in the batch.
        index: usize,
        /// Adapters of the context.
        count: usize,
    },
    /// An adapter can't be merged into packed weights.
    #[error(
        "`{at}` is packed, an adapter can only be merged into dense weights: load with `packed` off"
    )]
    PackedMerge {
        /// The first module's checkpoint path.
        at: String,
    },
    /// A batch can't be run: the field and what was expected.
    #[error("batch: {what}")]
    Batch {
        /// What is wrong and what was expected.
        what: String,
    },
    /// A token id lies outside of the vocabulary.
    #[error("token id {id} is outside of the vocabulary of {vocab_size}")]
    TokenId {
        /// The id.
        id: u32,
        /// Ids run from 0 to one less than this.
        vocab_size: usize,
    },
    /// A prompt leaves no room for an answer.
    #[error("the prompt has {prompt_tokens} tokens, the context holds {context_length}")]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Most tokens of prompt and answer together.
        context_length: usize,
    },
    /// None of the tokens that may be chosen is in the vocabulary.
    #[error("no token of the vocabulary may come next")]
    NoTokenAllowed,
    /// Logits are not finite: the weights or the input are broken.
    #[error("the logits hold {count} values that are not finite")]
    NonFiniteLogits {
        /// How many.
        count: usize,
    },
    /// The model has another head than the call needs.
    #[error("this checkpoint has a {got} head, the call needs a {want} head")]
    Head {
        /// What the checkpoint has.
        got: &'static str,
        /// What the call needs.
        want: &'static str,
    },
    /// A request's parameter is out of range.
    #[error(transparent)]
    Request(internlm_core::Error),
    /// A kernel refused its arguments or could not be set up.
    #[error("in `{at}`: {source}")]
    Kernel {
        /// The layer or step.
        at: String,
        /// The kernel's error.
        #[source]
        source: internlm_kernels::Error,
    },
    /// A weight could not be used.
    #[error("in `{at}`: {source}")]
    Weight {
        /// The checkpoint path or step.
        at: String,
        /// The error of the weight's crate.
        #[source]
        source: internlm_quant::Error,
    },
    /// The system has no memory for a cache.
    #[error("no memory for {bytes} bytes of keys and values")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// A tensor operation failed.
    #[error("in `{at}`: {source}")]
    Compute {
        /// The layer or step.
        at: String,
        /// Candle's error.
        #[source]
        source: candle_core::Error,
    },
    /// A tokenizer or a chat template refused its input.
    #[cfg(feature = "text")]
    #[error(transparent)]
    Tokenize(#[from] internlm_tokenize::Error),
    /// A repository of the hub could not be fetched.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] crate::hub::Error),
}

impl Error {
    /// Whether memory was lacking, of the machine or of a device: less work may succeed, or the same work later.
    ///
    /// Candle's errors of devices have no kinds; those of CUDA and Metal are told by the driver's name for it.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Error::OutOfMemory { .. } => true,
            Error::Compute { source, .. } => {
                let text = source.to_string();
                let names = ["CUDA_ERROR_OUT_OF_MEMORY", "OutOfMemory"];
                names.iter().any(|name| text.contains(name))
            }
            _ => false,
        }
    }

    /// Names the tensor whose data could not be converted.
    pub(crate) fn in_tensor(self, name: &str) -> Self {
        match self {
            Error::Weight { source, .. } => Error::Weight {
                at: name.to_owned(),
                source,
            },
            other => other,
        }
    }

    /// Names the layer that an operation failed in.
    pub(crate) fn at(self, layer: usize) -> Self {
        let at = |at: String| format!("layer {layer}: {at}");
        match self {
            Error::Kernel { at: step, source } => Error::Kernel {
                at: at(step),
                source,
            },
            Error::Compute { at: step, source } => Error::Compute {
                at: at(step),
                source,
            },
            other => other,
        }
    }
}

impl From<internlm_core::Error> for Error {
    fn from(source: internlm_core::Error) -> Self {
        use internlm_core::Error as Core;
        match source {
            Core::Io { .. } | Core::Gguf { .. } => Error::Gguf(source),
            _ => Error::Request(source),
        }
    }
}

impl From<internlm_quant::Error> for Error {
    fn from(source: internlm_quant::Error) -> Self {
        Error::Weight {
            at: "weight".to_owned(),
            source,
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(source: candle_core::Error) -> Self {
        Error::Compute {
            at: "tensor operation".to_owned(),
            source,
        }
    }
}

impl From<internlm_kernels::Error> for Error {
    fn from(source: internlm_kernels::Error) -> Self {
        Error::Kernel {
            at: "kernel".to_owned(),
            source,
        }
    }
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
