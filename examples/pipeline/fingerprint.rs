//! Whether files are still what they were.

use std::path::Path;

use internlm_examples::{Error, Result};

/// A line for each file below a path: its name, its size, and when it was written. Nothing where there is no such path.
///
/// Contents are not read: checkpoints have gigabytes. Files that a loader keeps beside a model (`.prepared`) are none of
/// its own.
///
/// # Errors
/// A folder can't be listed.
pub(crate) fn fingerprint(path: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    gather(path, "", &mut lines)?;
    lines.sort();
    Ok(lines)
}

fn gather(path: &Path, name: &str, lines: &mut Vec<String>) -> Result<()> {
    let Ok(metadata) = std::fs::metadata(path) else {
        return Ok(());
    };
    if metadata.is_dir() {
        let io = || Error::io(path.display().to_string());
        for entry in std::fs::read_dir(path).map_err(io())? {
            let entry = entry.map_err(io())?;
            let kind = entry.file_type().map_err(io())?;
            if kind.is_symlink() && entry.path().is_dir() {
                // It may lead back to where it is.
                continue;
            }
            let below = format!("{name}/{}", entry.file_name().to_string_lossy());
            gather(&entry.path(), &below, lines)?;
        }
    } else if path.extension().is_none_or(|ending| ending != "prepared") {
        let written = metadata.modified().ok();
        let since = written.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let nanos = since.unwrap_or_default().as_nanos();
        lines.push(format!(
            "{name} {} bytes, written at {nanos}",
            metadata.len()
        ));
    }
    Ok(())
}
