//! What a tool gives back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::python::PyValue;

/// Where the bytes of a medium are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaSource {
    /// A file.
    Path(PathBuf),
    /// An address.
    Url(String),
    /// The bytes themselves.
    Bytes(Vec<u8>),
}

/// An image, sound or file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Its type, such as `image/png`.
    pub mime: String,
    /// Where it is.
    pub source: MediaSource,
}

/// A piece of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutputPart {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// Data.
    Json {
        /// The data.
        value: Value,
    },
    /// An image.
    Image {
        /// The image.
        image: Media,
    },
    /// Sound.
    Audio {
        /// The sound.
        audio: Media,
    },
    /// Any other file.
    File {
        /// The file.
        file: Media,
    },
}

/// The result of a call, in pieces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ToolOutput {
    /// The pieces, in order.
    pub parts: Vec<OutputPart>,
}

impl ToolOutput {
    /// A result of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            parts: vec![OutputPart::Text { text: text.into() }],
        }
    }

    /// A result of data.
    pub fn json(value: impl Into<Value>) -> Self {
        Self {
            parts: vec![OutputPart::Json {
                value: value.into(),
            }],
        }
    }

    /// Adds a piece.
    #[must_use]
    pub fn with(mut self, part: OutputPart) -> Self {
        self.parts.push(part);
        self
    }

    /// What the model is told: texts as they are, data as JSON, the rest as `[image](path)`; a line each.
    pub fn to_text(&self) -> String {
        let parts = self.parts.iter().map(|part| match part {
            OutputPart::Text { text } => text.clone(),
            OutputPart::Json { value } => PyValue::from(value).dumps(),
            OutputPart::Image { image } => mention("image", image),
            OutputPart::Audio { audio } => mention("audio", audio),
            OutputPart::File { file } => mention("file", file),
        });
        parts.collect::<Vec<_>>().join("\n")
    }

    /// The result with at most this many bytes of text; what is cut is said. Data that is too long becomes text.
    #[must_use]
    pub fn limited(mut self, max_bytes: usize) -> Self {
        let mut left = max_bytes;
        for part in &mut self.parts {
            let text = match part {
                OutputPart::Text { text } => std::mem::take(text),
                OutputPart::Json { value } => {
                    let text = PyValue::from(&*value).dumps();
                    if text.len() <= left {
                        left -= text.len();
                        continue;
                    }
                    text
                }
                _ => continue,
            };
            let kept = text.floor_char_boundary(left);
            *part = OutputPart::Text {
                text: limited_text(text, left),
            };
            left -= kept;
        }
        self
    }
}

/// A text with at most this many bytes, and how many were cut.
pub(crate) fn limited_text(text: String, max_bytes: usize) -> String {
    let kept = text.floor_char_boundary(max_bytes);
    match text.len() - kept {
        0 => text,
        more => format!("{}… [{more} more bytes were cut]", &text[..kept]),
    }
}

fn mention(kind: &str, media: &Media) -> String {
    match &media.source {
        MediaSource::Path(path) => format!("[{kind}]({})", path.display()),
        MediaSource::Url(url) => format!("[{kind}]({url})"),
        MediaSource::Bytes(bytes) => format!("[{kind}]({}, {} bytes)", media.mime, bytes.len()),
    }
}

impl From<String> for ToolOutput {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&str> for ToolOutput {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<Value> for ToolOutput {
    fn from(value: Value) -> Self {
        Self::json(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_are_told_and_cut() {
        let output = ToolOutput::text("晴晴晴")
            .with(OutputPart::Json {
                value: json!({"a": 1}),
            })
            .with(OutputPart::Image {
                image: Media {
                    mime: "image/png".to_owned(),
                    source: MediaSource::Path("0.png".into()),
                },
            });
        assert_eq!(output.to_text(), "晴晴晴\n{\"a\": 1}\n[image](0.png)");
        assert_eq!(output.clone().limited(17), output);
        let cut = output.limited(7).to_text();
        let want = "晴晴… [3 more bytes were cut]\n{… [7 more bytes were cut]\n[image](0.png)";
        assert_eq!(cut, want);
    }
}
