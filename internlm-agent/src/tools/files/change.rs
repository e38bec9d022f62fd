//! Writing and editing.

use schemars::JsonSchema;
use serde::Deserialize;

use super::FileLimits;
use crate::tool::{ToolError, TypedTool, tool};
use crate::tools::Root;

/// Writes a text file, in place of one of this name, and makes the folders above it.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct WriteFile {
    /// The file, such as `notes/a.txt`.
    pub path: String,
    /// All of its text.
    pub content: String,
}

/// Replaces a piece of a text file by another. The piece must occur once, so give enough of the text around it.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct EditFile {
    /// The file.
    pub path: String,
    /// The piece that is there now, exactly, with its spaces and line ends.
    pub old: String,
    /// What is to be there.
    pub new: String,
    /// Whether to replace it wherever it occurs.
    #[serde(default)]
    pub all: Option<bool>,
}

/// The tool `write_file`.
pub fn write_file(root: &Root, limits: FileLimits) -> TypedTool {
    let root = root.clone();
    tool("write_file", move |arguments: WriteFile| {
        let WriteFile { path, content } = arguments;
        check_length(&path, content.len(), limits)?;
        root.write(&path, content.as_bytes())?;
        Ok(format!("`{path}` is written, {} bytes", content.len()))
    })
}

/// The tool `edit_file`.
pub fn edit_file(root: &Root, limits: FileLimits) -> TypedTool {
    let root = root.clone();
    tool("edit_file", move |arguments: EditFile| {
        edit(&root, limits, &arguments)
    })
}

fn edit(root: &Root, limits: FileLimits, arguments: &EditFile) -> Result<String, ToolError> {
    let EditFile {
        path,
        old,
        new,
        all,
    } = arguments;
    let all = all.unwrap_or(false);
    let wrong = |what: &str| ToolError::Arguments {
        tool: "edit_file".to_owned(),
        what: what.to_owned(),
    };
    if old.is_empty() {
        return Err(wrong("`old` is empty; `write_file` writes a whole file"));
    }
    if old == new {
        return Err(wrong("`old` and `new` are the same"));
    }
    // Nobody changes the file between reading and writing.
    let _alone = root.changing();
    let bytes = root.read(path, limits.write_bytes as u64)?;
    let text = String::from_utf8(bytes).map_err(|_| format!("`{path}` is no text in UTF-8"))?;
    let places: Vec<usize> = text.match_indices(old.as_str()).map(|(at, _)| at).collect();
    match places.as_slice() {
        [] if text.contains("\r\n") && text.contains(&old.replace('\n', "\r\n")) => {
            return Err(
                format!("`old` does not occur in `{path}`, whose lines end with \\r\\n").into(),
            );
        }
        [] => {
            return Err(
                format!("`old` does not occur in `{path}`; read it to see what does").into(),
            );
        }
        [_] => {}
        places if all => {
            let grown = new.len().saturating_sub(old.len());
            // Before anything of that size is made.
            check_length(
                path,
                text.len()
                    .saturating_add(grown.saturating_mul(places.len())),
                limits,
            )?;
        }
        places => return Err(ambiguous(path, &text, places)),
    }
    let edited = text.replace(old.as_str(), new);
    check_length(path, edited.len(), limits)?;
    root.replace(path, edited.as_bytes())?;
    let times = match places.len() {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    Ok(format!("replaced {times} in `{path}`"))
}

/// Where a piece occurs that should occur once.
fn ambiguous(path: &str, text: &str, places: &[usize]) -> ToolError {
    const SHOWN: usize = 5;
    let (mut line, mut from) = (1, 0);
    let mut lines = Vec::new();
    for &at in places.iter().take(SHOWN) {
        line += text[from..at].matches('\n').count();
        from = at;
        lines.push(line.to_string());
    }
    let more = if places.len() > SHOWN { ", …" } else { "" };
    format!(
        "`old` occurs {} times in `{path}`, in lines {}{more}: give more of the text around it, or set `all`",
        places.len(),
        lines.join(", ")
    )
    .into()
}

fn check_length(path: &str, bytes: usize, limits: FileLimits) -> Result<(), ToolError> {
    match bytes > limits.write_bytes {
        true => Err(ToolError::Limit {
            what: format!(
                "`{path}` would have {bytes} bytes, more than {}",
                limits.write_bytes
            ),
        }),
        false => Ok(()),
    }
}
