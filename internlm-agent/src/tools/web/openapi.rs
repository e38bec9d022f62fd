//! Tools from an OpenAPI document: one for each operation.
//!
//! Versions 3.0 and 3.1 as JSON. Parameters of path, query and header become arguments of their names, a body in JSON
//! or as a form becomes the argument `body`. References are followed within the document only, and schemas are
//! written out with limits of depth and size, so a document cannot grow without end. What an operation needs that
//! this can't do, such as an upload, is said in [`OpenApiTools::skipped`].
//!
//! ```
//! use internlm_agent::fetch::{FetchConfig, Fetcher};
//! use internlm_agent::tool::Tool;
//! use internlm_agent::tools::web::openapi::{OpenApiConfig, tools};
//!
//! let document = serde_json::json!({
//!     "openapi": "3.1.0",
//!     "servers": [{"url": "https://weather.example/v1"}],
//!     "paths": {"/now/{city}": {"get": {
//!         "operationId": "now",
//!         "summary": "The weather of a city.",
//!         "parameters": [{"name": "city", "in": "path", "required": true, "schema": {"type": "string"}}],
//!     }}},
//! });
//! let made = tools(&document, &OpenApiConfig::default(), &Fetcher::new(FetchConfig::default()))?;
//! assert_eq!(made.tools[0].spec().name, "now");
//! assert_eq!(made.tools[0].spec().parameters["required"][0], "city");
//! # Ok::<(), internlm_agent::tools::web::openapi::OpenApiError>(())
//! ```

mod call;
mod read;
mod schema;

use crate::fetch::{FetchFault, FetchMethod, FetchRequest, Fetcher};

pub use call::OpenApiTool;
use serde_json::Value;

/// How much of a document becomes tools.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenApiConfig {
    /// The server, in place of the first one that the document names.
    pub server: Option<String>,
    /// The methods whose operations become tools.
    pub methods: Vec<FetchMethod>,
    /// Headers of every request, such as a key, which the model is told nothing of.
    pub headers: Vec<(String, String)>,
    /// Most operations.
    pub max_operations: usize,
    /// Most levels of a schema; what is deeper may be anything.
    pub max_depth: usize,
    /// Most values that the schemas of one operation are made of when references are written out.
    pub max_values: usize,
    /// Most bytes of a document.
    pub max_document: usize,
    /// Most characters of an answer that are told.
    pub max_chars: usize,
}

impl Default for OpenApiConfig {
    fn default() -> Self {
        Self {
            server: None,
            methods: FetchMethod::ALL.to_vec(),
            headers: Vec::new(),
            max_operations: 64,
            max_depth: 8,
            max_values: 2_000,
            max_document: 2 << 20,
            max_chars: 20_000,
        }
    }
}

impl std::fmt::Debug for OpenApiConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers may be secrets.
        f.debug_struct("OpenApiConfig")
            .field("server", &self.server)
            .field("methods", &self.methods)
            .finish_non_exhaustive()
    }
}

impl OpenApiConfig {
    /// Sets the server.
    #[must_use]
    pub fn with_server(mut self, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self
    }

    /// Sets the methods whose operations become tools.
    #[must_use]
    pub fn with_methods(mut self, methods: impl IntoIterator<Item = FetchMethod>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Adds a header to every request.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the most operations.
    #[must_use]
    pub fn with_max_operations(mut self, max_operations: usize) -> Self {
        self.max_operations = max_operations;
        self
    }

    /// Sets the most levels of a schema.
    #[must_use]
    pub fn with_max_depth(mut self, max_depth: usize) -> Self {
        self.max_depth = max_depth;
        self
    }

    /// Sets the most values of an operation's schemas.
    #[must_use]
    pub fn with_max_values(mut self, max_values: usize) -> Self {
        self.max_values = max_values;
        self
    }

    /// Sets the most characters that are told.
    #[must_use]
    pub fn with_max_chars(mut self, max_chars: usize) -> Self {
        self.max_chars = max_chars;
        self
    }
}

/// Why a document gives no tools.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenApiError {
    /// It could not be loaded.
    #[error(transparent)]
    Fetch(#[from] FetchFault),
    /// The server answered with an error.
    #[error("`{url}` answered with status {status}")]
    Status {
        /// The address of the document.
        url: String,
        /// The status.
        status: u16,
    },
    /// It is longer than allowed.
    #[error("the document has more than {limit} bytes")]
    TooLong {
        /// Most bytes.
        limit: usize,
    },
    /// It is no JSON.
    #[error("the document is no JSON: {what}")]
    Json {
        /// What the parser said.
        what: String,
    },
    /// It is no OpenAPI document of version 3.
    #[error("the document is not of OpenAPI 3: {what}")]
    Document {
        /// What is missing.
        what: String,
    },
    /// There is no server.
    #[error("the document names no server with a full address: `{server}`")]
    Server {
        /// What it names.
        server: String,
    },
    /// It has more operations than allowed.
    #[error("the document has more than {limit} operations")]
    TooMany {
        /// Most operations.
        limit: usize,
    },
}

/// An operation without a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// The operation, such as `POST /upload`.
    pub operation: String,
    /// Why it has none.
    pub why: String,
}

/// What a document gives.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct OpenApiTools {
    /// The tools, in the order of their paths.
    pub tools: Vec<OpenApiTool>,
    /// Operations that need what these tools can't do.
    pub skipped: Vec<Skipped>,
}

/// The tools of a document.
///
/// # Errors
/// See [`OpenApiError`].
pub fn tools(
    document: &Value,
    config: &OpenApiConfig,
    fetcher: &Fetcher,
) -> Result<OpenApiTools, OpenApiError> {
    read::tools(document, None, config, fetcher)
}

/// The tools of a document at an address. A server that the document names by a path is on the same host.
///
/// # Errors
/// See [`OpenApiError`].
pub fn load(
    url: &str,
    config: &OpenApiConfig,
    fetcher: &Fetcher,
) -> Result<OpenApiTools, OpenApiError> {
    let request = FetchRequest::get(url).with_max_bytes(config.max_document);
    let page = fetcher.send(&request)?;
    if !(200..300).contains(&page.status) {
        return Err(OpenApiError::Status {
            url: page.url,
            status: page.status,
        });
    }
    if page.truncated {
        return Err(OpenApiError::TooLong {
            limit: config.max_document,
        });
    }
    let document: Value =
        serde_json::from_slice(&page.body).map_err(|error| OpenApiError::Json {
            what: error.to_string(),
        })?;
    read::tools(&document, Some(&page.url), config, fetcher)
}
