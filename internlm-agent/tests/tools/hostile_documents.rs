//! `read_document` on hostile and damaged files.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};
use internlm_agent::tool::ToolError;
use internlm_agent::tools::documents::DocumentConfig;
use serde_json::json;

use crate::documents::{folder, read, read_with};

/// An archive with these files, deflated. Checksums are those of the content.
pub(crate) fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
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
