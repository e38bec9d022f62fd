//! Feeds in Atom (RFC 4287), as far as arXiv's need it.

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use crate::tool::ToolError;
use crate::tools::xml::{attribute, resolved};

/// A feed.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// How many entries there are in all, if the feed says it.
    pub(super) total: Option<u64>,
    /// The entries.
    pub(super) entries: Vec<Entry>,
}

/// An entry.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) summary: String,
    pub(super) published: String,
    pub(super) updated: String,
    pub(super) comment: String,
    pub(super) journal: String,
    pub(super) doi: String,
    pub(super) authors: Vec<String>,
    pub(super) categories: Vec<String>,
    pub(super) pdf: Option<String>,
}

/// Reads a feed, at most `max_entries` of it.
pub(super) fn read(xml: &str, max_entries: usize) -> Result<Feed, ToolError> {
    let broken =
        |error: &dyn std::fmt::Display| ToolError::failed(format!("the feed is broken: {error}"));
    let mut reader = Reader::from_str(xml);
    let mut feed = Feed::default();
    let mut entry: Option<Entry> = None;
    let (mut text, mut is_feed) = (String::new(), false);
    loop {
        match reader.read_event().map_err(|error| broken(&error))? {
            Event::Start(tag) => {
                text.clear();
                match tag.local_name().as_ref() {
                    "feed" => is_feed = true,
                    "entry" => entry = Some(Entry::default()),
                    _ => {}
                }
                if let Some(entry) = &mut entry {
                    by_attributes(&tag, entry);
                }
            }
            Event::Empty(tag) => {
                if let Some(entry) = &mut entry {
                    by_attributes(&tag, entry);
                }
            }
            Event::Text(part) => text.push_str(&part.xml10_content()),
            Event::CData(part) => text.push_str(&part.xml10_content()),
            Event::GeneralRef(reference) => text.push_str(&resolved(&reference)),
            Event::End(tag) => {
                let value = text.split_whitespace().collect::<Vec<_>>().join(" ");
                text.clear();
                match (tag.local_name().as_ref(), &mut entry) {
                    ("entry", _) => {
                        feed.entries.extend(entry.take());
                        if feed.entries.len() >= max_entries {
                            break;
                        }
                    }
                    ("totalResults", _) => feed.total = value.parse().ok(),
                    ("id", Some(entry)) => entry.id = value,
                    ("title", Some(entry)) => entry.title = value,
                    ("summary", Some(entry)) => entry.summary = value,
                    ("published", Some(entry)) => entry.published = value,
                    ("updated", Some(entry)) => entry.updated = value,
                    ("comment", Some(entry)) => entry.comment = value,
                    ("journal_ref", Some(entry)) => entry.journal = value,
                    ("doi", Some(entry)) => entry.doi = value,
                    ("name", Some(entry)) => entry.authors.push(value),
                    _ => {}
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    match is_feed {
        true => Ok(feed),
        false => Err(broken(&"it is no Atom feed")),
    }
}

fn by_attributes(tag: &BytesStart<'_>, entry: &mut Entry) {
    let value = |name: &str| attribute(tag, name);
    match tag.local_name().as_ref() {
        "category" => entry.categories.extend(value("term")),
        "link" if value("type").is_some_and(|kind| kind == "application/pdf") => {
            entry.pdf = value("href");
        }
        _ => {}
    }
}
