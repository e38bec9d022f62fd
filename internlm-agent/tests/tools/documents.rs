//! `read_document` on files that other programs made, and on broken and hostile ones.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use internlm_agent::tool::{Tool, ToolContext, ToolError};
use internlm_agent::tools::Root;
use internlm_agent::tools::documents::{DocumentConfig, read_document};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hostile_documents::zip;

/// The folder with the files that `make.py` made.
fn fixtures() -> Root {
    Root::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/documents")).unwrap()
}

pub(crate) fn read_with(
    root: &Root,
    config: DocumentConfig,
    arguments: Value,
) -> Result<String, ToolError> {
    let tool = read_document(root, config);
    Ok(tool.call(&arguments, &ToolContext::default())?.to_text())
}

pub(crate) fn read(root: &Root, arguments: Value) -> Result<String, ToolError> {
    read_with(root, DocumentConfig::default(), arguments)
}

pub(crate) fn folder(files: &[(&str, &[u8])]) -> (TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let root = Root::open(folder.path()).unwrap();
    (folder, root)
}

#[test]
fn plain_text_is_read_in_its_encoding() {
    let page = b"<title>T</title><h1>One</h1><p>a <a href='b.html'>b</a>";
    let (_folder, root) = folder(&[
        ("a.txt", "数学\r\nand more".as_bytes()),
        (
            "gbk.txt",
            &[0xca, 0xfd, 0xd1, 0xa7, 0xca, 0xc7, 0xc3, 0xc0, 0xb5, 0xc4],
        ),
        ("utf16.txt", b"\xff\xfea\0b\0"),
        ("a.md", b"# One\n\n- two"),
        ("a.html", page),
        ("empty.txt", b""),
    ]);
    for (path, want) in [
        ("a.txt", "数学\r\nand more"),
        ("gbk.txt", "数学是美的"),
        ("utf16.txt", "ab"),
        ("a.md", "# One\n\n- two"),
        ("a.html", "Title: T\n\n# One\n\na [b](b.html)"),
        ("empty.txt", ""),
    ] {
        assert_eq!(read(&root, json!({"path": path})).unwrap(), want, "{path}");
    }
}

#[test]
fn a_pdf_is_read_page_by_page() {
    let want = "Pages: 3\n\n[page 1]\nLow-bit weights (2024)\n\nThe first line of a paragraph,\n\
                and its second line: café, 50 %.\n\nAnother paragraph.\n\n\
                [page 2]\n今天天气很好，我们去公园。\n\nx = [1, 2] right of it\n\n[page 3]";
    for path in ["report.pdf", "object_streams.pdf"] {
        assert_eq!(
            read(&fixtures(), json!({"path": path})).unwrap(),
            want,
            "{path}"
        );
    }
    let second = read(&fixtures(), json!({"path": "report.pdf", "pages": "2-2"})).unwrap();
    assert!(second.starts_with("Pages: 3\n\n[page 2]\n今天"), "{second}");
    let third = read(&fixtures(), json!({"path": "report.pdf", "pages": "3"})).unwrap();
    assert!(third.contains("there is no text on these pages"), "{third}");
    for path in ["figure_type3.pdf", "figure_type42.pdf"] {
        let told = read(&fixtures(), json!({"path": path})).unwrap();
        assert!(told.contains("Loss per step: α = 0.5\n"), "{path}: {told}");
        assert!(told.contains("Second line"), "{path}: {told}");
    }
}

#[test]
fn office_documents_are_read() {
    let told = read(&fixtures(), json!({"path": "report.docx"})).unwrap();
    let want = "# Low-bit weights\n\n# Why\n\nThey are small & fast <always>. 数学。\n\none\n\ntwo\n\n\
                | bits | size |\n| --- | --- |\n| 4 | 0.5 \\| GB |\n\nThe end.";
    assert_eq!(told, want);
    let told = read(&fixtures(), json!({"path": "slides.pptx"})).unwrap();
    let want = "Slides: 2\n\n[slide 1]\n\nFirst\n\nby someone\n\n[slide 2]\n\n数学\n\none\n\ntwo";
    assert_eq!(told, want);
    let told = read(&fixtures(), json!({"path": "slides.pptx", "pages": "2"})).unwrap();
    assert!(told.starts_with("Slides: 2\n\n[slide 2]\n\n数学"), "{told}");
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    for arguments in [
        json!({}),
        json!({"path": "report.pdf", "pages": "0"}),
        json!({"path": "report.pdf", "pages": "3-2"}),
        json!({"path": "report.pdf", "pages": "all"}),
        json!({"path": "report.pdf", "max_chars": 0}),
        json!({"path": "report.docx", "pages": "1"}),
        json!({"path": "make.py", "pages": "1"}),
    ] {
        let error = read(&fixtures(), arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Arguments { .. }),
            "{arguments}: {error}"
        );
    }
    let error = |arguments: Value| read(&fixtures(), arguments).unwrap_err().to_string();
    assert_eq!(error(json!({"path": "none.pdf"})), "there is no `none.pdf`");
    assert_eq!(
        error(json!({"path": "report.pdf", "pages": "4"})),
        "the PDF has 3 pages"
    );
    assert_eq!(
        error(json!({"path": "slides.pptx", "pages": "4"})),
        "the presentation has 2 slides"
    );
    assert!(error(json!({"path": "encrypted.pdf"})).contains("encrypted"));
    let (_folder, root) = folder(&[
        ("old.doc", b"\xd0\xcf\x11\xe0 old"),
        ("a.bin", &[1, 0, 2]),
        ("a.zip", &zip(&[])),
    ]);
    for (path, want) in [
        ("old.doc", "before 2007"),
        ("a.bin", "no text"),
        ("a.zip", "neither of Word"),
    ] {
        let error = read(&root, json!({"path": path})).unwrap_err();
        assert!(error.to_string().contains(want), "{path}: {error}");
    }
    let error = read(&root, json!({"path": "../a.txt"})).unwrap_err();
    assert!(matches!(error, ToolError::Denied { .. }), "{error}");
}

#[test]
fn limits_hold() {
    let limit = |path: &str, config: DocumentConfig| {
        let error = read_with(&fixtures(), config, json!({"path": path})).unwrap_err();
        assert!(matches!(error, ToolError::Limit { .. }), "{path}: {error}");
    };
    limit("report.pdf", DocumentConfig::default().with_max_bytes(100));
    limit(
        "report.pdf",
        DocumentConfig::default().with_max_unpacked(100),
    );
    limit(
        "report.docx",
        DocumentConfig::default().with_max_unpacked(10_000),
    );
    limit(
        "slides.pptx",
        DocumentConfig::default().with_max_unpacked(100),
    );
    let told = |config: DocumentConfig| {
        read_with(&fixtures(), config, json!({"path": "report.pdf"})).unwrap()
    };
    let few = told(DocumentConfig::default().with_max_pages(1));
    assert!(
        few.ends_with("Another paragraph.\n\n[only pages 1 to 1 were read]"),
        "{few}"
    );
    let short = told(DocumentConfig::default().with_max_chars(30));
    assert!(short.ends_with("go on with start=30]"), "{short}");
    let cut = told(DocumentConfig::default().with_max_text(40));
    assert!(
        cut.ends_with("[the document is longer than what is read of one]"),
        "{cut}"
    );

    let mut context = ToolContext::default();
    context.deadline = Some(Instant::now() - Duration::from_secs(1));
    let tool = read_document(&fixtures(), DocumentConfig::default());
    let error = tool
        .call(&json!({"path": "report.pdf"}), &context)
        .unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error}");
}
