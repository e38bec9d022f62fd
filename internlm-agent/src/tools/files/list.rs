//! Listing a folder.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::Deserialize;

use super::FileLimits;
use super::glob::glob;
use crate::tool::{ToolContext, ToolError, TypedTool};
use crate::tools::Root;
use crate::tools::root::{Kind, WalkLimits};

/// Lists files and folders, with the sizes of files. With a pattern it finds files by name, in all folders.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ListFiles {
    /// The folder to look in; the topmost one if not given.
    #[serde(default)]
    pub folder: Option<String>,
    /// Which files, such as `*.csv` or `src/**/*.rs`; all if not given.
    #[serde(default)]
    pub pattern: Option<String>,
    /// How deep to look; 1, or with a pattern any depth, if not given.
    #[serde(default)]
    pub depth: Option<NonZeroUsize>,
    /// Whether to list names that begin with a dot.
    #[serde(default)]
    pub hidden: Option<bool>,
}

/// The tool `list_files`.
pub fn list_files(root: &Root, limits: FileLimits) -> TypedTool {
    let root = root.clone();
    TypedTool::with_context(
        "list_files",
        move |arguments: ListFiles, context: &ToolContext| list(&root, limits, &arguments, context),
    )
}

fn list(
    root: &Root,
    limits: FileLimits,
    arguments: &ListFiles,
    context: &ToolContext,
) -> Result<String, ToolError> {
    let pattern = arguments.pattern.as_deref();
    let pattern = pattern
        .map(|pattern| glob("list_files", pattern))
        .transpose()?;
    let usual_depth = if pattern.is_some() { usize::MAX } else { 1 };
    let walk = WalkLimits {
        depth: arguments.depth.map_or(usual_depth, NonZeroUsize::get),
        visits: limits.visits,
        hidden: arguments.hidden.unwrap_or(false),
    };
    let folder = arguments.folder.as_deref().unwrap_or_default();
    let prefix = super::search::prefix(folder);
    let mut lines = Vec::new();
    let mut is_cut = false;
    let is_all = root.walk(folder, walk, context, &mut |visit| {
        let inner = visit.path.strip_prefix(&prefix).unwrap_or(&visit.path);
        if pattern
            .as_ref()
            .is_some_and(|pattern| visit.kind == Kind::Folder || !pattern.is_match(inner))
        {
            return Ok(true);
        }
        if lines.len() == limits.listed {
            is_cut = true;
            return Ok(false);
        }
        lines.push(match visit.kind {
            Kind::File => format!("{} ({} bytes)", visit.path, visit.bytes),
            Kind::Folder => format!("{}/", visit.path),
            Kind::Link => format!("{} (a link)", visit.path),
            Kind::Other => format!("{} (no regular file)", visit.path),
        });
        Ok(true)
    })?;
    if lines.is_empty() && is_all {
        return Ok(match pattern {
            None => "[the folder is empty]".to_owned(),
            Some(_) => "[no file has such a name]".to_owned(),
        });
    }
    if is_cut {
        lines.push(format!(
            "[there are more than {}; a pattern or a folder narrows them]",
            limits.listed
        ));
    } else if !is_all {
        lines.push(format!(
            "[only the first {} files and folders were looked at]",
            limits.visits
        ));
    }
    Ok(lines.join("\n"))
}
