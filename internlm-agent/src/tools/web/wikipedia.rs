//! Wikipedia, or another wiki on MediaWiki, by its action API (www.mediawiki.org/wiki/API:Main_page).

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, ask, cut, query, wrong};
use crate::fetch::{FetchRequest, Fetcher, with_query};
use crate::tool::{ToolContext, ToolError, TypedTool};
use crate::tools::html::page_text;
use crate::tools::passage::Passage;

/// Which wiki, and how much of it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WikipediaConfig {
    /// The address of the interface; `{language}` in it is the language of a call.
    pub endpoint: String,
    /// The language of calls that name none.
    pub language: String,
    /// Most results of a search.
    pub max_results: usize,
    /// Most characters of a page that a call tells.
    pub max_chars: usize,
    /// Most characters of a query or title.
    pub max_query: usize,
}

impl Default for WikipediaConfig {
    fn default() -> Self {
        Self {
            endpoint: "https://{language}.wikipedia.org/w/api.php".to_owned(),
            language: "en".to_owned(),
            max_results: 10,
            max_chars: 8_000,
            max_query: 300,
        }
    }
}

impl WikipediaConfig {
    /// Sets the address of the interface.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = endpoint.into();
        self
    }

    /// Sets the language of calls that name none.
    #[must_use]
    pub fn with_language(mut self, language: impl Into<String>) -> Self {
        self.language = language.into();
        self
    }

    /// Sets the most results of a search.
    #[must_use]
    pub fn with_max_results(mut self, max_results: usize) -> Self {
        self.max_results = max_results;
        self
    }

    /// Sets the most characters that a call tells.
    #[must_use]
    pub fn with_max_chars(mut self, max_chars: usize) -> Self {
        self.max_chars = max_chars;
        self
    }
}

/// Searches Wikipedia for titles of pages, with passages around the words.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct WikipediaSearch {
    /// What to search for.
    pub query: String,
    /// The language of the Wikipedia, such as `en` or `zh`.
    #[serde(default)]
    pub language: Option<String>,
    /// How many results, at most.
    #[serde(default)]
    pub count: Option<usize>,
}

/// Reads a page of Wikipedia as text. A title with several meanings gives their titles.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct WikipediaPage {
    /// The title of the page.
    pub title: String,
    /// The language of the Wikipedia, such as `en` or `zh`.
    #[serde(default)]
    pub language: Option<String>,
    /// Whether to tell the first section only.
    #[serde(default)]
    pub intro_only: bool,
    /// The first character to tell, to go on in a long page.
    #[serde(default)]
    pub start: usize,
}

/// The interface of one language.
struct Wiki<'a> {
    tool: &'static str,
    endpoint: String,
    config: &'a WikipediaConfig,
    fetcher: &'a Fetcher,
    context: &'a ToolContext,
}

impl Wiki<'_> {
    fn new<'a>(
        tool: &'static str,
        language: Option<&str>,
        config: &'a WikipediaConfig,
        fetcher: &'a Fetcher,
        context: &'a ToolContext,
    ) -> Result<Wiki<'a>, ToolError> {
        let language = language.unwrap_or(&config.language);
        // It becomes a part of a host's name.
        let allowed = |c: char| c.is_ascii_lowercase() || c == '-';
        if !(2..=12).contains(&language.len()) || !language.chars().all(allowed) {
            return Err(wrong(
                tool,
                "`language` must be a code such as en, zh or zh-yue",
            ));
        }
        Ok(Wiki {
            tool,
            endpoint: config.endpoint.replace("{language}", language),
            config,
            fetcher,
            context,
        })
    }

    fn ask(&self, pairs: &[(&str, &str)]) -> Result<Value, ToolError> {
        let fixed = [
            ("action", "query"),
            ("format", "json"),
            ("formatversion", "2"),
        ];
        let pairs = fixed.iter().chain(pairs).copied();
        let url = with_query(&self.endpoint, pairs);
        let page = ask(self.fetcher, FetchRequest::get(url), self.context)?;
        let answer = answer::json(&page)?;
        match answer["error"]["info"].as_str() {
            Some(error) => Err(ToolError::failed(format!(
                "the wiki says: {}",
                cut(error, 300)
            ))),
            None => Ok(answer),
        }
    }

    fn search(&self, query: &str, count: usize) -> Result<Value, ToolError> {
        let count = count.clamp(1, self.config.max_results.max(1)).to_string();
        let answer = self.ask(&[
            ("list", "search"),
            ("srsearch", query),
            ("srlimit", &count),
            ("srinfo", "suggestion|totalhits"),
            ("srprop", "snippet"),
        ])?;
        Ok(answer["query"].clone())
    }

    /// Titles that a search finds, for a title that is none.
    fn near(&self, title: &str) -> String {
        let found = self.search(title, 5).unwrap_or_default();
        let titles = found["search"].as_array().into_iter().flatten();
        let titles: Vec<&str> = titles.filter_map(|hit| hit["title"].as_str()).collect();
        match titles.is_empty() {
            true => "; a search finds none, either".to_owned(),
            false => format!("; a search finds: {}", titles.join(", ")),
        }
    }

    /// The titles that a page of meanings leads to.
    fn meanings(&self, title: &str) -> Result<Vec<String>, ToolError> {
        let answer = self.ask(&[
            ("prop", "links"),
            ("plnamespace", "0"),
            ("pllimit", "50"),
            ("redirects", "1"),
            ("titles", title),
        ])?;
        let links = answer["query"]["pages"][0]["links"].as_array();
        let titles = links
            .into_iter()
            .flatten()
            .filter_map(|link| link["title"].as_str());
        Ok(titles.map(str::to_owned).collect())
    }
}

/// The tool `wikipedia_search`.
pub fn wikipedia_search(config: WikipediaConfig, fetcher: Fetcher) -> TypedTool {
    const NAME: &str = "wikipedia_search";
    TypedTool::with_context(NAME, move |search: WikipediaSearch, context| {
        let text = query(NAME, &search.query, config.max_query)?;
        let wiki = Wiki::new(NAME, search.language.as_deref(), &config, &fetcher, context)?;
        let found = wiki.search(text, search.count.unwrap_or(config.max_results))?;
        let hits = found["search"].as_array().into_iter().flatten();
        let results: Vec<Value> = hits
            .take(config.max_results)
            .filter_map(|hit| {
                let snippet = hit["snippet"].as_str().unwrap_or_default();
                let passage = page_text(snippet, 2_000, &|_| None).text;
                Some(json!({"title": hit["title"].as_str()?, "passage": cut(&passage, 400)}))
            })
            .collect();
        let mut told = json!({"results": results});
        if let Some(suggestion) = found["searchinfo"]["suggestion"].as_str() {
            told["suggestion"] = suggestion.into();
        }
        Ok(told)
    })
}

/// The tool `wikipedia_page`.
pub fn wikipedia_page(config: WikipediaConfig, fetcher: Fetcher) -> TypedTool {
    const NAME: &str = "wikipedia_page";
    TypedTool::with_context(NAME, move |arguments: WikipediaPage, context| {
        let title = arguments.title.trim();
        let length = title.chars().count();
        if title.is_empty() || length > config.max_query || title.contains('|') {
            let most = config.max_query;
            let what =
                format!("`title` must be one title of at most {most} characters, without `|`");
            return Err(wrong(NAME, what));
        }
        let wiki = Wiki::new(
            NAME,
            arguments.language.as_deref(),
            &config,
            &fetcher,
            context,
        )?;
        let mut pairs = vec![
            ("prop", "extracts|info|pageprops"),
            ("explaintext", "1"),
            ("exsectionformat", "wiki"),
            ("inprop", "url"),
            ("ppprop", "disambiguation"),
            ("redirects", "1"),
            ("titles", title),
        ];
        if arguments.intro_only {
            pairs.push(("exintro", "1"));
        }
        let answer = wiki.ask(&pairs)?;
        let page = &answer["query"]["pages"][0];
        let missing = page["missing"] == true || page["invalid"] == true;
        let found = page["title"].as_str().filter(|_| !missing);
        let Some(found) = found else {
            return Err(ToolError::failed(format!(
                "the wiki has no page `{title}`{}",
                wiki.near(title)
            )));
        };
        if page["pageprops"]["disambiguation"].is_string() {
            let meanings = wiki.meanings(found)?;
            return Ok(format!(
                "`{found}` has several meanings; call {} with one of these titles:\n- {}",
                wiki.tool,
                meanings.join("\n- ")
            ));
        }
        let text = page["extract"].as_str().unwrap_or_default();
        let passage = Passage::of(text, arguments.start, config.max_chars)?;
        let mut told = String::new();
        if arguments.start == 0 {
            told = format!("Title: {found}\n");
            if let Some(url) = page["fullurl"].as_str() {
                told.push_str(&format!("Address: {url}\n"));
            }
            told.push('\n');
        }
        told.push_str(&passage.told());
        Ok(told)
    })
}
