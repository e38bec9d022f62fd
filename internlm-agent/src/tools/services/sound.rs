//! Speech to text and text to speech.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::ServiceConfig;
use super::ask::Endpoint;
use crate::fetch::Fetcher;
use crate::tool::{Media, MediaSource, OutputPart, ToolError, ToolOutput, TypedTool};
use crate::tools::Root;
use crate::tools::web::answer::{json as data, wrong};

/// Writes down what is said in a recording.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TranscribeAudio {
    /// The path of the recording: wav, mp3, m4a, flac, ogg or webm.
    pub path: String,
    /// The language that is spoken, such as `en` or `zh`, if it is known.
    #[serde(default)]
    pub language: Option<String>,
}

/// Kinds of sound by the ending of their files.
const KINDS: [(&str, &str); 7] = [
    ("wav", "audio/wav"),
    ("mp3", "audio/mpeg"),
    ("m4a", "audio/mp4"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("webm", "audio/webm"),
];

fn kind(tool: &str, name: &str, path: &str) -> Result<(&'static str, &'static str), ToolError> {
    let ending = path
        .rsplit_once('.')
        .map_or("", |(_, ending)| ending)
        .to_lowercase();
    let found = KINDS.iter().find(|(known, _)| *known == ending);
    found.copied().ok_or_else(|| {
        let endings: Vec<&str> = KINDS.iter().map(|(ending, _)| *ending).collect();
        wrong(
            tool,
            format!("`{name}` must end with one of: {}", endings.join(", ")),
        )
    })
}

/// The tool `transcribe_audio`: `POST /audio/transcriptions`.
pub fn transcribe_audio(root: &Root, config: ServiceConfig, fetcher: Fetcher) -> TypedTool {
    const NAME: &str = "transcribe_audio";
    let root = root.clone();
    TypedTool::with_context(NAME, move |arguments: TranscribeAudio, context| {
        let (ending, mime) = kind(NAME, "path", &arguments.path)?;
        let endpoint = Endpoint {
            tool: NAME,
            config: &config,
            fetcher: &fetcher,
            context,
        };
        let bytes = root.read(&arguments.path, config.max_file)?;
        let mut fields = vec![
            ("model", config.model.as_str()),
            ("response_format", "json"),
        ];
        if let Some(language) = &arguments.language {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if language.is_empty() || language.len() > 12 || !language.chars().all(plain) {
                return Err(wrong(NAME, "`language` must be a code such as en or zh"));
            }
            fields.push(("language", language));
        }
        let form = Form::new(&fields, ending, mime, &bytes);
        let page = endpoint.post("audio/transcriptions", &form.kind(), form.body)?;
        let answer = data(&page)?;
        match answer["text"].as_str() {
            Some(text) => Ok(endpoint.told(text)),
            None => Err(ToolError::failed("the service's answer has no `text`")),
        }
    })
}

/// A form with a file (RFC 7578).
struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    fn new(fields: &[(&str, &str)], ending: &str, mime: &str, file: &[u8]) -> Self {
        // What separates the parts must not occur in one of them.
        let occurs = |boundary: &str| {
            let mark = boundary.as_bytes();
            file.windows(mark.len()).any(|window| window == mark)
                || fields.iter().any(|(_, value)| value.contains(boundary))
        };
        let mut boundary = "internlm-agent-form".to_owned();
        let mut number = 0_u32;
        while occurs(&boundary) {
            number += 1;
            boundary = format!("internlm-agent-form-{number}");
        }
        let mut body = Vec::new();
        for (name, value) in fields {
            body.extend(
                format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes(),
            );
        }
        body.extend(
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"audio.{ending}\"\r\n\
                 Content-Type: {mime}\r\n\r\n"
            )
            .bytes(),
        );
        body.extend(file);
        body.extend(format!("\r\n--{boundary}--\r\n").bytes());
        Self { boundary, body }
    }

    fn kind(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }
}

/// Speaks a text into a file.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SpeakText {
    /// The text.
    pub text: String,
    /// The path of the file to write, which ends with mp3, wav, flac or opus.
    pub output: String,
    /// The voice, as the service calls it.
    #[serde(default)]
    pub voice: Option<String>,
}

/// The tool `speak_text`: `POST /audio/speech`.
pub fn speak_text(root: &Root, config: ServiceConfig, fetcher: Fetcher) -> TypedTool {
    const NAME: &str = "speak_text";
    let root = root.clone();
    TypedTool::with_context(NAME, move |arguments: SpeakText, context| {
        let (ending, mime) = kind(NAME, "output", &arguments.output)?;
        if !matches!(ending, "mp3" | "wav" | "flac" | "opus") {
            return Err(wrong(NAME, "`output` must end with mp3, wav, flac or opus"));
        }
        let endpoint = Endpoint {
            tool: NAME,
            config: &config,
            fetcher: &fetcher,
            context,
        };
        let body = json!({
            "model": config.model,
            "input": endpoint.text("text", &arguments.text)?,
            "voice": arguments.voice.as_deref().unwrap_or("alloy"),
            "response_format": ending,
        });
        let page = endpoint.post_json("audio/speech", &body)?;
        let is_text = page
            .content_type
            .as_deref()
            .is_some_and(|kind| kind.starts_with("text/") || kind.starts_with("application/json"));
        if page.body.is_empty() || is_text {
            return Err(ToolError::failed("the service's answer is no sound"));
        }
        root.write(&arguments.output, &page.body)?;
        let told = json!({"path": arguments.output, "bytes": page.body.len()});
        Ok(ToolOutput::json(told).with(OutputPart::Audio {
            audio: Media {
                mime: mime.to_owned(),
                source: MediaSource::Path(arguments.output.into()),
            },
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_separates_a_form_is_not_in_it() {
        let form = Form::new(
            &[("model", "internlm-agent-form-1")],
            "wav",
            "audio/wav",
            b"internlm-agent-form",
        );
        assert_eq!(form.boundary, "internlm-agent-form-2");
    }
}
