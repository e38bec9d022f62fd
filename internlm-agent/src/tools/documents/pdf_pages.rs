//! Pages of a PDF as text.

use super::pdf::{PageText, Pdf};
use super::{DocumentConfig, Pages, ReadText, limited};
use crate::tool::{ToolContext, ToolError};

pub(super) fn read(
    bytes: &[u8],
    pages: Option<Pages>,
    config: &DocumentConfig,
    context: &ToolContext,
) -> Result<ReadText, ToolError> {
    let pdf = Pdf::open(bytes, config.max_unpacked)?;
    let all = pdf.pages()?;
    let count = all.len();
    let wanted = pages.unwrap_or(Pages {
        first: 1,
        last: count,
    });
    if wanted.first > count {
        return Err(ToolError::failed(format!("the PDF has {count} pages")));
    }
    let most = wanted
        .first
        .saturating_add(config.max_pages.saturating_sub(1));
    let last = wanted.last.min(count).min(most);
    let mut reader = PageText::new(&pdf, config.max_text, context);
    let mut any = false;
    for number in wanted.first..=last {
        context.check()?;
        if reader.is_full() {
            break;
        }
        if !reader.text.is_empty() {
            reader.text.push_str("\n\n");
        }
        reader.text.push_str(&format!("[page {number}]\n"));
        let before = reader.text.len();
        if let Some(page) = all.get(number - 1) {
            reader.add(page)?;
        }
        any |= !reader.text[before..].trim().is_empty();
        reader.text.truncate(reader.text.trim_end().len());
    }
    let mut notes = Vec::new();
    if !any {
        notes.push("there is no text on these pages; they may be pictures of text".to_owned());
    }
    if reader.unknown > 0 {
        notes.push(format!(
            "{} characters could not be read, because the PDF does not say what they are",
            reader.unknown
        ));
    }
    if last < wanted.last.min(count) {
        notes.push(format!("only pages {} to {last} were read", wanted.first));
    }
    let full = reader.is_full();
    let mut read = limited(reader.text, format!("Pages: {count}"), full, config);
    if !read.note.is_empty() {
        notes.push(read.note);
    }
    read.note = notes.join("; ");
    Ok(read)
}
