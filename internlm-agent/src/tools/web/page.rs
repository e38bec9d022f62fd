//! A page of the web as text; with the feature `documents` a PDF, too.

use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{refused, send, wrong};
use crate::fetch::{FetchRequest, Fetcher, Page, resolve};
use crate::tool::{ToolContext, ToolError, TypedTool};
use crate::tools::charset::decode;
use crate::tools::html::page_text;
use crate::tools::passage::Passage;

/// How much of a page is told. The bytes that are loaded are the [`Fetcher`]'s matter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageConfig {
    /// Most characters a call.
    pub max_chars: usize,
    /// Most bytes of the text that a page becomes.
    pub max_text: usize,
}

impl Default for PageConfig {
    fn default() -> Self {
        Self {
            max_chars: 20_000,
            max_text: 4 << 20,
        }
    }
}

impl PageConfig {
    /// Sets the most characters a call.
    #[must_use]
    pub fn with_max_chars(mut self, max_chars: usize) -> Self {
        self.max_chars = max_chars;
        self
    }

    /// Sets the most bytes of text.
    #[must_use]
    pub fn with_max_text(mut self, max_text: usize) -> Self {
        self.max_text = max_text;
        self
    }
}

/// Reads a page of the web. HTML comes as Markdown with its links, other text as it is.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct FetchPage {
    /// The address, beginning with http:// or https://.
    pub url: String,
    /// The first character to tell, to go on in a long page.
    #[serde(default)]
    pub start: usize,
    /// How many characters to tell, at most.
    #[serde(default)]
    pub max_chars: Option<usize>,
}

/// The tool `fetch_page`.
pub fn fetch_page(config: PageConfig, fetcher: Fetcher) -> TypedTool {
    const NAME: &str = "fetch_page";
    TypedTool::with_context(NAME, move |arguments: FetchPage, context| {
        let max_chars = arguments.max_chars.unwrap_or(config.max_chars);
        if max_chars == 0 {
            return Err(wrong(NAME, "`max_chars` must be at least 1"));
        }
        let page = send(&fetcher, FetchRequest::get(&arguments.url), context)?;
        if !(200..300).contains(&page.status) {
            return Err(refused(&page));
        }
        let read = text_of(&page, &config, context)?;
        let passage = Passage::of(&read.text, arguments.start, max_chars.min(config.max_chars))?;
        let mut told = String::new();
        if arguments.start == 0 {
            if !read.title.is_empty() {
                told = format!("Title: {}\n", read.title);
            }
            told.push_str(&format!("Address: {}\n\n", page.url));
        }
        told.push_str(&passage.told());
        if passage.next.is_none() && (page.truncated || read.truncated) {
            told.push_str("\n\n[the page is longer than what is read of one]");
        }
        Ok(told)
    })
}

struct Text {
    title: String,
    text: String,
    truncated: bool,
}

fn text_of(page: &Page, config: &PageConfig, context: &ToolContext) -> Result<Text, ToolError> {
    let content_type = page.content_type.as_deref();
    let kind = content_type.unwrap_or_default().split(';').next();
    let kind = kind.unwrap_or_default().trim().to_lowercase();
    if kind == "application/pdf" {
        return pdf(page, context);
    }
    let html = match kind.as_str() {
        "text/html" | "application/xhtml+xml" => true,
        "" | "application/octet-stream" | "text/plain" => {
            if page.body.iter().take(4096).any(|&byte| byte == 0) && !has_mark(&page.body) {
                return Err(not_text("bytes that are no text"));
            }
            kind.is_empty() && looks_like_html(&page.body)
        }
        kind if is_text(kind) => false,
        other => return Err(not_text(&format!("`{}`", super::answer::cut(other, 80)))),
    };
    let text = decode(&page.body, content_type);
    Ok(match html {
        true => {
            let read = page_text(&text, config.max_text, &|to| resolve(&page.url, to));
            Text {
                title: read.title,
                text: read.text,
                truncated: read.truncated,
            }
        }
        false => {
            let mut text = text;
            let truncated = text.len() > config.max_text;
            text.truncate(text.floor_char_boundary(config.max_text));
            Text {
                title: String::new(),
                text,
                truncated,
            }
        }
    })
}

/// The text of a PDF, with the feature that reads them.
#[cfg(feature = "documents")]
fn pdf(page: &Page, context: &ToolContext) -> Result<Text, ToolError> {
    if page.truncated {
        return Err(ToolError::Limit {
            what: format!("the PDF has more than {} bytes", page.body.len()),
        });
    }
    let read = crate::tools::documents::text_of_pdf(&page.body, context)?;
    Ok(Text {
        title: String::new(),
        truncated: !read.note.is_empty(),
        text: read.text,
    })
}

#[cfg(not(feature = "documents"))]
fn pdf(_: &Page, _: &ToolContext) -> Result<Text, ToolError> {
    Err(not_text("a PDF"))
}

fn not_text(what: &str) -> ToolError {
    ToolError::failed(format!(
        "the page is {what}, which this tool cannot read: it reads HTML and text"
    ))
}

/// Types that are text for a reader, though not called so.
fn is_text(kind: &str) -> bool {
    let known = [
        "application/json",
        "application/xml",
        "application/javascript",
        "application/yaml",
        "application/x-yaml",
        "application/toml",
        "application/x-ndjson",
        "application/sql",
    ];
    kind.starts_with("text/")
        || known.contains(&kind)
        || kind.ends_with("+json")
        || kind.ends_with("+xml") && !kind.starts_with("image/")
}

/// Whether there is a mark of UTF-16, whose text has zeros.
fn has_mark(body: &[u8]) -> bool {
    body.starts_with(b"\xff\xfe") || body.starts_with(b"\xfe\xff")
}

fn looks_like_html(body: &[u8]) -> bool {
    let start = body.trim_ascii_start();
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let begins = |sign: &[u8]| {
        start
            .get(..sign.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(sign))
    };
    [b"<!doctype html".as_slice(), b"<html", b"<head", b"<body"]
        .iter()
        .any(|sign| begins(sign))
}
