//! Rows from plain text: whole files, lines, or the articles of WikiText.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Keep;
use super::lines::Lines;
use crate::error::Result;
use crate::item::Row;

/// How plain text is cut to rows. The column is `text`, for articles `page`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Records {
    /// The file is one row.
    #[default]
    Whole,
    /// A row a line, without its end.
    Lines,
    /// A row an article: a line ` = Title = ` of one level begins one, as in `wikitext_document_level`.
    Articles,
}

pub(super) fn rows(text: &mut Lines<'_>, records: Records, keep: &mut Keep<'_>) -> Result<()> {
    match records {
        Records::Whole => {
            let all = text.rest()?;
            if !all.is_empty() {
                keep(row("text", all));
            }
        }
        Records::Lines => {
            while let Some(line) = text.next()? {
                if !keep(row("text", line.trim_end_matches(['\n', '\r']).to_owned())) {
                    break;
                }
            }
        }
        Records::Articles => articles(text, keep)?,
    }
    Ok(())
}

/// An article begins with its title and ends before the next one; ends of lines are between its lines only. What
/// stands before the first title is an article if it is not blank, as in the hub's `wikitext_document_level`.
fn articles(text: &mut Lines<'_>, keep: &mut Keep<'_>) -> Result<()> {
    let mut page: Vec<String> = Vec::new();
    let mut ended = true;
    while let Some(line) = text.next()? {
        ended = line.ends_with('\n');
        let line = line.strip_suffix('\n').unwrap_or(&line);
        if is_title(line) {
            let done = std::mem::take(&mut page).join("\n");
            if !done.trim().is_empty() && !keep(row("page", done)) {
                return Ok(());
            }
        }
        page.push(line.to_owned());
    }
    if ended {
        page.push(String::new());
    }
    let last = page.join("\n");
    if !last.trim().is_empty() {
        keep(row("page", last));
    }
    Ok(())
}

/// ` = Title = `, but not ` = = Section = = `.
fn is_title(line: &str) -> bool {
    let line = line.replace("= = =", "===").replace("= =", "==");
    let line = line.trim();
    line.starts_with("= ") && line.ends_with(" =")
}

fn row(column: &str, text: String) -> Row {
    [(column.to_owned(), Value::from(text))]
        .into_iter()
        .collect()
}
