//! Reading text.

use std::io::{BufRead, BufReader, Read};
use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::Deserialize;

use super::FileLimits;
use crate::tool::{ToolContext, ToolError, TypedTool};
use crate::tools::Root;
use crate::tools::root::{fault, too_large};

/// Reads a text file, or some of its lines. A long file comes in pieces; what follows is said.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ReadFile {
    /// The file, such as `notes/a.txt`.
    pub path: String,
    /// The first line to read, counted from 1.
    #[serde(default)]
    pub first_line: Option<NonZeroUsize>,
    /// How many lines to read.
    #[serde(default)]
    pub lines: Option<NonZeroUsize>,
}

/// The tool `read_file`.
pub fn read_file(root: &Root, limits: FileLimits) -> TypedTool {
    let root = root.clone();
    TypedTool::with_context(
        "read_file",
        move |arguments: ReadFile, context: &ToolContext| read(&root, limits, &arguments, context),
    )
}

fn read(
    root: &Root,
    limits: FileLimits,
    arguments: &ReadFile,
    context: &ToolContext,
) -> Result<String, ToolError> {
    let path = arguments.path.as_str();
    let first = arguments.first_line.map_or(1, NonZeroUsize::get);
    let count = arguments.lines.map_or(usize::MAX, NonZeroUsize::get);
    let file = root.file(path)?;
    let mut reader = BufReader::new(file.take(limits.file_bytes.saturating_add(1)));
    let mut piece = Piece {
        first,
        end: first.saturating_add(count),
        max_bytes: limits.read_bytes,
        line: 1,
        is_line_begun: false,
        taken: Vec::new(),
        is_full: false,
    };
    let mut passed = 0_u64;
    loop {
        context.check()?;
        let buffer = reader.fill_buf().map_err(|error| fault(path, &error))?;
        if buffer.is_empty() || !piece.take(buffer) {
            break;
        }
        let length = buffer.len();
        passed += length as u64;
        if passed > limits.file_bytes {
            return Err(too_large(path, limits.file_bytes));
        }
        reader.consume(length);
    }
    if piece.taken.is_empty() && first > 1 {
        let has = piece.line - usize::from(!piece.is_line_begun);
        return Err(format!("`{path}` has only {has} lines").into());
    }
    piece.text(path)
}

/// The wanted lines of a file that comes buffer by buffer.
struct Piece {
    first: usize,
    /// The first line that is not wanted any more.
    end: usize,
    max_bytes: usize,
    /// The line that the next byte belongs to, and whether it has any yet.
    line: usize,
    is_line_begun: bool,
    taken: Vec<u8>,
    /// Whether there is more, wanted or not.
    is_full: bool,
}

impl Piece {
    /// Takes what is wanted of a buffer, and says whether more is.
    fn take(&mut self, buffer: &[u8]) -> bool {
        for line in buffer.split_inclusive(|&byte| byte == b'\n') {
            if self.line >= self.end {
                self.is_full = true;
                return false;
            }
            if self.line >= self.first {
                let room = self.max_bytes - self.taken.len();
                self.taken.extend_from_slice(&line[..line.len().min(room)]);
                if line.len() > room {
                    self.is_full = true;
                    return false;
                }
            }
            self.is_line_begun = !line.ends_with(b"\n");
            self.line += usize::from(!self.is_line_begun);
        }
        true
    }

    /// What the model is told: whole lines, if there is one.
    fn text(mut self, path: &str) -> Result<String, ToolError> {
        let mut note = String::new();
        if self.is_full && self.line < self.end {
            match self.taken.iter().rposition(|&byte| byte == b'\n') {
                Some(end) => self.taken.truncate(end + 1),
                None => {
                    note = format!(
                        "line {} is longer than {} bytes and was cut; ",
                        self.line, self.max_bytes
                    );
                    self.line += 1;
                }
            }
        }
        if self.is_full {
            note = format!("[{note}more follows, from line {}]", self.line);
        }
        let text = match String::from_utf8(self.taken) {
            Ok(text) => text,
            // The end of a line that was cut may be half a character.
            Err(error) if self.is_full && error.utf8_error().error_len().is_none() => {
                let end = error.utf8_error().valid_up_to();
                String::from_utf8_lossy(&error.as_bytes()[..end]).into_owned()
            }
            Err(_) => return Err(format!("`{path}` is no text in UTF-8").into()),
        };
        if text.contains('\0') {
            return Err(format!("`{path}` is no text: it has zero bytes").into());
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        Ok(match (text.is_empty(), note.is_empty()) {
            (true, true) => "[the file is empty]".to_owned(),
            (_, true) => text.to_owned(),
            (_, false) if text.ends_with('\n') => format!("{text}{note}"),
            (_, false) => format!("{text}\n{note}"),
        })
    }
}
