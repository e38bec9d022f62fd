//! What servers of these tools answer.

use serde_json::Value;

use crate::fetch::{FetchRequest, Fetcher, Page};
use crate::tool::{ToolContext, ToolError};
use crate::tools::charset::decode;

/// Most characters that are told of an answer that is an error.
const TOLD: usize = 400;

/// Sends a request within the time that the call has.
pub(in crate::tools) fn send(
    fetcher: &Fetcher,
    mut request: FetchRequest,
    context: &ToolContext,
) -> Result<Page, ToolError> {
    context.check()?;
    if let Some(left) = context.remaining() {
        let own = request.timeout.unwrap_or(fetcher.config().timeout);
        request.timeout = Some(own.min(left));
    }
    Ok(fetcher.send(&request)?)
}

/// The same, for an answer that is whole and no error.
pub(in crate::tools) fn ask(
    fetcher: &Fetcher,
    request: FetchRequest,
    context: &ToolContext,
) -> Result<Page, ToolError> {
    let page = send(fetcher, request, context)?;
    if !(200..300).contains(&page.status) {
        return Err(refused(&page));
    }
    match page.truncated {
        true => Err(ToolError::Limit {
            what: format!(
                "the answer of `{}` has more than {} bytes",
                host(&page.url),
                page.body.len()
            ),
        }),
        false => Ok(page),
    }
}

/// The data of an answer.
pub(in crate::tools) fn json(page: &Page) -> Result<Value, ToolError> {
    serde_json::from_slice(&page.body).map_err(|error| {
        ToolError::failed(format!(
            "the answer of `{}` is no JSON: {error}",
            host(&page.url)
        ))
    })
}

/// An answer whose status is an error.
pub(in crate::tools) fn refused(page: &Page) -> ToolError {
    let text = decode(&page.body, page.content_type.as_deref());
    let is_html = page
        .content_type
        .as_deref()
        .is_some_and(|kind| kind.to_lowercase().contains("html"));
    let text = match is_html {
        true => crate::tools::html::page_text(&text, 4 * TOLD, &|_| None).text,
        false => text,
    };
    let told = cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), TOLD);
    let colon = if told.is_empty() { "" } else { ": " };
    ToolError::failed(format!(
        "`{}` answered with status {}{colon}{told}",
        host(&page.url),
        page.status
    ))
}

/// A text with at most this many characters.
pub(in crate::tools) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The host of an address; its query may hold more than the model should read.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}

/// Arguments that fit the schema but not the tool.
pub(in crate::tools) fn wrong(tool: &str, what: impl Into<String>) -> ToolError {
    ToolError::Arguments {
        tool: tool.to_owned(),
        what: what.into(),
    }
}

/// A text to search for, neither empty nor too long.
pub(in crate::tools) fn query<'a>(
    tool: &str,
    query: &'a str,
    max: usize,
) -> Result<&'a str, ToolError> {
    let query = query.trim();
    if query.is_empty() {
        return Err(wrong(tool, "`query` is empty"));
    }
    let count = query.chars().count();
    match count > max {
        true => Err(wrong(
            tool,
            format!("`query` has {count} characters; {max} are allowed"),
        )),
        false => Ok(query),
    }
}
