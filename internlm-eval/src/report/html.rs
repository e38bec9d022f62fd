//! One page with everything, that loads nothing.
//!
//! Texts of data sets and models are not trusted: in the page's own markup they are escaped, and the items are JSON
//! that the script shows as text, never as markup. A policy in the page keeps it from loading anything.

use std::fmt::Write as _;

use super::rows::short;
use super::table::{Align, Table};
use super::{Comparison, Report, bars, heat, items};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

pub(super) fn page(report: &Report, comparison: Option<&Comparison>) -> String {
    let model = escape(&report.model.name);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{model}: evaluation</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{model}</h1>\n<dl>\n"
    );
    for (name, value) in report.facts() {
        let _ = writeln!(
            page,
            "<div><dt>{name}</dt><dd>{}</dd></div>",
            escape(&value)
        );
    }
    page.push_str("</dl>\n</header>\n<main>\n");
    section(&mut page, "results", "Results", &table(&report.rows()));
    let bars = bars::bars(report);
    if !bars.is_empty() {
        section(
            &mut page,
            "plot",
            "Headline figures, with 95 % intervals",
            &bars,
        );
    }
    for (name, grid) in heat::grids(report) {
        let title = format!("{}: by depth and length", escape(&name));
        section(&mut page, "heat", &title, &grid);
    }
    if let Some(comparison) = comparison {
        let mut body = table(&comparison.rows());
        for (benchmark, why) in &comparison.left_out {
            let _ = writeln!(body, "<p>{}: {}</p>", escape(benchmark), escape(why));
        }
        let (first, second) = (escape(&comparison.first), escape(&comparison.second));
        let title = format!("{first} and {second}, item by item");
        section(&mut page, "comparison", &title, &body);
    }
    section(&mut page, "items", "Items", BROWSER);
    section(&mut page, "hashes", "What was run", &table(&hashes(report)));
    page.push_str("</main>\n<script type=\"application/json\" id=\"data\">");
    page.push_str(&embedded(&items::data(report)));
    let _ = write!(
        page,
        "</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    );
    page
}

/// What the script fills.
const BROWSER: &str = "<form id=\"filters\">\n\
    <label>Data set <select id=\"benchmark\"></select></label>\n\
    <label>Show <select id=\"show\"><option value=\"all\">all</option><option value=\"wrong\">wrong</option>\
    <option value=\"right\">right</option><option value=\"failed\">failed</option></select></label>\n\
    <label>Search <input id=\"search\" type=\"search\" autocomplete=\"off\"></label>\n</form>\n\
    <p id=\"count\" role=\"status\"></p>\n<noscript><p>The items are shown by a script.</p></noscript>\n\
    <ol id=\"list\"></ol>\n\
    <nav id=\"pages\"><button type=\"button\" id=\"previous\">Previous</button><span id=\"page\"></span>\
    <button type=\"button\" id=\"next\">Next</button></nav>\n";

fn section(page: &mut String, id: &str, title: &str, body: &str) {
    let _ = write!(
        page,
        "<section class=\"{id}\">\n<h2>{title}</h2>\n{body}</section>\n"
    );
}

fn hashes(report: &Report) -> Table {
    let mut table = Table::new(&[
        ("dataset", Align::Left),
        ("rules", Align::Left),
        ("mode", Align::Left),
        ("shots", Align::Right),
        ("prompt sha256", Align::Left),
        ("data sha256", Align::Left),
    ]);
    for benchmark in &report.benchmarks {
        let identity = &benchmark.identity;
        table.push(vec![
            benchmark.name.clone(),
            identity.rules.clone(),
            identity.mode.clone(),
            identity.shots.to_string(),
            short(&identity.prompt_hash, 16).to_owned(),
            short(&identity.data_hash, 16).to_owned(),
        ]);
    }
    table
}

fn table(table: &Table) -> String {
    let class = |align: &Align| match align {
        Align::Left => "",
        Align::Right => " class=\"number\"",
    };
    let mut html = String::from("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>");
    for (name, align) in &table.columns {
        let _ = write!(
            html,
            "<th scope=\"col\"{}>{}</th>",
            class(align),
            escape(name)
        );
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        let Some(row) = row else {
            html.push_str("</tbody>\n<tbody>\n");
            continue;
        };
        html.push_str("<tr>");
        for (cell, (_, align)) in row.iter().zip(&table.columns) {
            let _ = write!(html, "<td{}>{}</td>", class(align), escape(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
    html
}

/// Text as markup shows it, in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// JSON that cannot end the script element it stands in.
fn embedded(value: &serde_json::Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::report::{Answer, BenchmarkReport, Record};

    #[test]
    fn texts_are_never_markup() {
        let evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&";
        let mut report = Report::default();
        report.model.name = evil.to_owned();
        report.benchmarks.push(BenchmarkReport {
            name: evil.to_owned(),
            records: vec![Record {
                prompt: evil.to_owned(),
                gold: json!(evil),
                note: Some(evil.to_owned()),
                answers: vec![Answer {
                    text: evil.to_owned(),
                    ..Answer::default()
                }],
                ..Record::default()
            }],
            ..BenchmarkReport::default()
        });
        let page = report.html();
        assert!(!page.contains("<img"));
        assert!(!page.contains("<script>alert"));
        assert_eq!(page.matches("</script>").count(), 2);
        let (_, rest) = page.split_once("id=\"data\">").unwrap();
        let (data, _) = rest.split_once("</script>").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data[0]["items"][0]["prompt"], evil);
        for loads in ["http://", "https://", "src=", "url(", "@import"] {
            let own = page.replace("onerror", "").replace("img src", "");
            assert!(!own.contains(loads), "{loads}");
        }
    }
}
