//! Papers on arXiv, by its Atom interface (info.arxiv.org/help/api/user-manual.html).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{ask, cut, query, wrong};
use super::atom::{self, Entry};
use crate::fetch::{FetchRequest, Fetcher, with_query};
use crate::tool::{ToolError, TypedTool};
use crate::tools::charset::decode;

/// Where to ask, and how much is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArxivConfig {
    /// The address of the interface.
    pub endpoint: String,
    /// Most papers a call.
    pub max_results: usize,
    /// Most characters of an abstract.
    pub max_abstract: usize,
    /// Most characters of a query.
    pub max_query: usize,
}

impl Default for ArxivConfig {
    /// Papers, characters of abstracts and of queries: three times Lagent's, its, its.
    fn default() -> Self {
        Self {
            endpoint: "https://export.arxiv.org/api/query".to_owned(),
            max_results: 9,
            max_abstract: 1500,
            max_query: 300,
        }
    }
}

impl ArxivConfig {
    /// Sets the address of the interface.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = endpoint.into();
        self
    }

    /// Sets the most papers a call.
    #[must_use]
    pub fn with_max_results(mut self, max_results: usize) -> Self {
        self.max_results = max_results;
        self
    }

    /// Sets the most characters of an abstract.
    #[must_use]
    pub fn with_max_abstract(mut self, max_abstract: usize) -> Self {
        self.max_abstract = max_abstract;
        self
    }
}

/// The order of papers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PaperOrder {
    /// Those that fit best first.
    #[default]
    Relevance,
    /// The newest first.
    Submitted,
    /// Those that were changed last first.
    Updated,
}

/// Searches papers on arXiv: physics, mathematics, computer science, biology, finance, statistics, economics.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ArxivSearch {
    /// Words that all occur in a paper's record; or arXiv's own language, such as
    /// `ti:"attention is all" AND au:vaswani`, with the fields ti, au, abs, cat, co, jr, all.
    #[serde(default)]
    pub query: Option<String>,
    /// Numbers of papers, such as `2403.17297`, in place of a query or to choose among what it finds.
    #[serde(default)]
    pub ids: Vec<String>,
    /// How many papers, at most.
    #[serde(default)]
    pub count: Option<usize>,
    /// How many to pass over first.
    #[serde(default)]
    pub start: usize,
    /// The order.
    #[serde(default)]
    pub order: PaperOrder,
}

const NAME: &str = "arxiv_search";

/// The tool `arxiv_search`.
pub fn arxiv_search(config: ArxivConfig, fetcher: Fetcher) -> TypedTool {
    TypedTool::with_context(NAME, move |search: ArxivSearch, context| {
        let words = search.query.as_deref().unwrap_or_default().trim();
        if words.is_empty() && search.ids.is_empty() {
            return Err(wrong(NAME, "either `query` or `ids` is needed"));
        }
        if search.ids.len() > config.max_results {
            let most = config.max_results;
            return Err(wrong(NAME, format!("`ids` has more than {most} numbers")));
        }
        if let Some(id) = search.ids.iter().find(|id| !is_id(id)) {
            let id = cut(id, 40);
            return Err(wrong(
                NAME,
                format!("`{id}` is no number of a paper, such as 2403.17297"),
            ));
        }
        let words = match words.is_empty() {
            true => String::new(),
            false => terms(query(NAME, words, config.max_query)?),
        };
        let most = search.count.unwrap_or(config.max_results);
        let most = most.clamp(1, config.max_results.max(1));
        let (count, start) = (most.to_string(), search.start.to_string());
        let ids = search.ids.join(",");
        let mut pairs = vec![("start", start.as_str()), ("max_results", &count)];
        if !words.is_empty() {
            pairs.push(("search_query", &words));
        }
        if !ids.is_empty() {
            pairs.push(("id_list", &ids));
        }
        if let Some(by) = match search.order {
            PaperOrder::Relevance => None,
            PaperOrder::Submitted => Some("submittedDate"),
            PaperOrder::Updated => Some("lastUpdatedDate"),
        } {
            pairs.extend([("sortBy", by), ("sortOrder", "descending")]);
        }
        let url = with_query(&config.endpoint, pairs);
        let page = ask(&fetcher, FetchRequest::get(url), context)?;
        let text = decode(&page.body, page.content_type.as_deref());
        let feed = atom::read(&text, most)?;
        // An error comes as an entry.
        if let Some(error) = feed
            .entries
            .iter()
            .find(|entry| entry.id.contains("arxiv.org/api/errors"))
        {
            return Err(ToolError::failed(format!(
                "arXiv says: {}",
                cut(&error.summary, 300)
            )));
        }
        let papers: Vec<Value> = feed
            .entries
            .iter()
            .filter(|entry| !entry.title.is_empty())
            .map(|entry| paper(entry, &config))
            .collect();
        Ok(json!({"total": feed.total, "papers": papers}))
    })
}

/// Plain words as a query for all of them.
fn terms(query: &str) -> String {
    const FIELDS: [&str; 9] = [
        "ti:", "au:", "abs:", "co:", "jr:", "cat:", "rn:", "id:", "all:",
    ];
    let starts = |word: &str| FIELDS.iter().any(|field| word.starts_with(field));
    if query.split([' ', '(']).any(starts) {
        return query.to_owned();
    }
    let words = query.split(|c: char| !(c.is_alphanumeric() || "-.'".contains(c)));
    let words: Vec<String> = words
        .filter(|word| word.contains(char::is_alphanumeric))
        .map(|word| format!("all:{word}"))
        .collect();
    words.join(" AND ")
}

/// `2403.17297`, `2403.17297v2` or `hep-th/9901001`.
fn is_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "./-".contains(c);
    !id.is_empty()
        && id.len() <= 32
        && id.chars().all(allowed)
        && id.contains(|c: char| c.is_ascii_digit())
}

fn paper(entry: &Entry, config: &ArxivConfig) -> Value {
    let date = |text: &str| text.split('T').next().unwrap_or_default().to_owned();
    let id = entry
        .id
        .rsplit_once("/abs/")
        .map_or(entry.id.as_str(), |(_, id)| id);
    let mut told = json!({
        "id": id,
        "title": cut(&entry.title, 300),
        "authors": entry.authors.iter().take(20).collect::<Vec<_>>(),
        "published": date(&entry.published),
        "updated": date(&entry.updated),
        "categories": entry.categories.iter().take(10).collect::<Vec<_>>(),
        "abstract": cut(&entry.summary, config.max_abstract),
    });
    if entry.authors.len() > 20 {
        told["more_authors"] = (entry.authors.len() - 20).into();
    }
    for (name, value) in [
        ("comment", &entry.comment),
        ("journal", &entry.journal),
        ("doi", &entry.doi),
    ] {
        if !value.is_empty() {
            told[name] = cut(value, 300).into();
        }
    }
    if let Some(pdf) = &entry.pdf {
        told["pdf"] = pdf.as_str().into();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_searched_for_together_and_queries_as_they_are() {
        assert_eq!(
            terms("low-bit LLM, (2024)"),
            "all:low-bit AND all:LLM AND all:2024"
        );
        assert_eq!(terms("(ti:awq OR ti:gptq)"), "(ti:awq OR ti:gptq)");
        for (id, want) in [
            ("2403.17297v2", true),
            ("hep-th/9901001", true),
            ("a,b1", false),
            ("", false),
        ] {
            assert_eq!(is_id(id), want, "{id}");
        }
    }
}
