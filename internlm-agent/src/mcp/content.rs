//! Results of MCP and of our tools, each as the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::{CallToolResult, ContentBlock, Resource, ResourceContents};
use serde_json::Value;

use super::McpConfig;
use crate::tool::{Media, MediaSource, OutputPart, ToolError, ToolOutput, limited_text};

/// Most pieces of a result.
const MAX_PARTS: usize = 1000;

/// The result of a server's tool, within limits.
pub(super) fn read(result: CallToolResult, config: &McpConfig) -> Result<ToolOutput, ToolError> {
    let max = config.max_media_bytes;
    let more = result.content.len().saturating_sub(MAX_PARTS);
    let blocks = result.content.into_iter().take(MAX_PARTS);
    let mut output = ToolOutput {
        parts: blocks.map(|block| part(block, max)).collect(),
    };
    if more > 0 {
        let text = format!("[{more} more pieces were left out]");
        output.parts.push(OutputPart::Text { text });
    }
    if let Some(value) = result.structured_content
        && !output.parts.iter().any(|part| says(part, &value))
    {
        output.parts.push(OutputPart::Json { value });
    }
    let output = output.limited(config.max_output_bytes);
    match result.is_error {
        Some(true) => {
            let text = limited_text(output.to_text(), config.max_output_bytes);
            let what = match text.trim().is_empty() {
                true => "the tool failed and does not say why".to_owned(),
                false => text,
            };
            Err(ToolError::Failed { what })
        }
        _ => Ok(output),
    }
}

/// Whether a piece is the text of a value: servers send both, for clients that do not know the second.
fn says(part: &OutputPart, value: &Value) -> bool {
    let OutputPart::Text { text } = part else {
        return false;
    };
    // The SDK for Python wraps what is no object.
    let inner = value.as_object().filter(|object| object.len() == 1);
    let inner = inner.and_then(|object| object.get("result"));
    let parsed = serde_json::from_str::<Value>(text).ok();
    [Some(value), inner].into_iter().flatten().any(|value| {
        value.as_str() == Some(text.as_str()) || parsed.as_ref().is_some_and(|p| p == value)
    })
}

fn part(block: ContentBlock, max: usize) -> OutputPart {
    match block {
        ContentBlock::Text(text) => OutputPart::Text { text: text.text },
        ContentBlock::Image(image) => match media("image", image.mime_type, &image.data, max) {
            Ok(image) => OutputPart::Image { image },
            Err(text) => OutputPart::Text { text },
        },
        ContentBlock::Audio(audio) => match media("audio", audio.mime_type, &audio.data, max) {
            Ok(audio) => OutputPart::Audio { audio },
            Err(text) => OutputPart::Text { text },
        },
        ContentBlock::Resource(resource) => match resource.resource {
            ResourceContents::TextResourceContents { text, .. } => OutputPart::Text { text },
            ResourceContents::BlobResourceContents {
                mime_type, blob, ..
            } => match media("file", or_bytes(mime_type), &blob, max) {
                Ok(file) => OutputPart::File { file },
                Err(text) => OutputPart::Text { text },
            },
            _ => OutputPart::Text {
                text: "[a resource of an unknown kind was left out]".to_owned(),
            },
        },
        ContentBlock::ResourceLink(link) => OutputPart::File {
            file: Media {
                mime: or_bytes(link.mime_type),
                source: MediaSource::Url(link.uri),
            },
        },
        _ => OutputPart::Text {
            text: "[a piece of an unknown kind was left out]".to_owned(),
        },
    }
}

fn or_bytes(mime: Option<String>) -> String {
    mime.unwrap_or_else(|| "application/octet-stream".to_owned())
}

/// A medium in base64, or why it is left out.
fn media(kind: &str, mime: String, data: &str, max: usize) -> Result<Media, String> {
    // Three bytes in four characters.
    let bytes = data.len() / 4 * 3;
    if bytes > max {
        return Err(format!(
            "[{kind} of {bytes} bytes was left out: the limit is {max}]"
        ));
    }
    let bytes = STANDARD
        .decode(data)
        .map_err(|error| format!("[{kind} was left out: its base64 is broken: {error}]"))?;
    Ok(Media {
        mime,
        source: MediaSource::Bytes(bytes),
    })
}

/// A result of ours for a client, within limits. Files are read: the client may be on another machine.
pub(super) fn write(output: ToolOutput, max_output: usize, max_media: usize) -> CallToolResult {
    let output = output.limited(max_output);
    let structured = match output.parts.as_slice() {
        // Clients expect an object.
        [OutputPart::Json { value }] if value.is_object() => Some(value.clone()),
        _ => None,
    };
    let blocks = output.parts.into_iter();
    let blocks = blocks.map(|part| block(part, max_media).unwrap_or_else(ContentBlock::text));
    let mut result = CallToolResult::success(blocks.collect());
    result.structured_content = structured;
    result
}

fn block(part: OutputPart, max: usize) -> Result<ContentBlock, String> {
    Ok(match part {
        OutputPart::Text { text } => ContentBlock::text(text),
        OutputPart::Json { value } => ContentBlock::text(value.to_string()),
        OutputPart::Image { image } => match encoded("image", &image, max)? {
            Some(data) => ContentBlock::image(data, image.mime),
            None => link(image),
        },
        OutputPart::Audio { audio } => match encoded("audio", &audio, max)? {
            Some(data) => ContentBlock::audio(data, audio.mime),
            None => link(audio),
        },
        OutputPart::File { file } => match encoded("file", &file, max)? {
            Some(data) => {
                let uri = format!("file:///{}", name(&file));
                let contents = ResourceContents::blob(data, uri).with_mime_type(file.mime);
                ContentBlock::resource(contents)
            }
            None => link(file),
        },
    })
}

fn name(media: &Media) -> String {
    let name = match &media.source {
        MediaSource::Path(path) => path.file_name().map(|name| name.to_string_lossy()),
        MediaSource::Url(_) | MediaSource::Bytes(_) => None,
    };
    name.map_or_else(|| "file".to_owned(), |name| name.into_owned())
}

fn link(media: Media) -> ContentBlock {
    let name = name(&media);
    let uri = match media.source {
        MediaSource::Url(url) => url,
        MediaSource::Path(_) | MediaSource::Bytes(_) => String::new(),
    };
    ContentBlock::resource_link(Resource::new(uri, name).with_mime_type(media.mime))
}

/// The bytes of a medium in base64; nothing for what is elsewhere; or why it is left out.
pub(super) fn encoded(kind: &str, media: &Media, max: usize) -> Result<Option<String>, String> {
    let too_large =
        |bytes: u64| format!("[{kind} of {bytes} bytes was left out: the limit is {max}]");
    let bytes = match &media.source {
        MediaSource::Url(_) => return Ok(None),
        MediaSource::Bytes(bytes) => std::borrow::Cow::Borrowed(bytes),
        MediaSource::Path(path) => {
            let unread = |error: std::io::Error| format!("[{kind} could not be read: {error}]");
            let length = std::fs::metadata(path).map_err(unread)?.len();
            if length > max as u64 {
                return Err(too_large(length));
            }
            std::borrow::Cow::Owned(std::fs::read(path).map_err(unread)?)
        }
    };
    match bytes.len() > max {
        true => Err(too_large(bytes.len() as u64)),
        false => Ok(Some(STANDARD.encode(bytes.as_slice()))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(value: Value) -> CallToolResult {
        serde_json::from_value(value).unwrap()
    }

    #[track_caller]
    fn check(value: Value, want: Result<&str, &str>) {
        let config = McpConfig::default()
            .with_max_output_bytes(40)
            .with_max_media_bytes(8);
        let got = read(result(value), &config).map(|output| output.to_text());
        let got = got.map_err(|error| error.to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), want);
    }

    #[test]
    fn pieces_become_ours() {
        check(json!({"content": []}), Ok(""));
        check(
            json!({"content": [
                {"type": "text", "text": "a"},
                {"type": "image", "data": "aGk=", "mimeType": "image/png"},
                {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"},
                {"type": "resource", "resource": {"uri": "a:b", "text": "within"}},
                {"type": "resource", "resource": {"uri": "a:b", "blob": "aGk="}},
                {"type": "resource_link", "uri": "a:b", "name": "b"},
            ]}),
            Ok(
                "a\n[image](image/png, 2 bytes)\n[audio](audio/wav, 2 bytes)\nwithin\n\
                [file](application/octet-stream, 2 bytes)\n[file](a:b)",
            ),
        );
    }

    #[test]
    fn structured_content_is_told_once() {
        let text = |text: &str| json!([{"type": "text", "text": text}]);
        check(
            json!({"content": [], "structuredContent": {"a": 1}}),
            Ok(r#"{"a": 1}"#),
        );
        check(
            json!({"content": text(r#"{ "a":1 }"#), "structuredContent": {"a": 1}}),
            Ok(r#"{ "a":1 }"#),
        );
        check(
            json!({"content": text("x"), "structuredContent": {"result": "x"}}),
            Ok("x"),
        );
        check(
            json!({"content": text("5"), "structuredContent": {"result": 5}}),
            Ok("5"),
        );
        check(
            json!({"content": text("one"), "structuredContent": {"a": 1}}),
            Ok("one\n{\"a\": 1}"),
        );
    }

    #[test]
    fn failures_and_limits_are_said() {
        check(
            json!({"content": [{"type": "text", "text": "no such file"}], "isError": true}),
            Err("no such file"),
        );
        check(
            json!({"content": [], "isError": true}),
            Err("the tool failed and does not say why"),
        );
        let long = "n".repeat(50);
        check(
            json!({"content": [{"type": "text", "text": long}]}),
            Ok(&format!("{}… [10 more bytes were cut]", "n".repeat(40))),
        );
        check(
            json!({"content": [
                {"type": "image", "data": "A".repeat(16), "mimeType": "image/png"},
            ]}),
            Ok("[image of 12 bytes was left out: the lim… [8 more bytes were cut]"),
        );
        let broken = json!({"content": [{"type": "audio", "data": "*", "mimeType": "a/b"}]});
        let output = read(result(broken), &McpConfig::default()).unwrap();
        assert!(
            output
                .to_text()
                .starts_with("[audio was left out: its base64 is broken")
        );
        let many = vec![json!({"type": "text", "text": ""}); 1001];
        let output = read(result(json!({"content": many})), &McpConfig::default()).unwrap();
        assert!(output.to_text().ends_with("[1 more pieces were left out]"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        std::fs::write(&path, b"from a file").unwrap();
        let media = |source| Media {
            mime: "application/x".to_owned(),
            source,
        };
        let bytes = |text: &str| media(MediaSource::Bytes(text.as_bytes().to_vec()));
        let parts = |file: Media| {
            vec![
                OutputPart::Text { text: "a".into() },
                OutputPart::Json { value: json!([1]) },
                OutputPart::Image {
                    image: bytes("image"),
                },
                OutputPart::Audio {
                    audio: bytes("audio"),
                },
                OutputPart::File { file },
                OutputPart::File {
                    file: media(MediaSource::Url("a:b".into())),
                },
            ]
        };
        let written = write(
            ToolOutput {
                parts: parts(media(MediaSource::Path(path.clone()))),
            },
            100,
            100,
        );
        let output = read(written, &McpConfig::default()).unwrap();
        let mut want = parts(bytes("from a file"));
        want[1] = OutputPart::Text { text: "[1]".into() };
        assert_eq!(output.parts, want);

        let written = write(ToolOutput::json(json!({"a": 1})), 100, 100);
        assert_eq!(written.structured_content, Some(json!({"a": 1})));
        assert_eq!(
            read(written, &McpConfig::default()).unwrap().to_text(),
            r#"{"a":1}"#
        );

        let file = OutputPart::File {
            file: media(MediaSource::Path(path)),
        };
        let written = write(ToolOutput { parts: vec![file] }, 100, 10);
        let text = read(written, &McpConfig::default()).unwrap().to_text();
        assert_eq!(text, "[file of 11 bytes was left out: the limit is 10]");
    }
}
