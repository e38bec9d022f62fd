//! Files that code left, on their way out.

use std::path::Path;

use super::CodeConfig;
use crate::sandbox::{FileEntry, Folder};
use crate::tool::{Media, MediaSource, OutputPart, ToolError, ToolOutput};

/// Adds files to a result, as many as the limits let through; all are named in its text.
pub(super) fn hand_out(
    mut output: ToolOutput,
    folder: &Folder,
    files: &[FileEntry],
    config: &CodeConfig,
) -> Result<ToolOutput, ToolError> {
    if files.is_empty() {
        return Ok(output);
    }
    let mut left = config.files_bytes;
    let (mut named, mut parts) = (Vec::new(), Vec::new());
    for file in files {
        // What its name is outside, where a name is text.
        let name = file.path.to_string_lossy().into_owned();
        // It is someone else's folder still: a file may be gone, or longer than it was.
        let bytes = match parts.len() < config.files {
            true => folder.read(&file.path, left).ok(),
            false => None,
        };
        let Some(bytes) = bytes else {
            named.push(format!("{name} ({} bytes, not handed out)", file.size));
            continue;
        };
        left -= bytes.len();
        named.push(format!("{name} ({} bytes)", bytes.len()));
        let source = match &config.save_to {
            Some(root) => {
                root.write(&name, &bytes)?;
                MediaSource::Path(root.path().join(&name))
            }
            None => MediaSource::Bytes(bytes),
        };
        parts.push(part(&file.path, source));
    }
    const SHOWN: usize = 50;
    let more = named.len().saturating_sub(SHOWN);
    named.truncate(SHOWN);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    output = output.with(OutputPart::Text {
        text: format!("[files: {}]", named.join(", ")),
    });
    output.parts.extend(parts);
    Ok(output)
}

/// A file as what its name says that it is.
fn part(path: &Path, source: MediaSource) -> OutputPart {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let mime = match extension.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "flac" => "audio/flac",
        "txt" | "md" | "log" | "py" => "text/plain",
        "csv" => "text/csv",
        "html" => "text/html",
        "json" => "application/json",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    };
    let media = Media {
        mime: mime.to_owned(),
        source,
    };
    match mime.split('/').next() {
        Some("image") => OutputPart::Image { image: media },
        Some("audio") => OutputPart::Audio { audio: media },
        _ => OutputPart::File { file: media },
    }
}
