//! Text of Word documents and presentations (ECMA-376): archives of XML.

use std::collections::BTreeMap;

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::{DocumentConfig, Pages, ReadText, limited};
use crate::tool::{ToolContext, ToolError};
use crate::tools::archive::Archive;
use crate::tools::charset::decode;
use crate::tools::xml::{attribute, prefixed, resolved};

pub(super) fn read(
    bytes: &[u8],
    pages: Option<Pages>,
    config: &DocumentConfig,
    context: &ToolContext,
) -> Result<ReadText, ToolError> {
    let archive = Archive::open(bytes)?;
    if archive.names().any(|name| name == "word/document.xml") {
        if pages.is_some() {
            return Err(super::wrong(
                "a Word document has no pages before it is printed; use `start`",
            ));
        }
        return word(&archive, config, context);
    }
    if archive.names().any(|name| name == "ppt/presentation.xml") {
        return slides(&archive, pages, config, context);
    }
    Err(ToolError::failed(
        "the file is an archive, but neither of Word (docx) nor of PowerPoint (pptx)",
    ))
}

/// A part of the archive as text, if it is there. What it has comes off the budget.
fn part(archive: &Archive<'_>, name: &str, left: &mut usize) -> Result<Option<String>, ToolError> {
    let Some(bytes) = archive.read(name, *left)? else {
        return Ok(None);
    };
    *left -= bytes.len();
    Ok(Some(decode(&bytes, None)))
}

fn word(
    archive: &Archive<'_>,
    config: &DocumentConfig,
    context: &ToolContext,
) -> Result<ReadText, ToolError> {
    let mut left = config.max_unpacked;
    let headings = match part(archive, "word/styles.xml", &mut left)? {
        Some(styles) => headings(&styles)?,
        None => BTreeMap::new(),
    };
    let mut out = Out::new(config.max_text);
    if let Some(document) = part(archive, "word/document.xml", &mut left)? {
        paragraphs(&document, &headings, &mut out, context)?;
    }
    for notes in ["word/footnotes.xml", "word/endnotes.xml"] {
        if let Some(text) = part(archive, notes, &mut left)? {
            paragraphs(&text, &headings, &mut out, context)?;
        }
    }
    let (text, cut) = out.finish();
    Ok(limited(text, String::new(), cut, config))
}

/// Text as it grows, up to a limit.
struct Out {
    text: String,
    max: usize,
}

impl Out {
    fn new(max: usize) -> Self {
        Self {
            text: String::new(),
            max,
        }
    }

    fn is_full(&self) -> bool {
        self.text.len() > self.max
    }

    fn line(&mut self, line: &str, gap: &str) {
        if !self.text.is_empty() {
            self.text.push_str(gap);
        }
        self.text.push_str(line);
    }

    fn finish(self) -> (String, bool) {
        let full = self.is_full();
        (self.text, full)
    }
}

fn broken(error: &dyn std::fmt::Display) -> ToolError {
    ToolError::failed(format!("the document is broken: {error}"))
}

/// The styles that are headings, with their level. Their identifiers differ from language to language, their names
/// do not.
fn headings(styles: &str) -> Result<BTreeMap<String, usize>, ToolError> {
    let mut found = BTreeMap::new();
    let mut reader = Reader::from_str(styles);
    let mut style = None;
    loop {
        match reader.read_event().map_err(|error| broken(&error))? {
            Event::Start(tag) if tag.local_name().as_ref() == "style" => {
                style = attribute(&tag, "styleId")
            }
            Event::Start(tag) | Event::Empty(tag) if tag.local_name().as_ref() == "name" => {
                let name = attribute(&tag, "val").unwrap_or_default().to_lowercase();
                let level = match name.strip_prefix("heading ") {
                    Some(level) => level.parse().ok().filter(|level| (1..=9).contains(level)),
                    None => (name == "title").then_some(1),
                };
                if let (Some(style), Some(level)) = (style.take(), level) {
                    found.insert(style, level);
                }
            }
            Event::Eof => return Ok(found),
            _ => {}
        }
    }
}

/// A paragraph as it is read.
#[derive(Default)]
struct Paragraph {
    text: String,
    style: String,
    /// The level in a list, if it is an item.
    list: Option<usize>,
}

/// Paragraphs as lines, tables as rows.
fn paragraphs(
    xml: &str,
    headings: &BTreeMap<String, usize>,
    out: &mut Out,
    context: &ToolContext,
) -> Result<(), ToolError> {
    let mut reader = Reader::from_str(xml);
    // Paragraphs are nested where a text box stands in one.
    let mut open: Vec<Paragraph> = Vec::new();
    // Cells of rows of tables that are open.
    let mut rows: Vec<Vec<String>> = Vec::new();
    let (mut in_text, mut skipped, mut events) = (false, 0_usize, 0_u32);
    let mut was_row = false;
    loop {
        events = events.wrapping_add(1);
        if events.is_multiple_of(4096) {
            context.check()?;
        }
        if out.is_full() {
            return Ok(());
        }
        let event = reader.read_event().map_err(|error| broken(&error))?;
        // The same content once more, for programs of old.
        let is_fallback = |name: &str| name == "Fallback" || name == "del";
        match &event {
            Event::Start(tag) if skipped > 0 || is_fallback(tag.local_name().as_ref()) => {
                skipped += 1;
                continue;
            }
            Event::End(_) if skipped > 0 => {
                skipped -= 1;
                continue;
            }
            Event::Eof => return Ok(()),
            _ if skipped > 0 => continue,
            _ => {}
        }
        match event {
            Event::Start(tag) => match tag.local_name().as_ref() {
                "p" => open.push(Paragraph::default()),
                "t" => in_text = true,
                "tr" => rows.push(Vec::new()),
                "tc" => {
                    if let Some(row) = rows.last_mut() {
                        row.push(String::new());
                    }
                }
                _ => property(&tag, &mut open),
            },
            Event::Empty(tag) => match tag.local_name().as_ref() {
                "p" => {}
                _ => property(&tag, &mut open),
            },
            Event::Text(text) if in_text => push(&mut open, &text.xml10_content()),
            Event::CData(text) if in_text => push(&mut open, &text.xml10_content()),
            Event::GeneralRef(reference) if in_text => {
                push(&mut open, &resolved(&reference));
            }
            Event::End(tag) => match tag.local_name().as_ref() {
                "t" => in_text = false,
                "p" => {
                    let Some(paragraph) = open.pop() else {
                        continue;
                    };
                    let line = paragraph.text.trim_end();
                    if line.trim().is_empty() {
                        continue;
                    }
                    if let Some(cell) = rows.last_mut().and_then(|row| row.last_mut()) {
                        if !cell.is_empty() {
                            cell.push(' ');
                        }
                        cell.push_str(&line.trim().replace('\n', " ").replace('|', "\\|"));
                        continue;
                    }
                    was_row = false;
                    match (headings.get(&paragraph.style), paragraph.list) {
                        (Some(level), _) => {
                            out.line(&format!("{} {}", "#".repeat(*level), line.trim()), "\n\n")
                        }
                        (None, Some(level)) => {
                            out.line(
                                &format!("{}- {}", "  ".repeat(level.min(8)), line.trim()),
                                "\n",
                            );
                        }
                        (None, None) => out.line(line, "\n\n"),
                    }
                }
                "tr" => {
                    let Some(row) = rows.pop() else {
                        continue;
                    };
                    let line = format!("| {} |", row.join(" | "));
                    // A table in a cell becomes a part of the cell.
                    if let Some(cell) = rows.last_mut().and_then(|row| row.last_mut()) {
                        cell.push_str(&row.join(" "));
                        continue;
                    }
                    out.line(&line, if was_row { "\n" } else { "\n\n" });
                    if !was_row {
                        out.line(&format!("|{}", " --- |".repeat(row.len())), "\n");
                    }
                    was_row = true;
                }
                "tbl" if rows.is_empty() => was_row = false,
                _ => {}
            },
            _ => {}
        }
    }
}

fn push(open: &mut [Paragraph], text: &str) {
    if let Some(paragraph) = open.last_mut() {
        paragraph.text.push_str(text);
    }
}

fn property(tag: &BytesStart<'_>, open: &mut [Paragraph]) {
    let Some(paragraph) = open.last_mut() else {
        return;
    };
    match tag.local_name().as_ref() {
        "pStyle" => paragraph.style = attribute(tag, "val").unwrap_or_default(),
        "numPr" => paragraph.list = Some(paragraph.list.unwrap_or(0)),
        "ilvl" => paragraph.list = attribute(tag, "val").and_then(|level| level.parse().ok()),
        "tab" if !paragraph.text.is_empty() => paragraph.text.push('\t'),
        "br" | "cr" => paragraph.text.push('\n'),
        "noBreakHyphen" => paragraph.text.push('\u{2011}'),
        _ => {}
    }
}

fn slides(
    archive: &Archive<'_>,
    pages: Option<Pages>,
    config: &DocumentConfig,
    context: &ToolContext,
) -> Result<ReadText, ToolError> {
    // By number, which is their order unless they were moved: then the presentation says it.
    let mut left = config.max_unpacked;
    let names = order(archive, &mut left)?;
    let count = names.len();
    let wanted = pages.unwrap_or(Pages {
        first: 1,
        last: count.max(1),
    });
    if wanted.first > count {
        return Err(ToolError::failed(format!(
            "the presentation has {count} slides"
        )));
    }
    let mut out = Out::new(config.max_text);
    let chosen = names
        .iter()
        .enumerate()
        .take(wanted.last)
        .skip(wanted.first - 1);
    for (at, name) in chosen {
        context.check()?;
        if out.is_full() {
            break;
        }
        out.line(&format!("[slide {}]", at + 1), "\n\n");
        if let Some(xml) = part(archive, name, &mut left)? {
            paragraphs(&xml, &BTreeMap::new(), &mut out, context)?;
        }
    }
    let (text, cut) = out.finish();
    Ok(limited(text, format!("Slides: {count}"), cut, config))
}

/// The files of the slides, in the order in which they are shown.
fn order(archive: &Archive<'_>, left: &mut usize) -> Result<Vec<String>, ToolError> {
    let relations = part(archive, "ppt/_rels/presentation.xml.rels", left)?.unwrap_or_default();
    let mut targets = BTreeMap::new();
    each(&relations, "Relationship", |tag| {
        if let (Some(id), Some(target)) = (attribute(tag, "Id"), attribute(tag, "Target")) {
            let name = match target.strip_prefix('/') {
                Some(whole) => whole.to_owned(),
                None => format!("ppt/{target}"),
            };
            targets.insert(id, name);
        }
    })?;
    let presentation = part(archive, "ppt/presentation.xml", left)?.unwrap_or_default();
    let mut names = Vec::new();
    each(&presentation, "sldId", |tag| {
        // The attribute is `r:id`; there is a number `id`, too.
        let id = prefixed(tag, "id");
        if let Some(name) = id.and_then(|id| targets.get(&id)) {
            names.push(name.clone());
        }
    })?;
    Ok(names)
}

/// Calls for each element of a name.
fn each(xml: &str, name: &str, mut found: impl FnMut(&BytesStart<'_>)) -> Result<(), ToolError> {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event().map_err(|error| broken(&error))? {
            Event::Start(tag) | Event::Empty(tag) if tag.local_name().as_ref() == name => {
                found(&tag)
            }
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}
