//! Everything that can go wrong in this crate.

use std::path::PathBuf;
use std::sync::Arc;

/// An error of a tokenizer or of a chat template.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A file is larger than any tokenizer.
    #[error("{}: {bytes} bytes, at most {most} are read", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// Calibration data makes no whole block.
    #[error(
        "calibration data of {tokens} tokens makes no block of {seq_len}; expected a longer text or shorter, \
         but not empty, blocks"
    )]
    CalibTooShort {
        /// Tokens of all documents.
        tokens: usize,
        /// Tokens of a block.
        seq_len: usize,
    },
    /// A folder holds no tokenizer, or a file is of no kind that is read.
    #[error("{}: no tokenizer; expected {expected}", path.display())]
    NoTokenizer {
        /// The folder or file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// A `tokenizer.model` is cut or corrupt.
    #[error("{}: at byte {offset}: {what}", file.display())]
    SentencePiece {
        /// The file.
        file: PathBuf,
        /// Where reading stood.
        offset: usize,
        /// What was found and what was expected.
        what: String,
    },
    /// A vocabulary contradicts itself.
    #[error("{}: piece {id}: {what}", file.display())]
    Vocabulary {
        /// The file.
        file: PathBuf,
        /// The piece.
        id: u32,
        /// What is wrong with it.
        what: String,
    },
    /// A file asks for something that is not implemented.
    #[error("{}: {what} `{name}` is not supported; supported: {supported}", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The field that asks for it.
        what: &'static str,
        /// What it asks for.
        name: String,
        /// What it could say instead.
        supported: &'static str,
    },
    /// A JSON file is malformed, or a field of it has the wrong type.
    #[error("{}: {field}: {what}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// The field, or `(file)` for the whole.
        field: String,
        /// What is wrong.
        what: String,
    },
    /// The metadata of a GGUF file lacks something that a tokenizer needs, or contradicts itself.
    #[error("{}: `{key}`: {what}", file.display())]
    Gguf {
        /// The file.
        file: PathBuf,
        /// The metadata key.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// The GGUF file itself is corrupt.
    #[error(transparent)]
    Core(#[from] internlm_core::Error),
    /// The `tokenizers` crate failed.
    #[error("{what}: {message}")]
    HuggingFace {
        /// What was being done.
        what: &'static str,
        /// What the crate said.
        message: String,
    },
    /// A token id outside of the vocabulary.
    #[error("token id {id} is outside of the vocabulary of {vocab_size}")]
    UnknownId {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A text is longer than positions in it can be counted.
    #[error("the text has {bytes} bytes, at most {most} can be encoded at once")]
    TextTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// A BOS token was asked for and the tokenizer has none.
    #[error("the tokenizer has no BOS token")]
    NoBos,
    /// A chat template could not be compiled, or it refused the messages.
    #[error("chat template{}: {what}", line.map(|n| format!(", line {n}")).unwrap_or_default())]
    Template {
        /// What is wrong.
        what: String,
        /// The line of the template, from 1.
        line: Option<usize>,
    },
    /// A chat template did more work than it may.
    #[error("the chat template was stopped: it used up its budget of work")]
    TemplateFuel,
    /// There is no built-in chat template of this name.
    #[error("no chat template `{name}`; known: {}", known.join(", "))]
    UnknownTemplate {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: &'static [&'static str],
    },
    /// A stop text is empty.
    #[error("stop text {index} is empty; expected at least one character")]
    EmptyStop {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// A chat template called `raise_exception`: it does not take these messages.
    #[error("the chat template refuses the messages: {message}")]
    TemplateRefused {
        /// The template's own words.
        message: String,
    },
    /// A message says something that the chat format has no words for.
    #[error("message {index}: {what}")]
    Message {
        /// Which message, from 0.
        index: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Tools were given to a chat format that has no tool protocol.
    #[error("the chat format `{template}` has no tool protocol")]
    NoToolProtocol {
        /// The chat format.
        template: &'static str,
    },
    /// A tokenizer has no chat template and no special tokens by which to choose one.
    #[error("the tokenizer has no chat template and none can be told from its special tokens")]
    NoTemplate,
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
