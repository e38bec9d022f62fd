//! `arxiv_search` against a stand-in of arXiv's interface.

use internlm_agent::fetch::FetchConfig;
use internlm_agent::tool::{Tool, ToolContext, ToolError};
use internlm_agent::tools::web::{ArxivConfig, arxiv_search};
use serde_json::{Value, json};

use crate::stand_in::{Answer, StandIn};

/// A feed in the form of the interface's manual.
const FEED: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/"
      xmlns:arxiv="http://arxiv.org/schemas/atom">
  <title>arXiv Query: search_query=all:a</title>
  <id>http://arxiv.org/api/x</id>
  <opensearch:totalResults>1234</opensearch:totalResults>
  <entry>
    <id>http://arxiv.org/abs/1234.56789v2</id>
    <title>A Paper &amp; its
  Title: $x &lt; y$</title>
    <summary>  We show that &#25968;&#23398; helps. </summary>
    <published>2024-03-26T02:10:20Z</published>
    <updated>2024-04-01T00:00:00Z</updated>
    <author><name>A. One</name></author>
    <author><name>B. Two</name><arxiv:affiliation>Somewhere</arxiv:affiliation></author>
    <arxiv:doi>10.1/x</arxiv:doi>
    <arxiv:comment>5 pages</arxiv:comment>
    <link href="http://arxiv.org/abs/1234.56789v2" rel="alternate" type="text/html"/>
    <link title="pdf" href="http://arxiv.org/pdf/1234.56789v2" rel="related" type="application/pdf"/>
    <arxiv:primary_category term="cs.CL" scheme="http://arxiv.org/schemas/atom"/>
    <category term="cs.CL" scheme="http://arxiv.org/schemas/atom"/>
    <category term="cs.AI" scheme="http://arxiv.org/schemas/atom"/>
  </entry>
ENTRIES
</feed>"#;

const ERROR: &str = r#"<feed xmlns="http://www.w3.org/2005/Atom"><entry>
<id>http://arxiv.org/api/errors#incorrect_id_format_for_x</id><title>Error</title>
<summary>incorrect id format for x</summary></entry></feed>"#;

/// Entities within entities: a billion characters if they were written out.
const BOMB: &str = r#"<?xml version="1.0"?><!DOCTYPE feed [<!ENTITY a "xxxxxxxxxx"><!ENTITY b "&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;">]><feed><entry><id>x/abs/1</id><title>t&c;</title></entry></feed>"#;

fn archive() -> StandIn {
    StandIn::new(|asked| {
        let query = asked.query("search_query").unwrap_or_default();
        let more = "<entry><id>http://arxiv.org/abs/2</id><title>Two</title></entry>".repeat(30);
        let feed = |text: &str| Answer::new("application/atom+xml; charset=UTF-8", text);
        match query.as_str() {
            "all:error" => feed(ERROR).with_status(200),
            "all:bomb" => feed(BOMB),
            "all:page" => Answer::html("<p>not a feed"),
            "all:cut" => feed(&FEED[..600]),
            "all:long" => feed(&FEED.replace("ENTRIES", &" ".repeat(20_000))),
            _ => feed(&FEED.replace("ENTRIES", &more)),
        }
    })
}

fn search(archive: &StandIn, arguments: Value) -> Result<Value, ToolError> {
    let config = ArxivConfig::default()
        .with_endpoint(archive.url("/api/query"))
        .with_max_results(5)
        .with_max_abstract(15);
    let fetcher = archive.fetcher_with(FetchConfig::default().with_max_bytes(10_000));
    let output = arxiv_search(config, fetcher).call(&arguments, &ToolContext::default())?;
    Ok(serde_json::from_str(&output.to_text()).unwrap())
}

#[test]
fn papers_are_told() {
    let archive = archive();
    let arguments = json!({"query": "low-bit LLM", "count": 1, "start": 2, "order": "submitted"});
    let told = search(&archive, arguments).unwrap();
    assert_eq!(
        told,
        json!({"total": 1234, "papers": [{
            "id": "1234.56789v2",
            "title": "A Paper & its Title: $x < y$",
            "authors": ["A. One", "B. Two"],
            "published": "2024-03-26",
            "updated": "2024-04-01",
            "categories": ["cs.CL", "cs.AI"],
            "abstract": "We show that 数学…",
            "comment": "5 pages",
            "doi": "10.1/x",
            "pdf": "http://arxiv.org/pdf/1234.56789v2",
        }]})
    );
    search(&archive, json!({"ids": ["2403.17297", "hep-th/9901001v1"]})).unwrap();
    let asked = archive.asked();
    for (name, want) in [
        ("search_query", "all:low-bit AND all:LLM"),
        ("start", "2"),
        ("max_results", "1"),
        ("sortBy", "submittedDate"),
        ("sortOrder", "descending"),
    ] {
        assert_eq!(asked[0].query(name).as_deref(), Some(want), "{name}");
    }
    assert_eq!(
        asked[1].query("id_list").as_deref(),
        Some("2403.17297,hep-th/9901001v1")
    );
    assert_eq!(asked[1].query("search_query"), None);
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let archive = archive();
    for arguments in [
        json!({}),
        json!({"query": " "}),
        json!({"query": "x".repeat(301)}),
        json!({"ids": ["x&max_results=1000"]}),
        json!({"ids": vec!["1"; 6]}),
        json!({"query": "x", "order": "best"}),
    ] {
        let error = search(&archive, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Arguments { .. }),
            "{arguments}: {error}"
        );
    }
    assert!(archive.asked().is_empty());
}

#[test]
fn limits_hold() {
    let archive = archive();
    let told = search(&archive, json!({"query": "many", "count": 1000})).unwrap();
    assert_eq!(told["papers"].as_array().unwrap().len(), 5);
    let error = search(&archive, json!({"query": "long"})).unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error}");
    // Names that the document declares are not written out.
    let told = search(&archive, json!({"query": "bomb"})).unwrap();
    assert_eq!(told["papers"][0]["title"], "t");
}

#[test]
fn answers_that_are_no_papers_are_errors() {
    let archive = archive();
    let ask = |query: &str| {
        search(&archive, json!({"query": query}))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(ask("error"), "arXiv says: incorrect id format for x");
    assert!(ask("page").contains("no Atom feed"), "{}", ask("page"));
}
