//! What images show, and images from words.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ServiceConfig;
use super::ask::Endpoint;
use crate::fetch::{FetchRequest, Fetcher};
use crate::tool::{Media, MediaSource, OutputPart, ToolError, ToolOutput, TypedTool};
use crate::tools::Root;
use crate::tools::web::answer::{self, json as data, wrong};

/// Describes an image, or answers a question about it.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DescribeImage {
    /// The path of the image: PNG, JPEG, WebP or GIF.
    pub path: String,
    /// The question; without it, the image is described.
    #[serde(default)]
    pub question: Option<String>,
}

/// Reads the text in an image (OCR).
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ReadImageText {
    /// The path of the image: PNG, JPEG, WebP or GIF.
    pub path: String,
}

/// Makes an image from a description.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct GenerateImage {
    /// What the image shows.
    pub prompt: String,
    /// The path of the file to write, which ends with png, jpg or webp.
    pub output: String,
    /// Width and height, such as `1024x1024`; what is possible is the service's matter.
    #[serde(default)]
    pub size: Option<String>,
}

/// The type of an image, by its first bytes.
fn mime(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if bytes.starts_with(b"GIF8") {
        Some("image/gif")
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some("image/webp")
    } else {
        None
    }
}

/// The tool `describe_image`: `POST /chat/completions` with the image.
pub fn describe_image(root: &Root, config: ServiceConfig, fetcher: Fetcher) -> TypedTool {
    const NAME: &str = "describe_image";
    let root = root.clone();
    TypedTool::with_context(NAME, move |arguments: DescribeImage, context| {
        let endpoint = Endpoint {
            tool: NAME,
            config: &config,
            fetcher: &fetcher,
            context,
        };
        let question = arguments
            .question
            .as_deref()
            .unwrap_or("Describe this image.");
        let question = endpoint.text("question", question)?;
        look(&endpoint, &root, &arguments.path, question)
    })
}

/// The tool `read_image_text`: `POST /chat/completions` with the image.
pub fn read_image_text(root: &Root, config: ServiceConfig, fetcher: Fetcher) -> TypedTool {
    const NAME: &str = "read_image_text";
    let root = root.clone();
    TypedTool::with_context(NAME, move |arguments: ReadImageText, context| {
        let endpoint = Endpoint {
            tool: NAME,
            config: &config,
            fetcher: &fetcher,
            context,
        };
        let question = "Write down all text in this image, line by line, and nothing else.";
        look(&endpoint, &root, &arguments.path, question)
    })
}

fn look(
    endpoint: &Endpoint<'_>,
    root: &Root,
    path: &str,
    question: &str,
) -> Result<String, ToolError> {
    let bytes = root.read(path, endpoint.config.max_file)?;
    let mime = mime(&bytes).ok_or_else(|| {
        ToolError::failed(format!("`{path}` is no image in PNG, JPEG, WebP or GIF"))
    })?;
    let url = format!("data:{mime};base64,{}", STANDARD.encode(&bytes));
    let body = json!({
        "model": endpoint.config.model,
        "temperature": 0,
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": question},
            {"type": "image_url", "image_url": {"url": url}},
        ]}],
    });
    let answer = data(&endpoint.post_json("chat/completions", &body)?)?;
    let content = &answer["choices"][0]["message"]["content"];
    // Some servers answer in parts.
    let text = match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => String::new(),
    };
    match text.trim().is_empty() {
        true => Err(ToolError::failed("the service's answer has no text")),
        false => Ok(endpoint.told(&text)),
    }
}

/// The tool `generate_image`: `POST /images/generations`.
pub fn generate_image(root: &Root, config: ServiceConfig, fetcher: Fetcher) -> TypedTool {
    const NAME: &str = "generate_image";
    let root = root.clone();
    TypedTool::with_context(NAME, move |arguments: GenerateImage, context| {
        let endings = [".png", ".jpg", ".jpeg", ".webp"];
        let path = arguments.output.trim();
        if !endings
            .iter()
            .any(|ending| path.to_lowercase().ends_with(ending))
        {
            return Err(wrong(NAME, "`output` must end with png, jpg or webp"));
        }
        let size = arguments.size.as_deref();
        let is_size = |size: &str| {
            let sides = size.split_once('x');
            sides.is_some_and(|(w, h)| w.parse::<u16>().is_ok() && h.parse::<u16>().is_ok())
        };
        if size.is_some_and(|size| !is_size(size)) {
            return Err(wrong(NAME, "`size` must be like `1024x1024`"));
        }
        let endpoint = Endpoint {
            tool: NAME,
            config: &config,
            fetcher: &fetcher,
            context,
        };
        let mut body = json!({
            "model": config.model,
            "prompt": endpoint.text("prompt", &arguments.prompt)?,
            "n": 1,
            "response_format": "b64_json",
        });
        if let Some(size) = size {
            body["size"] = size.into();
        }
        let answer = data(&endpoint.post_json("images/generations", &body)?)?;
        let made = &answer["data"][0];
        let bytes = match (made["b64_json"].as_str(), made["url"].as_str()) {
            (Some(text), _) => STANDARD
                .decode(text)
                .map_err(|_| ToolError::failed("the service's image is no base64"))?,
            // Without the key: it is another host, perhaps.
            (None, Some(url)) => {
                let request = FetchRequest::get(url)
                    .with_timeout(config.timeout)
                    .with_max_bytes(config.max_answer);
                answer::ask(&fetcher, request, context)?.body
            }
            (None, None) => return Err(ToolError::failed("the service's answer has no image")),
        };
        let mime =
            mime(&bytes).ok_or_else(|| ToolError::failed("the service's answer is no image"))?;
        root.write(path, &bytes)?;
        let mut told = json!({"path": path});
        if let Some(prompt) = made["revised_prompt"].as_str() {
            told["drawn_as"] = endpoint.told(prompt).into();
        }
        Ok(ToolOutput::json(told).with(OutputPart::Image {
            image: Media {
                mime: mime.to_owned(),
                source: MediaSource::Path(path.into()),
            },
        }))
    })
}
