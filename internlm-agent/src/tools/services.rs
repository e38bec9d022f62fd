//! Tools that need another model: speech to text and back, what an image shows, text in an image, images from words.
//!
//! They ask an OpenAI-compatible endpoint, of a company or on a machine of one's own. Files come from a folder and go
//! to it. The fetcher's rules hold here, too: a server that is not public must be let through by name.
//!
//! ```no_run
//! use internlm_agent::fetch::{FetchConfig, Fetcher, InternalServers};
//! use internlm_agent::tool::ToolSet;
//! use internlm_agent::tools::{Root, services};
//!
//! let fetcher = Fetcher::new(FetchConfig::default())
//!     .with_resolver(InternalServers::new(["127.0.0.1:9000".parse()?]));
//! let whisper = services::ServiceConfig::new("http://127.0.0.1:9000/v1", "whisper-1");
//! let tools = ToolSet::new().with(services::transcribe_audio(&Root::open(".")?, whisper, fetcher))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ask;
mod sight;
mod sound;

use std::time::Duration;

use super::catalog::CatalogEntry;

pub use sight::{
    DescribeImage, GenerateImage, ReadImageText, describe_image, generate_image, read_image_text,
};
pub use sound::{SpeakText, TranscribeAudio, speak_text, transcribe_audio};

/// An endpoint and what may be asked of it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// The address before `/chat/completions` and the like, such as `https://host/v1`.
    pub endpoint: String,
    /// The model that is asked.
    pub model: String,
    /// The key, if it needs one. It is told to the endpoint's host only.
    pub key: Option<String>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Most bytes of a file that is sent.
    pub max_file: u64,
    /// Most bytes of an answer.
    pub max_answer: usize,
    /// Most characters of a text, sent or told.
    pub max_chars: usize,
}

impl std::fmt::Debug for ServiceConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceConfig")
            .field("endpoint", &self.endpoint)
            .field("model", &self.model)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl ServiceConfig {
    /// The defaults, with this endpoint and model.
    pub fn new(endpoint: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            model: model.into(),
            key: None,
            timeout: Duration::from_secs(120),
            max_file: 20 << 20,
            max_answer: 32 << 20,
            max_chars: 20_000,
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets how long an answer may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the most bytes of a file.
    #[must_use]
    pub fn with_max_file(mut self, max_file: u64) -> Self {
        self.max_file = max_file;
        self
    }

    /// Sets the most bytes of an answer.
    #[must_use]
    pub fn with_max_answer(mut self, max_answer: usize) -> Self {
        self.max_answer = max_answer;
        self
    }

    /// Sets the most characters of a text.
    #[must_use]
    pub fn with_max_chars(mut self, max_chars: usize) -> Self {
        self.max_chars = max_chars;
        self
    }
}

/// What the catalog says of these tools.
pub(super) fn entries() -> Vec<CatalogEntry> {
    let config = ServiceConfig::new("", "");
    let limits = format!(
        "files of {} MiB, answers of {} MiB, texts of {} characters, {} seconds.",
        config.max_file >> 20,
        config.max_answer >> 20,
        config.max_chars,
        config.timeout.as_secs()
    );
    let entries = [
        CatalogEntry::of::<DescribeImage>(
            "describe_image",
            "tools::services::describe_image",
            &limits,
        ),
        CatalogEntry::of::<GenerateImage>(
            "generate_image",
            "tools::services::generate_image",
            &limits,
        ),
        CatalogEntry::of::<ReadImageText>(
            "read_image_text",
            "tools::services::read_image_text",
            &limits,
        ),
        CatalogEntry::of::<SpeakText>("speak_text", "tools::services::speak_text", &limits),
        CatalogEntry::of::<TranscribeAudio>(
            "transcribe_audio",
            "tools::services::transcribe_audio",
            &limits,
        ),
    ];
    entries.map(|entry| entry.with_feature("fetch")).into()
}
