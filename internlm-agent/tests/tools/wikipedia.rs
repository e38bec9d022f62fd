//! `wikipedia_search` and `wikipedia_page` against a stand-in of MediaWiki's interface.

use internlm_agent::fetch::FetchConfig;
use internlm_agent::tool::{Tool, ToolContext, ToolError};
use internlm_agent::tools::web::{WikipediaConfig, wikipedia_page, wikipedia_search};
use serde_json::{Value, json};

use crate::stand_in::{Answer, Asked, StandIn};

fn wiki() -> StandIn {
    StandIn::new(|asked: &Asked| {
        let page =
            |page: Value| Answer::json(&json!({"batchcomplete": true, "query": {"pages": [page]}}));
        if asked.query("list").as_deref() == Some("search") {
            let hit = json!({
                "ns": 0, "title": "Mercury (planet)", "pageid": 1,
                "snippet": "the <span class=\"searchmatch\">first</span> planet &amp; more",
            });
            return match asked.query("srsearch").as_deref() {
                Some("none at all") => Answer::json(&json!({"query": {"search": []}})),
                Some("long") => {
                    Answer::json(&json!({"query": {"search": [{"title": "x".repeat(9000)}]}}))
                }
                _ => Answer::json(&json!({"query": {
                    "searchinfo": {"totalhits": 2, "suggestion": "mercury"}, "search": [hit, hit],
                }})),
            };
        }
        let title = asked.query("titles").unwrap_or_default();
        match (title.as_str(), asked.query("prop").as_deref()) {
            ("Mercury", Some("links")) => page(json!({"title": "Mercury", "links": [
                {"ns": 0, "title": "Mercury (element)"}, {"ns": 0, "title": "Mercury (planet)"},
            ]})),
            ("Mercury", _) => page(json!({
                "title": "Mercury", "extract": "Mercury may refer to:", "pageprops": {"disambiguation": ""},
            })),
            ("数学", _) => page(json!({
                "title": "数学", "fullurl": "https://zh.example/wiki/数学", "extract": "数学是研究数量的学科。",
            })),
            ("Nowhere", _) => page(json!({"title": "Nowhere", "missing": true})),
            ("a|b", _) => unreachable!("the tool lets it through"),
            ("error", _) => {
                Answer::json(&json!({"error": {"code": "x", "info": "Unrecognized value."}}))
            }
            ("slow", _) => Answer::html("<p>Too many requests").with_status(429),
            _ => page(json!({"title": title, "extract": "x".repeat(9000)})),
        }
    })
}

fn config(wiki: &StandIn) -> WikipediaConfig {
    WikipediaConfig::default()
        .with_endpoint(wiki.url("/{language}/api.php"))
        .with_max_chars(100)
        .with_max_results(1)
}

fn page(wiki: &StandIn, arguments: Value) -> Result<String, ToolError> {
    let tool = wikipedia_page(config(wiki), wiki.fetcher());
    Ok(tool.call(&arguments, &ToolContext::default())?.to_text())
}

#[test]
fn a_search_tells_titles() {
    let wiki = wiki();
    let tool = wikipedia_search(config(&wiki), wiki.fetcher());
    let output = tool
        .call(
            &json!({"query": "mercry", "count": 50}),
            &ToolContext::default(),
        )
        .unwrap();
    let want = json!({
        "results": [{"title": "Mercury (planet)", "passage": "the first planet & more"}],
        "suggestion": "mercury",
    });
    assert_eq!(
        serde_json::from_str::<Value>(&output.to_text()).unwrap(),
        want
    );
    let asked = &wiki.asked()[0];
    assert_eq!(asked.path(), "/en/api.php");
    assert_eq!(asked.query("srlimit").as_deref(), Some("1"));
    assert_eq!(asked.query("srsearch").as_deref(), Some("mercry"));
}

#[test]
fn a_page_is_told_in_its_language() {
    let wiki = wiki();
    let told = page(
        &wiki,
        json!({"title": "数学", "language": "zh", "intro_only": true}),
    )
    .unwrap();
    assert_eq!(
        told,
        "Title: 数学\nAddress: https://zh.example/wiki/数学\n\n数学是研究数量的学科。"
    );
    let asked = &wiki.asked()[0];
    assert_eq!(asked.path(), "/zh/api.php");
    assert_eq!(asked.query("exintro").as_deref(), Some("1"));
    assert_eq!(asked.query("titles").as_deref(), Some("数学"));
}

#[test]
fn several_meanings_are_told_and_a_missing_page_comes_with_others() {
    let wiki = wiki();
    assert_eq!(
        page(&wiki, json!({"title": "Mercury"})).unwrap(),
        "`Mercury` has several meanings; call wikipedia_page with one of these titles:\n\
         - Mercury (element)\n- Mercury (planet)"
    );
    let error = page(&wiki, json!({"title": "Nowhere"})).unwrap_err();
    let want = "the wiki has no page `Nowhere`; a search finds: Mercury (planet), Mercury (planet)";
    assert_eq!(error.to_string(), want);
    let error = page(&wiki, json!({"title": "error"})).unwrap_err();
    assert_eq!(error.to_string(), "the wiki says: Unrecognized value.");
    let error = page(&wiki, json!({"title": "slow"})).unwrap_err();
    assert!(
        error.to_string().contains("status 429: Too many requests"),
        "{error}"
    );
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let wiki = wiki();
    for arguments in [
        json!({}),
        json!({"title": ""}),
        json!({"title": "a|b"}),
        json!({"title": "x".repeat(301)}),
        json!({"title": "x", "language": "evil.example/"}),
        json!({"title": "x", "language": "e"}),
    ] {
        let error = page(&wiki, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Arguments { .. }),
            "{arguments}: {error}"
        );
    }
    let search = wikipedia_search(config(&wiki), wiki.fetcher());
    for arguments in [
        json!({}),
        json!({"query": " "}),
        json!({"query": "x", "language": "EN"}),
    ] {
        let error = search
            .call(&arguments, &ToolContext::default())
            .unwrap_err();
        assert!(
            matches!(error, ToolError::Arguments { .. }),
            "{arguments}: {error}"
        );
    }
    assert!(wiki.asked().is_empty());
}

#[test]
fn limits_hold() {
    let wiki = wiki();
    let told = page(&wiki, json!({"title": "Long", "start": 100})).unwrap();
    let want = format!(
        "{}\n\n[of 9000 characters; go on with start=200]",
        "x".repeat(100)
    );
    assert_eq!(told, want);
    let fetcher = wiki.fetcher_with(FetchConfig::default().with_max_bytes(1000));
    let tool = wikipedia_search(config(&wiki), fetcher);
    let error = tool
        .call(&json!({"query": "long"}), &ToolContext::default())
        .unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error}");
}
