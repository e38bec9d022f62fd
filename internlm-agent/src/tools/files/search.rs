//! Searching for text.

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::Deserialize;

use super::FileLimits;
use super::glob::glob;
use crate::tool::{ToolContext, ToolError, TypedTool};
use crate::tools::Root;
use crate::tools::root::{Kind, WalkLimits};

/// Most bytes of memory of an expression.
const EXPRESSION_BYTES: usize = 1 << 20;

/// Finds lines of text files that have a text, in all folders; gives file, number and line.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SearchFiles {
    /// What to find.
    pub text: String,
    /// Whether it is a regular expression.
    #[serde(default)]
    pub regex: Option<bool>,
    /// Whether `A` and `a` are the same.
    #[serde(default)]
    pub ignore_case: Option<bool>,
    /// The folder to look in; the topmost one if not given.
    #[serde(default)]
    pub folder: Option<String>,
    /// Which files, such as `*.md`; all if not given.
    #[serde(default)]
    pub pattern: Option<String>,
}

/// The tool `search_files`.
pub fn search_files(root: &Root, limits: FileLimits) -> TypedTool {
    let root = root.clone();
    TypedTool::with_context(
        "search_files",
        move |arguments: SearchFiles, context: &ToolContext| {
            search(&root, limits, &arguments, context)
        },
    )
}

fn search(
    root: &Root,
    limits: FileLimits,
    arguments: &SearchFiles,
    context: &ToolContext,
) -> Result<String, ToolError> {
    let wanted = expression(arguments)?;
    let pattern = arguments.pattern.as_deref();
    let pattern = pattern
        .map(|pattern| glob("search_files", pattern))
        .transpose()?;
    let walk = WalkLimits {
        depth: usize::MAX,
        visits: limits.visits,
        hidden: false,
    };
    let folder = arguments.folder.as_deref().unwrap_or_default();
    let prefix = prefix(folder);
    let mut lines = Vec::new();
    let mut left = limits.searched_bytes;
    let (mut is_cut, mut too_large, mut unread) = (false, 0_usize, 0_usize);
    let is_all = root.walk(folder, walk, context, &mut |visit| {
        context.check()?;
        let inner = visit.path.strip_prefix(&prefix).unwrap_or(&visit.path);
        if visit.kind != Kind::File
            || pattern
                .as_ref()
                .is_some_and(|pattern| !pattern.is_match(inner))
        {
            return Ok(true);
        }
        if visit.bytes > limits.file_bytes {
            too_large += 1;
            return Ok(true);
        }
        if visit.bytes > left {
            return Ok(false);
        }
        let bytes = match root.read(&visit.path, visit.bytes) {
            Ok(bytes) => bytes,
            // One that may not be read, or that changes, does not keep others from being searched.
            Err(_) => {
                unread += 1;
                return Ok(true);
            }
        };
        left -= bytes.len() as u64;
        if bytes.iter().take(8 << 10).any(|&byte| byte == 0) {
            return Ok(true);
        }
        for (number, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            let Some(found) = wanted.find(line) else {
                continue;
            };
            if lines.len() == limits.matches {
                is_cut = true;
                return Ok(false);
            }
            let shown = window(line, found.start(), limits.line_bytes);
            lines.push(format!("{}:{}: {shown}", visit.path, number + 1));
        }
        Ok(true)
    })?;
    if lines.is_empty() {
        lines.push("[no line has it]".to_owned());
    }
    if is_cut {
        lines.push(format!(
            "[there are more than {} such lines]",
            limits.matches
        ));
    } else if !is_all {
        lines.push(
            "[there is more than could be searched: a folder or a pattern narrows it]".to_owned(),
        );
    }
    if too_large > 0 {
        lines.push(format!(
            "[not searched, for they have more than {} bytes: {too_large} files]",
            limits.file_bytes
        ));
    }
    if unread > 0 {
        lines.push(format!("[could not be read: {unread} files]"));
    }
    Ok(lines.join("\n"))
}

fn expression(arguments: &SearchFiles) -> Result<Regex, ToolError> {
    let wrong = |what: String| ToolError::Arguments {
        tool: "search_files".to_owned(),
        what: format!("`text`: {what}"),
    };
    if arguments.text.is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    let text = match arguments.regex.unwrap_or(false) {
        true => arguments.text.clone(),
        false => regex::escape(&arguments.text),
    };
    RegexBuilder::new(&text)
        .case_insensitive(arguments.ignore_case.unwrap_or(false))
        .size_limit(EXPRESSION_BYTES)
        .dfa_size_limit(EXPRESSION_BYTES)
        .build()
        .map_err(|error| wrong(error.to_string()))
}

/// What the paths in a folder begin with.
pub(super) fn prefix(folder: &str) -> String {
    match folder.trim().trim_start_matches("./").trim_end_matches('/') {
        "" | "." => String::new(),
        folder => format!("{folder}/"),
    }
}

/// The part of a line around a place.
fn window(line: &str, at: usize, max_bytes: usize) -> String {
    if line.len() <= max_bytes {
        return line.to_owned();
    }
    let begin = line.floor_char_boundary(at.saturating_sub(max_bytes / 4));
    let end = line.floor_char_boundary(begin.saturating_add(max_bytes));
    let before = if begin > 0 { "…" } else { "" };
    let after = if end < line.len() { "…" } else { "" };
    format!("{before}{}{after}", &line[begin..end])
}
