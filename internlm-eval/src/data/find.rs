//! Where a data file lies below the folder that the user names.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What a search found and where it looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The files of the first pattern that has any, in order of their names.
    pub files: Vec<PathBuf>,
    /// Patterns that were tried before, below the folder.
    pub tried: Vec<PathBuf>,
}

/// Searches a folder for the first pattern with files. A pattern is a relative path; in its last part one `*` stands
/// for anything, so that `test-*.parquet` finds all parts of a split.
///
/// # Errors
/// A folder that exists and cannot be listed.
pub fn find(folder: &Path, patterns: &[String]) -> Result<Found> {
    let mut found = Found::default();
    for pattern in patterns {
        let path = folder.join(pattern);
        found.files = matching(&path)?;
        if !found.files.is_empty() {
            break;
        }
        found.tried.push(path);
    }
    Ok(found)
}

fn matching(path: &Path) -> Result<Vec<PathBuf>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let name = name.to_string_lossy();
    let Some((front, back)) = name.split_once('*') else {
        return Ok(if path.is_file() {
            vec![path.to_owned()]
        } else {
            Vec::new()
        });
    };
    if !parent.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(parent).map_err(Error::io(parent))? {
        let path = entry.map_err(Error::io(parent))?.path();
        let fits = path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.len() >= front.len() + back.len()
                && name.starts_with(front)
                && name.ends_with(back)
        });
        if fits && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
