//! Web search by a SearXNG instance, or another server that speaks its interface.
//!
//! The interface: `GET /search?q=…&format=json` (docs.searxng.org, "Search API"). An instance answers in JSON only if
//! its settings have `json` among `search.formats`; else it says 403.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{ask, cut, query, wrong};
use crate::fetch::{FetchRequest, Fetcher, with_query};
use crate::tool::{ToolError, TypedTool};

/// Where to search, and how much of it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchConfig {
    /// The address of the interface, such as `http://127.0.0.1:8888/search`.
    pub endpoint: String,
    /// Engines to ask, with commas between; empty are those that the instance has for general questions.
    pub engines: String,
    /// How strictly improper results are left out: 0 not at all, 1 somewhat, 2 strictly.
    pub safe_search: u8,
    /// Most results a call.
    pub max_results: usize,
    /// Most characters of a result's passage.
    pub max_passage: usize,
    /// Most characters of a query.
    pub max_query: usize,
}

impl SearchConfig {
    /// The defaults, with this endpoint.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            engines: String::new(),
            safe_search: 1,
            max_results: 10,
            max_passage: 500,
            max_query: 400,
        }
    }

    /// Sets the engines.
    #[must_use]
    pub fn with_engines(mut self, engines: impl Into<String>) -> Self {
        self.engines = engines.into();
        self
    }

    /// Sets how strictly improper results are left out.
    #[must_use]
    pub fn with_safe_search(mut self, safe_search: u8) -> Self {
        self.safe_search = safe_search;
        self
    }

    /// Sets the most results.
    #[must_use]
    pub fn with_max_results(mut self, max_results: usize) -> Self {
        self.max_results = max_results;
        self
    }

    /// Sets the most characters of a passage.
    #[must_use]
    pub fn with_max_passage(mut self, max_passage: usize) -> Self {
        self.max_passage = max_passage;
        self
    }
}

/// How old a page may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum TimeRange {
    /// A day.
    Day,
    /// A week.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Searches the web. Gives titles, addresses and short passages; read a page itself for more.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct WebSearch {
    /// What to search for.
    pub query: String,
    /// How many results, at most.
    #[serde(default)]
    pub count: Option<usize>,
    /// Which page of results, from 1.
    #[serde(default)]
    pub page: Option<u32>,
    /// The language of results, such as `en` or `zh-CN`.
    #[serde(default)]
    pub language: Option<String>,
    /// How old results may be.
    #[serde(default)]
    pub time_range: Option<TimeRange>,
}

/// The tool `web_search`.
pub fn web_search(config: SearchConfig, fetcher: Fetcher) -> TypedTool {
    const NAME: &str = "web_search";
    TypedTool::with_context(NAME, move |search: WebSearch, context| {
        let text = query(NAME, &search.query, config.max_query)?;
        let page = search.page.unwrap_or(1);
        if page == 0 {
            return Err(wrong(NAME, "`page` counts from 1"));
        }
        let (page, safe) = (page.to_string(), config.safe_search.to_string());
        let mut pairs = vec![
            ("q", text),
            ("format", "json"),
            ("pageno", &page),
            ("safesearch", &safe),
        ];
        if !config.engines.is_empty() {
            pairs.push(("engines", &config.engines));
        }
        if let Some(language) = &search.language {
            pairs.push(("language", language));
        }
        if let Some(range) = search.time_range {
            pairs.push((
                "time_range",
                match range {
                    TimeRange::Day => "day",
                    TimeRange::Week => "week",
                    TimeRange::Month => "month",
                    TimeRange::Year => "year",
                },
            ));
        }
        let url = with_query(&config.endpoint, pairs);
        let page = ask(&fetcher, FetchRequest::get(url), context)?;
        let answer = super::answer::json(&page)?;
        results(&answer, search.count, &config)
    })
}

fn results(
    answer: &Value,
    count: Option<usize>,
    config: &SearchConfig,
) -> Result<Value, ToolError> {
    let Some(found) = answer["results"].as_array() else {
        return Err(ToolError::failed(
            "the search engine's answer has no `results`",
        ));
    };
    let most = count.unwrap_or(config.max_results).min(config.max_results);
    let text = |value: &Value| value.as_str().unwrap_or_default().trim().to_owned();
    let results: Vec<Value> = found
        .iter()
        .filter(|result| result["url"].is_string())
        .take(most)
        .map(|result| {
            let mut told = json!({
                "title": cut(&text(&result["title"]), 200),
                "url": text(&result["url"]),
                "passage": cut(&text(&result["content"]), config.max_passage),
            });
            if let Some(date) = result["publishedDate"].as_str() {
                told["published"] = cut(date, 40).into();
            }
            told
        })
        .collect();
    let mut told = json!({"results": results});
    // Newer instances give answers as objects.
    let answers = answer["answers"].as_array().into_iter().flatten();
    let answers: Vec<String> = answers
        .filter_map(|answer| answer.as_str().or(answer["answer"].as_str()))
        .take(3)
        .map(|answer| cut(answer, config.max_passage))
        .collect();
    if !answers.is_empty() {
        told["answers"] = answers.into();
    }
    if results_are_none(&told) {
        let suggestions = answer["suggestions"].as_array().into_iter().flatten();
        let suggestions: Vec<&str> = suggestions.filter_map(Value::as_str).take(5).collect();
        told["suggestions"] = suggestions.into();
        let down = answer["unresponsive_engines"]
            .as_array()
            .into_iter()
            .flatten();
        let down: Vec<&str> = down
            .filter_map(|engine| engine[0].as_str())
            .take(10)
            .collect();
        if !down.is_empty() {
            told["engines_without_answer"] = down.into();
        }
    }
    Ok(told)
}

fn results_are_none(told: &Value) -> bool {
    told["results"].as_array().is_none_or(Vec::is_empty)
}
