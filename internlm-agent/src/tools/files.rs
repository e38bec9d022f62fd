//! Reading, listing, searching, writing and editing the files below a folder.
//!
//! ```
//! use internlm_agent::tool::{Tool, ToolContext};
//! use internlm_agent::tools::Root;
//! use internlm_agent::tools::files::{FileLimits, read_file};
//! # let folder = std::env::temp_dir().join(format!("files-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # std::fs::write(folder.join("a.txt"), "one\ntwo\nthree\n")?;
//!
//! let tool = read_file(&Root::open(&folder)?, FileLimits::default());
//! let arguments = serde_json::json!({"path": "a.txt", "first_line": 2, "lines": 1});
//! let output = tool.call(&arguments, &ToolContext::default())?;
//! assert_eq!(output.to_text(), "two\n[more follows, from line 3]");
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod change;
mod glob;
mod list;
mod read;
mod search;

pub use change::{EditFile, WriteFile, edit_file, write_file};
pub use list::{ListFiles, list_files};
pub use read::{ReadFile, read_file};
pub use search::{SearchFiles, search_files};

use super::catalog::{CatalogEntry, bytes};
use super::root::Root;
use crate::tool::TypedTool;

/// Limits of the tools for files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileLimits {
    /// Most bytes of a file that `read_file` gives at a time.
    pub read_bytes: usize,
    /// Most bytes of a file that is read from, searched or edited.
    pub file_bytes: u64,
    /// Most bytes of a file that is written.
    pub write_bytes: usize,
    /// Most files and folders that `list_files` names.
    pub listed: usize,
    /// Most lines that `search_files` gives.
    pub matches: usize,
    /// Most bytes of such a line.
    pub line_bytes: usize,
    /// Most bytes of all files together that `search_files` looks through.
    pub searched_bytes: u64,
    /// Most files and folders that either looks at.
    pub visits: usize,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            read_bytes: 12 << 10,
            file_bytes: 16 << 20,
            write_bytes: 1 << 20,
            listed: 200,
            matches: 50,
            line_bytes: 300,
            searched_bytes: 256 << 20,
            visits: 100_000,
        }
    }
}

impl FileLimits {
    /// Sets the most bytes that are read at a time.
    #[must_use]
    pub fn with_read_bytes(mut self, bytes: usize) -> Self {
        self.read_bytes = bytes;
        self
    }

    /// Sets the most bytes of a file that is read from.
    #[must_use]
    pub fn with_file_bytes(mut self, bytes: u64) -> Self {
        self.file_bytes = bytes;
        self
    }

    /// Sets the most bytes of a file that is written.
    #[must_use]
    pub fn with_write_bytes(mut self, bytes: usize) -> Self {
        self.write_bytes = bytes;
        self
    }

    /// Sets the most files and folders that are named.
    #[must_use]
    pub fn with_listed(mut self, listed: usize) -> Self {
        self.listed = listed;
        self
    }

    /// Sets the most lines that a search gives.
    #[must_use]
    pub fn with_matches(mut self, matches: usize) -> Self {
        self.matches = matches;
        self
    }

    /// Sets the most bytes of such a line.
    #[must_use]
    pub fn with_line_bytes(mut self, bytes: usize) -> Self {
        self.line_bytes = bytes;
        self
    }

    /// Sets the most bytes that a search looks through.
    #[must_use]
    pub fn with_searched_bytes(mut self, bytes: u64) -> Self {
        self.searched_bytes = bytes;
        self
    }

    /// Sets the most files and folders that are looked at.
    #[must_use]
    pub fn with_visits(mut self, visits: usize) -> Self {
        self.visits = visits;
        self
    }
}

/// The tools that change nothing: `list_files`, `read_file` and `search_files`.
pub fn reading_tools(root: &Root, limits: FileLimits) -> Vec<TypedTool> {
    vec![
        list_files(root, limits),
        read_file(root, limits),
        search_files(root, limits),
    ]
}

/// All tools for files: these and `edit_file` and `write_file`.
pub fn tools(root: &Root, limits: FileLimits) -> Vec<TypedTool> {
    let mut tools = reading_tools(root, limits);
    tools.push(edit_file(root, limits));
    tools.push(write_file(root, limits));
    tools
}

/// What the catalog says of them.
pub(super) fn entries() -> Vec<CatalogEntry> {
    let FileLimits {
        read_bytes,
        file_bytes,
        write_bytes,
        listed,
        matches,
        line_bytes,
        searched_bytes,
        visits,
    } = FileLimits::default();
    let file = bytes(file_bytes);
    let reads = format!(
        "{} at a time, of files of at most {file}.",
        bytes(read_bytes as u64)
    );
    let lists = format!("{listed} names; {visits} files and folders are looked at.");
    let searches = format!(
        "{matches} lines of {line_bytes} bytes each; {visits} files and folders, {file} of a file and {} of all \
         together. An expression takes linear time.",
        bytes(searched_bytes)
    );
    let writes = format!("files of {}.", bytes(write_bytes as u64));
    vec![
        CatalogEntry::of::<ListFiles>("list_files", "tools::files::list_files", lists)
            .in_default_set(),
        CatalogEntry::of::<ReadFile>("read_file", "tools::files::read_file", reads)
            .in_default_set(),
        CatalogEntry::of::<SearchFiles>("search_files", "tools::files::search_files", searches)
            .in_default_set(),
        CatalogEntry::of::<EditFile>("edit_file", "tools::files::edit_file", writes.clone()),
        CatalogEntry::of::<WriteFile>("write_file", "tools::files::write_file", writes),
    ]
}
