//! Everything that makes a program end with status 1.

use std::path::PathBuf;

/// An error of a program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or stream could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// The file or stream.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A line of the input could not be used.
    #[error("standard input, line {line}: {source}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A line is not the JSON object that the program reads.
    #[error("{source}; expected {want}")]
    Json {
        /// The fields of the object.
        want: &'static str,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// Arguments or fields that can't be used, and what could be.
    #[error("{0}")]
    Input(String),
    /// There is no such checkpoint.
    #[error(
        "--model {}: no such folder or file; expected a folder in Hugging Face layout, a .gguf file or a hub \
         id such as internlm/internlm2_5-1_8b-chat{hint}",
        path.display()
    )]
    NoModel {
        /// What was asked for.
        path: PathBuf,
        /// What to do, from a semicolon on; may be empty.
        hint: &'static str,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] internlm_model::Error),
    /// The tokenizer or the chat template failed.
    #[error(transparent)]
    Tokenize(#[from] internlm_tokenize::Error),
    /// The engine or the server failed.
    #[error(transparent)]
    Serve(#[from] internlm_serve::Error),
    /// A checkpoint could not be fetched.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] internlm_model::hub::Error),
    /// The evaluation failed.
    #[error(transparent)]
    Eval(#[from] internlm_eval::Error),
    /// An agent failed.
    #[error(transparent)]
    Agent(#[from] internlm_agent::Error),
    /// A trait of `internlm-core` failed.
    #[error(transparent)]
    Core(#[from] internlm_core::Error),
}

impl Error {
    /// A failure to read or write `what`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Error::Io {
            what: what.into(),
            source,
        }
    }

    /// Names the line of the input.
    #[must_use]
    pub fn at_line(self, line: usize) -> Self {
        Error::Line {
            line,
            source: Box::new(self),
        }
    }

    /// Whether the reader of our output went away, as `head` does.
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Error::Io { source, .. } => source.kind() == std::io::ErrorKind::BrokenPipe,
            Error::Line { source, .. } => source.is_broken_pipe(),
            _ => false,
        }
    }
}

impl From<internlm_model::candle::Error> for Error {
    fn from(source: internlm_model::candle::Error) -> Self {
        Error::Model(source.into())
    }
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
