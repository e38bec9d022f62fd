//! The tools for presentations; what they write is read by our reader and by python-pptx.

use std::fs;
use std::process::Command;

use internlm_agent::tool::{
    MediaSource, OutputPart, Tool, ToolContext, ToolError, ToolOutput, ToolSet,
};
use internlm_agent::tools::Root;
use internlm_agent::tools::documents::{DocumentConfig, read_document};
use internlm_agent::tools::ppt::{PptConfig, tools};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A GIF of one pixel.
const DOT: &[u8] =
    b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

struct Writer {
    folder: TempDir,
    root: Root,
    tools: ToolSet,
}

fn writer(config: &PptConfig) -> Writer {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("dot.gif"), DOT).unwrap();
    fs::write(folder.path().join("a.txt"), "no image").unwrap();
    let root = Root::open(folder.path()).unwrap();
    let mut set = ToolSet::new();
    for tool in tools(&root, config) {
        set = set.with(tool).unwrap();
    }
    Writer {
        folder,
        root,
        tools: set,
    }
}

impl Writer {
    fn call(&self, name: &str, arguments: Value) -> Result<ToolOutput, ToolError> {
        self.tools.call(name, &arguments, &ToolContext::default())
    }

    fn status(&self, name: &str, arguments: Value) -> String {
        let OutputPart::Json { value } = self.call(name, arguments).unwrap().parts.remove(0) else {
            panic!("no data");
        };
        value["status"].as_str().unwrap().to_owned()
    }

    fn create(&self) {
        let arguments = json!({"theme": "Default", "abs_location": "out/talk.pptx"});
        assert_eq!(
            self.status("ppt_create_file", arguments),
            "created a ppt file."
        );
    }
}

/// A presentation of each kind of page.
fn talk() -> Writer {
    let writer = writer(&PptConfig::default());
    writer.create();
    let first = json!({"title": "Low-bit & <small>", "subtitle": "数学\u{1}"});
    assert_eq!(writer.status("ppt_add_first_page", first), "added page");
    let text = json!({"title": "Why", "bullet_items": "one [SPAN] two\nlines[SPAN][SPAN]three"});
    assert_eq!(writer.status("ppt_add_text_page", text), "added page");
    let image = json!({"title": "How", "bullet_items": "left", "image": "dot.gif"});
    assert_eq!(
        writer.status("ppt_add_text_image_page", image),
        "added page"
    );
    let output = writer.call("ppt_submit_file", json!({})).unwrap();
    let OutputPart::File { file } = &output.parts[1] else {
        panic!("{output:?}");
    };
    assert_eq!(file.source, MediaSource::Path("out/talk.pptx".into()));
    assert!(
        output
            .to_text()
            .contains("submitted. view ppt at out/talk.pptx")
    );
    writer
}

#[test]
fn a_presentation_is_written_and_read() {
    let writer = talk();
    let reader = read_document(&writer.root, DocumentConfig::default());
    let told = reader
        .call(&json!({"path": "out/talk.pptx"}), &ToolContext::default())
        .unwrap();
    let want = "Slides: 3\n\n[slide 1]\n\nLow-bit & <small>\n\n数学\n\n[slide 2]\n\nWhy\n\none\n\ntwo\nlines\n\nthree\n\n\
                [slide 3]\n\nHow\n\nleft";
    assert_eq!(told.to_text(), want);
}

/// What python-pptx makes of the file: layouts, texts, and the picture within the slide.
const PROGRAM: &str = "
import json, sys
from pptx import Presentation
deck = Presentation(sys.argv[1])
slides = []
for slide in deck.slides:
    shapes = [[s.name, s.text_frame.text] for s in slide.shapes if s.has_text_frame]
    pictures = [s for s in slide.shapes if s.shape_type == 13]
    inside = all(0 <= p.left and p.left + p.width <= deck.slide_width and 0 <= p.top and
                 p.top + p.height <= deck.slide_height for p in pictures)
    slides.append([slide.slide_layout.name, shapes, [p.image.ext for p in pictures], inside])
deck.slides.add_slide(deck.slide_layouts[1]).shapes.title.text = 'more'
deck.save(sys.argv[1])
print(json.dumps(slides))
";

#[test]
fn python_pptx_reads_it() {
    let writer = talk();
    let path = writer.folder.path().join("out/talk.pptx");
    let has_it = Command::new("python3").args(["-c", "import pptx"]).output();
    if !has_it.is_ok_and(|output| output.status.success()) {
        let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!is_ci, "no python-pptx (.ci/requirements.txt)");
        println!("skipped: no python3 with python-pptx");
        return;
    }
    let output = Command::new("python3")
        .arg("-c")
        .arg(PROGRAM)
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let want = json!([
        [
            "Title Slide",
            [["Title 1", "Low-bit & <small>"], ["Subtitle 2", "数学"]],
            [],
            true
        ],
        [
            "Title and Content",
            [
                ["Title 1", "Why"],
                ["Content Placeholder 2", "one\ntwo\u{b}lines\nthree"]
            ],
            [],
            true
        ],
        [
            "Two Content",
            [["Title 1", "How"], ["Content Placeholder 2", "left"]],
            ["gif"],
            true
        ],
    ]);
    assert_eq!(told, want);
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let writer = writer(&PptConfig::default());
    for (name, arguments) in [
        (
            "ppt_create_file",
            json!({"theme": "Dark", "abs_location": "a.pptx"}),
        ),
        (
            "ppt_create_file",
            json!({"theme": "Default", "abs_location": "a.ppt"}),
        ),
        ("ppt_create_file", json!({"theme": "Default"})),
        ("ppt_add_first_page", json!({"title": "a"})),
        ("ppt_add_text_page", json!({"title": "a", "items": ["b"]})),
        (
            "ppt_add_text_image_page",
            json!({"title": "a", "bullet_items": "b"}),
        ),
        ("ppt_submit_file", json!({"path": "a.pptx"})),
    ] {
        let error = writer.call(name, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Arguments { .. }),
            "{arguments}: {error}"
        );
    }
    let page = json!({"title": "a", "bullet_items": "b"});
    let none = "there is no presentation yet; begin one with ppt_create_file";
    assert_eq!(
        writer
            .call("ppt_add_text_page", page)
            .unwrap_err()
            .to_string(),
        none
    );
    assert_eq!(
        writer
            .call("ppt_submit_file", json!({}))
            .unwrap_err()
            .to_string(),
        none
    );
    writer.create();
    let error = writer.call("ppt_submit_file", json!({})).unwrap_err();
    assert_eq!(error.to_string(), "the presentation has no pages yet");
    for (image, want) in [
        ("a.txt", "no image"),
        ("none.png", "there is no"),
        ("../a.png", "leads out"),
    ] {
        let page = json!({"title": "a", "bullet_items": "b", "image": image});
        let error = writer.call("ppt_add_text_image_page", page).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
    // A path that leads out of the folder is refused when it is written.
    let arguments = json!({"theme": "Default", "abs_location": "/tmp/../a.pptx"});
    writer.call("ppt_create_file", arguments).unwrap();
    writer
        .call(
            "ppt_add_text_page",
            json!({"title": "a", "bullet_items": "b"}),
        )
        .unwrap();
    let error = writer.call("ppt_submit_file", json!({})).unwrap_err();
    assert!(matches!(error, ToolError::Denied { .. }), "{error}");
}

#[test]
fn limits_hold() {
    let config = PptConfig::default()
        .with_max_slides(2)
        .with_max_chars(10)
        .with_max_images(60);
    let writer = writer(&config);
    writer.create();
    let limit = |name: &str, arguments: Value| {
        let error = writer.call(name, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Limit { .. }),
            "{arguments}: {error}"
        );
    };
    let image = json!({"title": "a", "bullet_items": "b", "image": "dot.gif"});
    limit(
        "ppt_add_text_page",
        json!({"title": "a", "bullet_items": "x".repeat(11)}),
    );
    writer
        .call("ppt_add_text_image_page", image.clone())
        .unwrap();
    limit("ppt_add_text_image_page", image);
    writer
        .call("ppt_add_first_page", json!({"title": "a", "subtitle": ""}))
        .unwrap();
    limit("ppt_add_first_page", json!({"title": "a", "subtitle": ""}));
}

#[test]
fn paths_and_files_have_an_end() {
    let writer = writer(&PptConfig::default().with_max_path(12).with_max_file(1000));
    let create = |path: &str| {
        writer.call(
            "ppt_create_file",
            json!({"theme": "Default", "abs_location": path}),
        )
    };
    let error = create("folder/a.pptx").unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error}");
    create("b/talk.pptx").unwrap();
    let page = json!({"title": "a", "bullet_items": "b"});
    writer.call("ppt_add_text_page", page).unwrap();
    let error = writer.call("ppt_submit_file", json!({})).unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error}");
    assert!(!writer.folder.path().join("b").exists());
}
