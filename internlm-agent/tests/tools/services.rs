//! Tools that ask a service, against a stand-in of an OpenAI-compatible one.

use std::fs;
use std::time::{Duration, Instant};

use internlm_agent::fetch::{FetchConfig, Fetcher};
use internlm_agent::tool::{MediaSource, OutputPart, Tool, ToolContext, ToolError, TypedTool};
use internlm_agent::tools::Root;
use internlm_agent::tools::services::{
    ServiceConfig, describe_image, generate_image, read_image_text, speak_text, transcribe_audio,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stand_in::{Answer, Asked, StandIn};

/// The first bytes of a PNG, which the tools look at, and `iVBORw0KGgo=` in base64.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

fn service() -> StandIn {
    StandIn::new(|asked: &Asked| {
        if asked
            .header("authorization")
            .is_some_and(|key| key != "Bearer secret")
        {
            return Answer::json(&json!({"error": {"message": "Incorrect API key"}}))
                .with_status(401);
        }
        match asked.path() {
            "/v1/audio/transcriptions" => {
                let parts = asked.text();
                match parts.contains("\r\nlong\r\n--") {
                    true => Answer::json(&json!({"text": "x".repeat(5_000)})),
                    false => Answer::json(&json!({"text": " 你好 \n"})),
                }
            }
            "/v1/audio/speech" => match asked.json()["input"].as_str() {
                Some("broken") => Answer::json(&json!({"detail": "no"})),
                _ => Answer::new("audio/mpeg", b"ID3sound".to_vec()),
            },
            "/v1/chat/completions" => {
                let content = &asked.json()["messages"][0]["content"];
                let content = match content[0]["text"].as_str().unwrap() {
                    "parts?" => {
                        json!([{"type": "text", "text": "a "}, {"type": "text", "text": "cat"}])
                    }
                    "nothing?" => json!(null),
                    question if question.starts_with("Write down") => json!("STOP\nHERE"),
                    _ => json!("A cat."),
                };
                Answer::json(
                    &json!({"choices": [{"message": {"role": "assistant", "content": content}}]}),
                )
            }
            "/v1/images/generations" => {
                Answer::json(&match asked.json()["prompt"].as_str().unwrap() {
                    "by address" => {
                        json!({"data": [{"url": format!("http://{}/made.png", asked.header("host").unwrap())}]})
                    }
                    "elsewhere" => json!({"data": [{"url": "http://127.0.0.1:1/made.png"}]}),
                    "no image" => json!({"data": [{"b64_json": "AAAA"}]}),
                    "no base64" => json!({"data": [{"b64_json": "?"}]}),
                    "nothing" => json!({"data": []}),
                    _ => {
                        json!({"data": [{"b64_json": "iVBORw0KGgo=", "revised_prompt": "a small cat"}]})
                    }
                })
            }
            "/made.png" => Answer::new("image/png", PNG.to_vec()),
            _ => Answer::html("").with_status(404),
        }
    })
}

fn folder() -> (TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.wav"), b"RIFF sound \xff").unwrap();
    fs::write(folder.path().join("a.png"), PNG).unwrap();
    fs::write(folder.path().join("a.txt"), "text").unwrap();
    let root = Root::open(folder.path()).unwrap();
    (folder, root)
}

fn config(service: &StandIn) -> ServiceConfig {
    ServiceConfig::new(service.url("/v1/"), "model-1").with_key("secret")
}

fn call(tool: &TypedTool, arguments: Value) -> Result<String, ToolError> {
    Ok(tool.call(&arguments, &ToolContext::default())?.to_text())
}

#[test]
fn speech_is_written_down() {
    let (service, (_folder, root)) = (service(), folder());
    let tool = transcribe_audio(&root, config(&service), service.fetcher());
    assert_eq!(
        call(&tool, json!({"path": "a.wav", "language": "zh"})).unwrap(),
        "你好"
    );
    let asked = &service.asked()[0];
    assert_eq!(asked.header("authorization"), Some("Bearer secret"));
    let kind = asked.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    let text = asked.text();
    let parts: Vec<&str> = text.split(&format!("--{boundary}")).collect();
    assert_eq!(parts.len(), 6, "{text}");
    for (at, want) in [
        (
            1,
            "\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nmodel-1\r\n",
        ),
        (
            3,
            "\r\nContent-Disposition: form-data; name=\"language\"\r\n\r\nzh\r\n",
        ),
        (5, "--\r\n"),
    ] {
        assert_eq!(parts[at], want);
    }
    assert!(
        parts[4].contains("filename=\"audio.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF sound ")
    );
    assert!(
        asked
            .body
            .windows(14)
            .any(|part| part == b"RIFF sound \xff\r\n")
    );
}

#[test]
fn a_text_is_spoken() {
    let (service, (folder, root)) = (service(), folder());
    let tool = speak_text(&root, config(&service), service.fetcher());
    let arguments = json!({"text": "hello", "output": "out/b.mp3"});
    let output = tool.call(&arguments, &ToolContext::default()).unwrap();
    let OutputPart::Audio { audio } = &output.parts[1] else {
        panic!("{output:?}");
    };
    assert_eq!(
        (audio.mime.as_str(), &audio.source),
        ("audio/mpeg", &MediaSource::Path("out/b.mp3".into()))
    );
    assert_eq!(
        fs::read(folder.path().join("out/b.mp3")).unwrap(),
        b"ID3sound"
    );
    let want =
        json!({"model": "model-1", "input": "hello", "voice": "alloy", "response_format": "mp3"});
    assert_eq!(service.asked()[0].json(), want);
    let error = call(&tool, json!({"text": "broken", "output": "c.mp3"})).unwrap_err();
    assert_eq!(error.to_string(), "the service's answer is no sound");
    assert!(!folder.path().join("c.mp3").exists());
}

#[test]
fn images_are_described_and_read() {
    let (service, (_folder, root)) = (service(), folder());
    let describe = describe_image(&root, config(&service), service.fetcher());
    assert_eq!(call(&describe, json!({"path": "a.png"})).unwrap(), "A cat.");
    assert_eq!(
        call(&describe, json!({"path": "a.png", "question": "parts?"})).unwrap(),
        "a cat"
    );
    let error = call(&describe, json!({"path": "a.png", "question": "nothing?"})).unwrap_err();
    assert_eq!(error.to_string(), "the service's answer has no text");
    let read = read_image_text(&root, config(&service), service.fetcher());
    assert_eq!(call(&read, json!({"path": "a.png"})).unwrap(), "STOP\nHERE");
    let asked = service.asked()[0].json();
    assert_eq!(asked["model"], "model-1");
    let image = &asked["messages"][0]["content"][1]["image_url"]["url"];
    assert_eq!(image, "data:image/png;base64,iVBORw0KGgo=");
}

#[test]
fn images_are_made() {
    let (service, (folder, root)) = (service(), folder());
    let tool = generate_image(&root, config(&service), service.fetcher());
    let arguments = json!({"prompt": "a cat", "output": "b.png", "size": "256x256"});
    let output = tool.call(&arguments, &ToolContext::default()).unwrap();
    let told = json!({"drawn_as": "a small cat", "path": "b.png"});
    assert_eq!(output.parts[0], OutputPart::Json { value: told });
    let OutputPart::Image { image } = &output.parts[1] else {
        panic!("{output:?}");
    };
    assert_eq!(
        (image.mime.as_str(), &image.source),
        ("image/png", &MediaSource::Path("b.png".into()))
    );
    assert_eq!(fs::read(folder.path().join("b.png")).unwrap(), PNG);
    let want = json!({
        "model": "model-1", "prompt": "a cat", "n": 1, "response_format": "b64_json", "size": "256x256",
    });
    assert_eq!(service.asked()[0].json(), want);
    call(&tool, json!({"prompt": "by address", "output": "c.png"})).unwrap();
    assert_eq!(fs::read(folder.path().join("c.png")).unwrap(), PNG);
    assert_eq!(service.asked()[2].header("authorization"), None);
    // Wherever the service says that the image is.
    let error = call(&tool, json!({"prompt": "elsewhere", "output": "d.png"})).unwrap_err();
    assert!(matches!(error, ToolError::Denied { .. }), "{error}");
    for prompt in ["no image", "no base64", "nothing"] {
        let error = call(&tool, json!({"prompt": prompt, "output": "d.png"})).unwrap_err();
        assert!(
            matches!(error, ToolError::Failed { .. }),
            "{prompt}: {error}"
        );
    }
    assert!(!folder.path().join("d.png").exists());
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let (service, (_folder, root)) = (service(), folder());
    let transcribe = transcribe_audio(&root, config(&service), service.fetcher());
    let speak = speak_text(&root, config(&service), service.fetcher());
    let describe = describe_image(&root, config(&service), service.fetcher());
    let read = read_image_text(&root, config(&service), service.fetcher());
    let generate = generate_image(&root, config(&service), service.fetcher());
    for (tool, arguments) in [
        (&transcribe, json!({})),
        (&transcribe, json!({"path": "a.txt"})),
        (&transcribe, json!({"path": "a.wav", "language": "zh\r\n"})),
        (&speak, json!({"text": "a", "output": "a.m4a"})),
        (&speak, json!({"text": " ", "output": "a.mp3"})),
        (&describe, json!({"path": "a.png", "question": " "})),
        (&read, json!({"path": 7})),
        (&generate, json!({"prompt": "a", "output": "a.exe"})),
        (
            &generate,
            json!({"prompt": "a", "output": "a.png", "size": "big"}),
        ),
    ] {
        let error = call(tool, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Arguments { .. }),
            "{arguments}: {error}"
        );
    }
    for (tool, arguments, want) in [
        (
            &describe,
            json!({"path": "a.txt"}),
            "`a.txt` is no image in PNG, JPEG, WebP or GIF",
        ),
        (&read, json!({"path": "none.png"}), "there is no `none.png`"),
        (
            &transcribe,
            json!({"path": "none.wav"}),
            "there is no `none.wav`",
        ),
    ] {
        assert_eq!(call(tool, arguments).unwrap_err().to_string(), want);
    }
    assert!(service.asked().is_empty());
}

#[test]
fn limits_hold_and_keys_stay() {
    let (service, (_folder, root)) = (service(), folder());
    let limit = |tool: TypedTool, arguments: Value| {
        let error = call(&tool, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Limit { .. }),
            "{arguments}: {error}"
        );
    };
    let small = || config(&service).with_max_file(3);
    limit(
        transcribe_audio(&root, small(), service.fetcher()),
        json!({"path": "a.wav"}),
    );
    limit(
        describe_image(&root, small(), service.fetcher()),
        json!({"path": "a.png"}),
    );
    limit(
        read_image_text(&root, small(), service.fetcher()),
        json!({"path": "a.png"}),
    );
    let short = || config(&service).with_max_chars(10);
    let long = json!({"text": "x".repeat(11), "prompt": "x".repeat(11), "output": "a.mp3"});
    limit(
        speak_text(&root, short(), service.fetcher()),
        json!({"text": long["text"], "output": "a.mp3"}),
    );
    limit(
        generate_image(&root, short(), service.fetcher()),
        json!({"prompt": long["prompt"], "output": "a.png"}),
    );
    let few = config(&service).with_max_answer(10);
    limit(
        generate_image(&root, few, service.fetcher()),
        json!({"prompt": "a", "output": "a.png"}),
    );
    let tool = transcribe_audio(&root, short(), service.fetcher());
    assert_eq!(
        call(&tool, json!({"path": "a.wav", "language": "long"})).unwrap(),
        "xxxxxxxxxx…"
    );

    let wrong = config(&service).with_key("other");
    assert!(!format!("{wrong:?}").contains("other"));
    let error = call(
        &speak_text(&root, wrong, service.fetcher()),
        json!({"text": "a", "output": "a.mp3"}),
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("status 401: {\"error\":{\"message\":\"Incorrect API key\"}}")
    );
    // A service of this machine must be let through.
    let fetcher = Fetcher::new(FetchConfig::default());
    let error = call(
        &describe_image(&root, config(&service), fetcher),
        json!({"path": "a.png"}),
    )
    .unwrap_err();
    assert!(matches!(error, ToolError::Denied { .. }), "{error}");
    let mut context = ToolContext::default();
    context.deadline = Some(Instant::now() - Duration::from_secs(1));
    let error = tool.call(&json!({"path": "a.wav"}), &context).unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error}");
}
