//! The stages as a page: one file that loads nothing.

use std::path::Path;

use internlm_examples::{Error, Result};

use crate::about::About;
use crate::stage::Stage;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1b1f24;background:#fff}table{border-collapse:collapse;width:100%}th,td{text-align:left;\
padding:.5rem .75rem;border-bottom:1px solid #d8dee4;vertical-align:top}td.figure{white-space:nowrap;\
text-align:right}dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem}dd{margin:0;\
overflow-wrap:anywhere}.wide{overflow-x:auto}@media(prefers-color-scheme:dark){body{color:#e6edf3;\
background:#0d1117}th,td{border-color:#30363d}a{color:#58a6ff}}";

/// Pages of the stages, beside this one.
const PAGES: [(&str, &str); 3] = [
    ("eval-before/report.html", "evaluation before"),
    ("eval-after/report.html", "evaluation after"),
    ("agent.html", "what the agent did"),
];

/// Writes the page.
///
/// # Errors
/// The file can't be written.
pub(crate) fn write(file: &Path, about: &About, stages: &[Stage]) -> Result<()> {
    let rows: String = stages.iter().map(row).collect();
    let beside = file.parent().unwrap_or(Path::new("."));
    let pages = PAGES.iter().filter(|(page, _)| beside.join(page).exists());
    let links: String = pages
        .map(|(page, name)| format!("<li><a href=\"{page}\">{name}</a></li>"))
        .collect();
    let date = stages.iter().map(|stage| stage.date.as_str()).max();
    let date = format!("{} UTC", date.unwrap_or_default());
    let facts = about.facts().into_iter().chain([("date", &*date)]);
    let facts: String = facts
        .map(|(name, value)| format!("<dt>{name}<dd>{}", escaped(value)))
        .collect();
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Pipeline</title><style>{STYLE}</style><h1>Pipeline</h1>\
         <dl>{facts}</dl><div class=\"wide\"><table><tr><th>stage<th>what came out<th>size<th>time<th>done (UTC)<th>quality</tr>{rows}</table>\
         </div><ul>{links}</ul></html>\n"
    );
    let temporary = file.with_extension("tmp");
    let io = || Error::io(file.display().to_string());
    std::fs::write(&temporary, html).map_err(io())?;
    std::fs::rename(&temporary, file).map_err(io())
}

fn row(stage: &Stage) -> String {
    format!(
        "<tr><td>{}<td>{}<td class=\"figure\">{}<td class=\"figure\">{}<td class=\"figure\">{}<td>{}</tr>",
        escaped(&stage.stage),
        escaped(&stage.what),
        stage.size(),
        stage.time(),
        escaped(&stage.date),
        escaped(stage.quality.as_deref().unwrap_or_default()),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
