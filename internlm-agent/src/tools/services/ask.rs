//! Requests to an OpenAI-compatible endpoint.

use serde_json::Value;

use super::ServiceConfig;
use crate::fetch::{FetchMethod, FetchRequest, Fetcher, Page};
use crate::tool::{ToolContext, ToolError};
use crate::tools::web::answer;

/// An endpoint that is asked for one call.
pub(super) struct Endpoint<'a> {
    pub(super) tool: &'static str,
    pub(super) config: &'a ServiceConfig,
    pub(super) fetcher: &'a Fetcher,
    pub(super) context: &'a ToolContext,
}

impl Endpoint<'_> {
    /// Sends a body and gives the answer, whole and no error.
    pub(super) fn post(&self, path: &str, kind: &str, body: Vec<u8>) -> Result<Page, ToolError> {
        let url = format!("{}/{path}", self.config.endpoint.trim_end_matches('/'));
        let mut request = FetchRequest::new(FetchMethod::Post, url)
            .with_header("Content-Type", kind)?
            .with_body(body)
            .with_timeout(self.config.timeout)
            .with_max_bytes(self.config.max_answer);
        if let Some(key) = &self.config.key {
            request = request.with_header("Authorization", format!("Bearer {key}"))?;
        }
        answer::ask(self.fetcher, request, self.context)
    }

    pub(super) fn post_json(&self, path: &str, body: &Value) -> Result<Page, ToolError> {
        self.post(path, "application/json", serde_json::to_vec(body)?)
    }

    /// A text that is sent, neither empty nor too long.
    pub(super) fn text<'t>(&self, name: &str, text: &'t str) -> Result<&'t str, ToolError> {
        let (text, most) = (text.trim(), self.config.max_chars);
        if text.is_empty() {
            return Err(answer::wrong(self.tool, format!("`{name}` is empty")));
        }
        match text.chars().count() > most {
            true => Err(ToolError::Limit {
                what: format!("`{name}` has more than {most} characters"),
            }),
            false => Ok(text),
        }
    }

    /// A text that is told, cut if it is too long.
    pub(super) fn told(&self, text: &str) -> String {
        answer::cut(text.trim(), self.config.max_chars)
    }
}
