//! `read_document` on files that other programs made, and on broken and hostile ones.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};
use internlm_agent::tool::{Tool, ToolContext, ToolError};
use internlm_agent::tools::Root;
use internlm_agent::tools::documents::{DocumentConfig, read_document};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The folder with the files that `make.py` made.
fn fixtures() -> Root {
    Root::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/documents")).unwrap()
}

fn read_with(root: &Root, config: DocumentConfig, arguments: Value) -> Result<String, ToolError> {
    let tool = read_document(root, config);
    Ok(tool.call(&arguments, &ToolContext::default())?.to_text())
}

fn read(root: &Root, arguments: Value) -> Result<String, ToolError> {
    read_with(root, DocumentConfig::default(), arguments)
}

fn folder(files: &[(&str, &[u8])]) -> (TempDir, Root) {
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

/// An archive with these files, deflated. Checksums are those of the content.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut list) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        let packed = encoder.finish().unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let mut head = vec![20, 0, 0, 0, 8, 0, 0, 0, 0, 0];
        head.extend(crc.sum().to_le_bytes());
        head.extend((packed.len() as u32).to_le_bytes());
        head.extend((content.len() as u32).to_le_bytes());
        head.extend((name.len() as u16).to_le_bytes());
        head.extend([0, 0]);
        list.extend(b"PK\x01\x02\x14\0");
        list.extend(&head);
        list.extend([0; 10]);
        list.extend((bytes.len() as u32).to_le_bytes());
        list.extend(name.as_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&head);
        bytes.extend(name.as_bytes());
        bytes.extend(packed);
    }
    let (at, length) = (bytes.len() as u32, list.len() as u32);
    bytes.extend(list);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend((files.len() as u16).to_le_bytes());
    bytes.extend((files.len() as u16).to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(at.to_le_bytes());
    bytes.extend([0, 0]);
    // An archive without files begins with its end.
    match files.is_empty() {
        true => [b"PK\x03\x04".as_slice(), &bytes].concat(),
        false => bytes,
    }
}

#[test]
fn bombs_in_archives_end_at_the_limit() {
    // 64 MB of spaces in 64 KB.
    let spaces = vec![b' '; 64 << 20];
    let document = [
        b"<document><p><t>".as_slice(),
        &spaces,
        b"</t></p></document>",
    ]
    .concat();
    let deep = format!("{}<p><t>deep</t></p>", "<sdt>".repeat(200_000));
    let deep = format!("{deep}{}", "</sdt>".repeat(200_000));
    let names = format!("<p {}><t>a</t></p>", "a=\"\" ".repeat(200_000));
    let entities =
        "<!DOCTYPE p [<!ENTITY a \"xxxxxxxxxx\"><!ENTITY b \"&a;&a;&a;\">]><p><t>y&b;</t></p>";
    let file = |content: &[u8]| zip(&[("word/document.xml", content)]);
    let (_folder, root) = folder(&[
        ("bomb.docx", &file(&document)),
        ("deep.docx", &file(deep.as_bytes())),
        ("names.docx", &file(names.as_bytes())),
        ("entities.docx", &file(entities.as_bytes())),
        ("broken.docx", &file(b"<p><t>a</p>")),
    ]);
    assert!(
        fs::metadata(_folder.path().join("bomb.docx"))
            .unwrap()
            .len()
            < 100_000
    );
    let config = DocumentConfig::default().with_max_unpacked(1 << 20);
    let error = read_with(&root, config, json!({"path": "bomb.docx"})).unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error}");
    for (path, want) in [
        ("deep.docx", "deep"),
        ("names.docx", "a"),
        ("entities.docx", "y"),
    ] {
        assert_eq!(read(&root, json!({"path": path})).unwrap(), want, "{path}");
    }
    let error = read(&root, json!({"path": "broken.docx"})).unwrap_err();
    assert!(
        error.to_string().starts_with("the document is broken: "),
        "{error}"
    );
}

/// A PDF of these objects, numbered from 1, of which the first is the catalog. It has no table.
fn pdf(objects: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    for (number, object) in (1..).zip(objects) {
        bytes.extend(format!("{number} 0 obj\n").bytes());
        bytes.extend(*object);
        bytes.extend(b"\nendobj\n");
    }
    bytes.extend(b"trailer <</Root 1 0 R>>\n%%EOF");
    bytes
}

fn stream(dict: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!("<<{dict}/Length {}>>stream\n", bytes.len());
    [head.as_bytes(), bytes, b"\nendstream"].concat()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const CATALOG: &[u8] = b"<</Type/Catalog/Pages 2 0 R>>";
const ONE_PAGE: &[u8] = b"<</Type/Pages/Kids[3 0 R]/Count 1>>";
const PAGE: &[u8] =
    b"<</Type/Page/Contents 4 0 R/Resources<</Font<</F 5 0 R>>/XObject<</X 4 0 R>>>>>>";
const FONT: &[u8] = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>";

#[test]
fn hostile_pdfs_end_at_a_limit_or_with_what_is_readable() {
    let good = stream("", b"BT /F 10 Tf 10 700 Td (Hello) Tj ( world) Tj ET");
    let itself = stream(
        "/Subtype/Form",
        b"BT /F 10 Tf (x) Tj ET /X Do /X Do /X Do /X Do /X Do /X Do /X Do /X Do /X Do",
    );
    let bomb = stream("/Filter/FlateDecode", &deflated(&vec![b' '; 64 << 20]));
    let twice = deflated(&deflated(&vec![b' '; 64 << 20]));
    let twice = stream("/Filter[/FlateDecode/FlateDecode]", &twice);
    let brackets = stream("", "[".repeat(1 << 20).as_bytes());
    let ones = stream("", format!("[{}] TJ", "1 ".repeat(4 << 20)).as_bytes());
    let kids = format!("<</Type/Pages/Kids[{}]>>", "2 0 R 3 0 R ".repeat(40_000));
    let inside = stream(
        "/Type/ObjStm/N 999999999/First 0/Filter/FlateDecode",
        &deflated(b"6 0 7 1 8 1"),
    );
    let map = b"1 begincodespacerange <00> <ff> endcodespacerange \
                1 beginbfrange <48> <7a> <00780078007800780078007800780078> endbfrange";
    let wide = [
        b"<</Type/Font/Subtype/Type1/ToUnicode 6 0 R/FirstChar 0/Widths[".as_slice(),
        b"99 0 R]>>",
    ]
    .concat();
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("good.pdf", pdf(&[CATALOG, ONE_PAGE, PAGE, &good, FONT])),
        ("itself.pdf", pdf(&[CATALOG, ONE_PAGE, PAGE, &itself, FONT])),
        ("bomb.pdf", pdf(&[CATALOG, ONE_PAGE, PAGE, &bomb, FONT])),
        ("twice.pdf", pdf(&[CATALOG, ONE_PAGE, PAGE, &twice, FONT])),
        (
            "brackets.pdf",
            pdf(&[CATALOG, ONE_PAGE, PAGE, &brackets, FONT]),
        ),
        ("ones.pdf", pdf(&[CATALOG, ONE_PAGE, PAGE, &ones, FONT])),
        (
            "kids.pdf",
            pdf(&[CATALOG, kids.as_bytes(), PAGE, &good, FONT]),
        ),
        (
            "inside.pdf",
            pdf(&[CATALOG, ONE_PAGE, PAGE, &good, FONT, &inside]),
        ),
        (
            "map.pdf",
            pdf(&[CATALOG, ONE_PAGE, PAGE, &good, &wide, &stream("", map)]),
        ),
        ("loop.pdf", pdf(&[b"2 0 R", b"1 0 R"])),
        (
            "marks.pdf",
            [
                b"%PDF-1.4\n".as_slice(),
                "1 0 obj(".repeat(1 << 18).as_bytes(),
            ]
            .concat(),
        ),
        ("head.pdf", b"%PDF-1.4".to_vec()),
    ];
    let listed: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (*name, bytes.as_slice()))
        .collect();
    let (_folder, root) = folder(&listed);
    let config = || DocumentConfig::default().with_max_unpacked(16 << 20);
    let ask = |path: &str| read_with(&root, config(), json!({"path": path}));
    assert_eq!(
        ask("good.pdf").unwrap(),
        "Pages: 1\n\n[page 1]\nHello world"
    );
    for path in ["bomb.pdf", "twice.pdf", "itself.pdf"] {
        let error = ask(path).map(|text| text.len()).unwrap_err();
        assert!(matches!(error, ToolError::Limit { .. }), "{path}: {error}");
    }
    for path in ["loop.pdf", "marks.pdf", "head.pdf"] {
        let error = ask(path).unwrap_err();
        assert!(matches!(error, ToolError::Failed { .. }), "{path}: {error}");
    }
    for path in ["brackets.pdf", "ones.pdf"] {
        assert!(ask(path).unwrap().contains("there is no text"), "{path}");
    }
    // A page that is listed again is one page.
    assert_eq!(
        ask("kids.pdf").unwrap(),
        "Pages: 1\n\n[page 1]\nHello world"
    );
    assert!(ask("inside.pdf").unwrap().ends_with("Hello world"));
    assert!(ask("map.pdf").unwrap().contains("xxxxxxx"));
}

#[test]
fn a_damaged_pdf_is_no_panic() {
    let whole = fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/documents/object_streams.pdf"),
    )
    .unwrap();
    let (folder, root) = folder(&[]);
    let path = folder.path().join("a.pdf");
    let mut read_some = 0;
    for at in (0..whole.len()).step_by(37) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        read_some += usize::from(read(&root, json!({"path": "a.pdf"})).is_ok());
        fs::write(&path, &whole[..at]).unwrap();
        read(&root, json!({"path": "a.pdf"})).ok();
    }
    assert!(read_some > 20, "{read_some}");
}
