//! Text of documents below a folder: plain text, Markdown, HTML, PDF, Word (`.docx`) and slides (`.pptx`).
//!
//! What a document is follows from its first bytes, then from its name. All readers are bounded: a file by its bytes,
//! what it unpacks to by a budget, a text by its length.
//!
//! ```
//! use internlm_agent::tool::{ToolContext, ToolSet};
//! use internlm_agent::tools::Root;
//! use internlm_agent::tools::documents::{DocumentConfig, read_document};
//! # let folder = std::env::temp_dir().join(format!("documents-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # std::fs::write(folder.join("note.md"), "# Note")?;
//!
//! let root = Root::open(&folder)?;
//! let tools = ToolSet::new().with(read_document(&root, DocumentConfig::default()))?;
//! let output = tools.call("read_document", &serde_json::json!({"path": "note.md"}), &ToolContext::default())?;
//! assert_eq!(output.to_text(), "# Note");
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod office;
mod pdf;
mod pdf_pages;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Root;
use super::catalog::CatalogEntry;
use super::charset::decode;
use super::html::page_text;
use super::passage::Passage;
use crate::tool::{ToolContext, ToolError, TypedTool};

/// Limits of reading documents.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentConfig {
    /// Most bytes of a file.
    pub max_bytes: u64,
    /// Most bytes that all streams or parts of a document unpack to.
    pub max_unpacked: usize,
    /// Most bytes of the text of a document.
    pub max_text: usize,
    /// Most pages of a PDF that a call reads.
    pub max_pages: usize,
    /// Most characters that a call tells.
    pub max_chars: usize,
}

impl Default for DocumentConfig {
    fn default() -> Self {
        Self {
            max_bytes: 32 << 20,
            max_unpacked: 128 << 20,
            max_text: 8 << 20,
            max_pages: 200,
            max_chars: 20_000,
        }
    }
}

impl DocumentConfig {
    /// Sets the most bytes of a file.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets the most bytes that a document unpacks to.
    #[must_use]
    pub fn with_max_unpacked(mut self, max_unpacked: usize) -> Self {
        self.max_unpacked = max_unpacked;
        self
    }

    /// Sets the most bytes of a text.
    #[must_use]
    pub fn with_max_text(mut self, max_text: usize) -> Self {
        self.max_text = max_text;
        self
    }

    /// Sets the most pages that a call reads.
    #[must_use]
    pub fn with_max_pages(mut self, max_pages: usize) -> Self {
        self.max_pages = max_pages;
        self
    }

    /// Sets the most characters that a call tells.
    #[must_use]
    pub fn with_max_chars(mut self, max_chars: usize) -> Self {
        self.max_chars = max_chars;
        self
    }
}

/// Reads the text of a document: text, Markdown, HTML, PDF, Word (docx) or PowerPoint (pptx).
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ReadDocument {
    /// The path of the document.
    pub path: String,
    /// The pages of a PDF or the slides of a presentation, such as `3` or `2-5`; without it, the first ones.
    #[serde(default)]
    pub pages: Option<String>,
    /// The first character to tell, to go on in a long text.
    #[serde(default)]
    pub start: usize,
    /// How many characters to tell, at most.
    #[serde(default)]
    pub max_chars: Option<usize>,
}

/// Pages that are wanted, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    first: usize,
    last: usize,
}

/// A text that was read, with what else a reader should know.
#[derive(Debug, Default)]
pub(crate) struct ReadText {
    pub(crate) text: String,
    /// Said before the text.
    pub(crate) head: String,
    /// Said behind it.
    pub(crate) note: String,
}

const NAME: &str = "read_document";

fn wrong(what: impl Into<String>) -> ToolError {
    ToolError::Arguments {
        tool: NAME.to_owned(),
        what: what.into(),
    }
}

/// The tool `read_document`.
pub fn read_document(root: &Root, config: DocumentConfig) -> TypedTool {
    let root = root.clone();
    TypedTool::with_context(
        NAME,
        move |arguments: ReadDocument, context: &ToolContext| {
            let max_chars = arguments.max_chars.unwrap_or(config.max_chars);
            if max_chars == 0 {
                return Err(wrong("`max_chars` must be at least 1"));
            }
            let pages = arguments.pages.as_deref().map(parse_pages).transpose()?;
            let bytes = root.read(&arguments.path, config.max_bytes)?;
            let read = text_of(&bytes, &arguments.path, pages, &config, context)?;
            let passage =
                Passage::of(&read.text, arguments.start, max_chars.min(config.max_chars))?;
            let mut told = String::new();
            if arguments.start == 0 && !read.head.is_empty() {
                told = format!("{}\n\n", read.head);
            }
            told.push_str(&passage.told());
            if passage.next.is_none() && !read.note.is_empty() {
                told.push_str(&format!("\n\n[{}]", read.note));
            }
            Ok(told)
        },
    )
}

fn parse_pages(text: &str) -> Result<Pages, ToolError> {
    let number = |text: &str| {
        text.trim()
            .parse::<usize>()
            .ok()
            .filter(|number| *number > 0)
    };
    let pages = match text.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)),
        None => number(text).map(|page| (page, page)),
    };
    match pages {
        Some((first, last)) if first <= last => Ok(Pages { first, last }),
        _ => Err(wrong("`pages` must be like `3` or `2-5`, from 1")),
    }
}

fn text_of(
    bytes: &[u8],
    path: &str,
    pages: Option<Pages>,
    config: &DocumentConfig,
    context: &ToolContext,
) -> Result<ReadText, ToolError> {
    // Some programs write a few bytes before the mark (ISO 32000-1, implementation note 13).
    let head = &bytes[..bytes.len().min(1024)];
    if head.windows(5).any(|window| window == b"%PDF-") {
        return pdf_pages::read(bytes, pages, config, context);
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return office::read(bytes, pages, config, context);
    }
    if pages.is_some() {
        return Err(wrong("`pages` is for PDF and presentations; use `start`"));
    }
    let ending = path
        .rsplit_once('.')
        .map_or("", |(_, ending)| ending)
        .to_lowercase();
    if bytes.starts_with(b"\xd0\xcf\x11\xe0") {
        return Err(ToolError::failed(format!(
            "`{path}` is in the format of Office before 2007, which this tool cannot read"
        )));
    }
    let marked = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    if !marked && head.contains(&0) {
        return Err(ToolError::failed(format!(
            "`{path}` is no text, and none of PDF, docx and pptx"
        )));
    }
    let text = decode(bytes, None);
    if matches!(ending.as_str(), "html" | "htm" | "xhtml") {
        let page = page_text(&text, config.max_text, &|to| Some(to.to_owned()));
        let head = match page.title.is_empty() {
            true => String::new(),
            false => format!("Title: {}", page.title),
        };
        return Ok(limited(page.text, head, page.truncated, config));
    }
    Ok(limited(text, String::new(), false, config))
}

/// The text of a PDF that is no file.
#[cfg(feature = "fetch")]
pub(super) fn text_of_pdf(bytes: &[u8], context: &ToolContext) -> Result<ReadText, ToolError> {
    pdf_pages::read(bytes, None, &DocumentConfig::default(), context)
}

fn limited(mut text: String, head: String, cut: bool, config: &DocumentConfig) -> ReadText {
    let longer = cut || text.len() > config.max_text;
    text.truncate(text.floor_char_boundary(config.max_text));
    let note = match longer {
        true => "the document is longer than what is read of one".to_owned(),
        false => String::new(),
    };
    ReadText { text, head, note }
}

/// What the catalog says of the tool.
pub(super) fn entries() -> Vec<CatalogEntry> {
    let config = DocumentConfig::default();
    let limits = format!(
        "files of {} MiB that unpack to {} MiB and have {} MiB of text; {} pages of a PDF and {} characters a call.",
        config.max_bytes >> 20,
        config.max_unpacked >> 20,
        config.max_text >> 20,
        config.max_pages,
        config.max_chars
    );
    let entry = CatalogEntry::of::<ReadDocument>(NAME, "tools::documents::read_document", limits);
    vec![entry.with_feature("documents")]
}
