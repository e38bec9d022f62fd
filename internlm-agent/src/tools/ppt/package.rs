//! The files of a presentation (ECMA-376, part 1, chapters 13 and 19).

use super::parts::{self, BODY, LEFT, RIGHT};
use super::picture::Picture;
use crate::tool::ToolError;
use crate::tools::archive::ArchiveWriter;

/// A presentation.
#[derive(Debug)]
pub(super) struct Deck {
    pub(super) location: String,
    pub(super) slides: Vec<Slide>,
}

#[derive(Debug)]
pub(super) enum Slide {
    Title {
        title: String,
        subtitle: String,
    },
    Text {
        title: String,
        items: Vec<String>,
    },
    Picture {
        title: String,
        items: Vec<String>,
        picture: Picture,
    },
}

impl Slide {
    pub(super) fn picture(&self) -> Option<&Picture> {
        match self {
            Self::Picture { picture, .. } => Some(picture),
            _ => None,
        }
    }

    /// The number of its layout.
    fn layout(&self) -> usize {
        match self {
            Self::Title { .. } => 1,
            Self::Text { .. } => 2,
            Self::Picture { .. } => 3,
        }
    }

    fn shapes(&self) -> String {
        match self {
            Self::Title { title, subtitle } => {
                let items = [subtitle.clone()];
                let items = if subtitle.is_empty() {
                    &[]
                } else {
                    items.as_slice()
                };
                shape(
                    2,
                    "Title 1",
                    "type=\"ctrTitle\"",
                    std::slice::from_ref(title),
                ) + &shape(3, "Subtitle 2", "type=\"subTitle\" idx=\"1\"", items)
            }
            Self::Text { title, items } => {
                shape(2, "Title 1", "type=\"title\"", std::slice::from_ref(title))
                    + &shape(3, "Content Placeholder 2", "idx=\"1\"", items)
            }
            Self::Picture {
                title,
                items,
                picture,
            } => {
                shape(2, "Title 1", "type=\"title\"", std::slice::from_ref(title))
                    + &shape(3, "Content Placeholder 2", "sz=\"half\" idx=\"1\"", items)
                    + &picture_shape(picture)
            }
        }
    }
}

/// The whole file.
pub(super) fn write(deck: &Deck) -> Result<Vec<u8>, ToolError> {
    let mut archive = ArchiveWriter::default();
    let mut add = |name: &str, text: String| archive.add(name, text.as_bytes());
    let count = deck.slides.len();
    add("[Content_Types].xml", content_types(count))?;
    add(
        "_rels/.rels",
        relations(&[("officeDocument", "ppt/presentation.xml")]),
    )?;
    add("ppt/presentation.xml", parts::presentation(count))?;
    let mut targets = vec![
        ("slideMaster", "slideMasters/slideMaster1.xml".to_owned()),
        ("theme", "theme/theme1.xml".to_owned()),
    ];
    targets.extend((1..=count).map(|n| ("slide", format!("slides/slide{n}.xml"))));
    add("ppt/_rels/presentation.xml.rels", relations(&targets))?;
    add("ppt/theme/theme1.xml", parts::theme())?;
    add("ppt/slideMasters/slideMaster1.xml", parts::master())?;
    let mut targets: Vec<(&str, String)> = (1..=3)
        .map(|n| ("slideLayout", format!("../slideLayouts/slideLayout{n}.xml")))
        .collect();
    targets.push(("theme", "../theme/theme1.xml".to_owned()));
    add(
        "ppt/slideMasters/_rels/slideMaster1.xml.rels",
        relations(&targets),
    )?;
    for (number, layout) in (1..).zip(parts::layouts()) {
        add(&format!("ppt/slideLayouts/slideLayout{number}.xml"), layout)?;
        let targets = [("slideMaster", "../slideMasters/slideMaster1.xml")];
        add(
            &format!("ppt/slideLayouts/_rels/slideLayout{number}.xml.rels"),
            relations(&targets),
        )?;
    }
    for (number, slide) in (1..).zip(&deck.slides) {
        add(
            &format!("ppt/slides/slide{number}.xml"),
            parts::slide(&slide.shapes()),
        )?;
        let layout = format!("../slideLayouts/slideLayout{}.xml", slide.layout());
        let mut targets = vec![("slideLayout", layout)];
        if let Some(picture) = slide.picture() {
            targets.push((
                "image",
                format!("../media/image{number}.{}", picture.ending),
            ));
        }
        add(
            &format!("ppt/slides/_rels/slide{number}.xml.rels"),
            relations(&targets),
        )?;
    }
    for (number, slide) in (1..).zip(&deck.slides) {
        if let Some(picture) = slide.picture() {
            let name = format!("ppt/media/image{number}.{}", picture.ending);
            archive.add(&name, &picture.bytes)?;
        }
    }
    Ok(archive.finish())
}

fn content_types(slides: usize) -> String {
    let mut text = String::from(parts::HEAD);
    text.push_str("<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">");
    for (ending, kind) in [
        (
            "rels",
            "application/vnd.openxmlformats-package.relationships+xml",
        ),
        ("xml", "application/xml"),
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("gif", "image/gif"),
        ("bmp", "image/bmp"),
    ] {
        text.push_str(&format!(
            "<Default Extension=\"{ending}\" ContentType=\"{kind}\"/>"
        ));
    }
    let mut part = |name: &str, kind: &str| {
        text.push_str(&format!(
            "<Override PartName=\"/ppt/{name}\" ContentType=\"application/vnd.openxmlformats-officedocument.{kind}+xml\"/>"
        ));
    };
    part("presentation.xml", "presentationml.presentation.main");
    part(
        "slideMasters/slideMaster1.xml",
        "presentationml.slideMaster",
    );
    part("theme/theme1.xml", "theme");
    for number in 1..=3 {
        part(
            &format!("slideLayouts/slideLayout{number}.xml"),
            "presentationml.slideLayout",
        );
    }
    for number in 1..=slides {
        part(&format!("slides/slide{number}.xml"), "presentationml.slide");
    }
    text.push_str("</Types>");
    text
}

/// Relations by kind and target; they are called `rId1`, `rId2` and so on.
fn relations<T: AsRef<str>>(targets: &[(&str, T)]) -> String {
    let mut text = String::from(parts::HEAD);
    text.push_str(
        "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">",
    );
    for (number, (kind, target)) in (1..).zip(targets) {
        let target = target.as_ref();
        text.push_str(&format!(
            "<Relationship Id=\"rId{number}\" Type=\"{}/{kind}\" Target=\"{target}\"/>",
            parts::RELATIONS
        ));
    }
    text.push_str("</Relationships>");
    text
}

/// A place of the layout, filled with paragraphs.
fn shape(id: u32, name: &str, place: &str, paragraphs: &[String]) -> String {
    let mut text = format!(
        "<p:sp><p:nvSpPr><p:cNvPr id=\"{id}\" name=\"{name}\"/><p:cNvSpPr><a:spLocks noGrp=\"1\"/></p:cNvSpPr>\
         <p:nvPr><p:ph {place}/></p:nvPr></p:nvSpPr><p:spPr/><p:txBody><a:bodyPr/><a:lstStyle/>"
    );
    for paragraph in paragraphs {
        text.push_str("<a:p>");
        for (number, line) in paragraph.lines().enumerate() {
            if number > 0 {
                text.push_str("<a:br/>");
            }
            text.push_str(&format!(
                "<a:r><a:rPr lang=\"en-US\"/><a:t>{}</a:t></a:r>",
                escaped(line)
            ));
        }
        text.push_str("</a:p>");
    }
    if paragraphs.is_empty() {
        text.push_str("<a:p/>");
    }
    text.push_str("</p:txBody></p:sp>");
    text
}

/// An image in the middle of the right half, as large as it can be there.
fn picture_shape(picture: &Picture) -> String {
    let [left, top, width, height] = RIGHT;
    let (own_width, own_height) = (u64::from(picture.width), u64::from(picture.height));
    let (mut shown_width, mut shown_height) = (width, width * own_height / own_width);
    if shown_height > height {
        (shown_width, shown_height) = (height * own_width / own_height, height);
    }
    let (shown_width, shown_height) = (shown_width.max(1), shown_height.max(1));
    let x = left + (width - shown_width) / 2;
    let y = top + (height - shown_height) / 2;
    format!(
        "<p:pic><p:nvPicPr><p:cNvPr id=\"4\" name=\"Picture 3\"/><p:cNvPicPr><a:picLocks noChangeAspect=\"1\"/>\
         </p:cNvPicPr><p:nvPr/></p:nvPicPr><p:blipFill><a:blip r:embed=\"rId2\"/><a:stretch><a:fillRect/></a:stretch>\
         </p:blipFill><p:spPr><a:xfrm><a:off x=\"{x}\" y=\"{y}\"/><a:ext cx=\"{shown_width}\" cy=\"{shown_height}\"/>\
         </a:xfrm><a:prstGeom prst=\"rect\"><a:avLst/></a:prstGeom></p:spPr></p:pic>"
    )
}

/// A text within XML: without characters that XML 1.0 does not have.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push(' '),
            '\u{fffe}' | '\u{ffff}' => {}
            other if other.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

const _: () = {
    // The halves are within the body.
    assert!(LEFT[0] == BODY[0] && RIGHT[0] + RIGHT[2] == BODY[0] + BODY[2]);
};
