//! Tools for the web: search, pages, papers, an encyclopedia, and services that have a description.
//!
//! All of them go through a [`Fetcher`](crate::fetch::Fetcher), so by its rules: public addresses only, unless it is told otherwise.
//!
//! ```no_run
//! use internlm_agent::fetch::{FetchConfig, Fetcher, InternalServers};
//! use internlm_agent::tool::ToolSet;
//! use internlm_agent::tools::web;
//!
//! let fetcher = Fetcher::new(FetchConfig::default());
//! // A search engine of our own, on this machine: this address, and no other that is not public.
//! let own = fetcher.clone().with_resolver(InternalServers::new(["127.0.0.1:8888".parse()?]));
//! let search = web::SearchConfig::new("http://127.0.0.1:8888/search");
//! let tools = ToolSet::new()
//!     .with(web::web_search(search, own))?
//!     .with(web::fetch_page(web::PageConfig::default(), fetcher.clone()))?
//!     .with(web::arxiv_search(web::ArxivConfig::default(), fetcher))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(super) mod answer;
mod arxiv;
mod atom;
mod http;
pub mod openapi;
mod page;
mod search;
mod wikipedia;

use super::catalog::CatalogEntry;
use crate::fetch::FetchConfig;

pub use arxiv::{ArxivConfig, ArxivSearch, PaperOrder, arxiv_search};
pub use http::{HttpConfig, HttpRequest, http_request};
pub use page::{FetchPage, PageConfig, fetch_page};
pub use search::{SearchConfig, TimeRange, WebSearch, web_search};
pub use wikipedia::{
    WikipediaConfig, WikipediaPage, WikipediaSearch, wikipedia_page, wikipedia_search,
};

/// What the catalog says of these tools.
pub(super) fn entries() -> Vec<CatalogEntry> {
    let fetch = FetchConfig::default();
    let loaded = format!(
        "answers of {} KiB and {} seconds (the fetcher's)",
        fetch.max_bytes >> 10,
        fetch.timeout.as_secs()
    );
    let (search, page) = (SearchConfig::new(""), PageConfig::default());
    let (arxiv, wiki) = (ArxivConfig::default(), WikipediaConfig::default());
    let http = HttpConfig::new([""; 0]);
    let wiki_limits = format!(
        "queries and titles of {} characters, {} results, {} characters of a page a call; {loaded}.",
        wiki.max_query, wiki.max_results, wiki.max_chars
    );
    let entries = [
        CatalogEntry::of::<WebSearch>(
            "web_search",
            "tools::web::web_search",
            format!(
                "queries of {} characters, {} results with passages of {} characters; {loaded}.",
                search.max_query, search.max_results, search.max_passage
            ),
        ),
        CatalogEntry::of::<FetchPage>(
            "fetch_page",
            "tools::web::fetch_page",
            format!(
                "{} characters a call of a text of {} MiB; {loaded}.",
                page.max_chars,
                page.max_text >> 20
            ),
        ),
        CatalogEntry::of::<ArxivSearch>(
            "arxiv_search",
            "tools::web::arxiv_search",
            format!(
                "queries of {} characters, {} papers with {} characters of their abstracts; {loaded}.",
                arxiv.max_query, arxiv.max_results, arxiv.max_abstract
            ),
        ),
        CatalogEntry::of::<WikipediaSearch>(
            "wikipedia_search",
            "tools::web::wikipedia_search",
            &wiki_limits,
        ),
        CatalogEntry::of::<WikipediaPage>(
            "wikipedia_page",
            "tools::web::wikipedia_page",
            &wiki_limits,
        ),
        CatalogEntry::of::<HttpRequest>(
            "http_request",
            "tools::web::http_request",
            format!(
                "hosts that the program names, `GET` and `HEAD` unless it allows more (a person is asked then), {} KiB \
                 sent, {} characters told; {loaded}.",
                http.max_body >> 10,
                http.max_chars
            ),
        ),
    ];
    entries.map(|entry| entry.with_feature("fetch")).into()
}
