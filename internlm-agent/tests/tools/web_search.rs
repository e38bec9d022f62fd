//! `web_search` against a stand-in of SearXNG's interface.

use internlm_agent::fetch::FetchConfig;
use internlm_agent::tool::{Tool, ToolContext, ToolError};
use internlm_agent::tools::web::{SearchConfig, web_search};
use serde_json::{Value, json};

use crate::stand_in::{Answer, StandIn};

fn engine() -> StandIn {
    StandIn::new(|asked| {
        if asked.query("format").as_deref() != Some("json") {
            return Answer::html("<h1>Results</h1>");
        }
        match asked.query("q").as_deref() {
            Some("nothing") => Answer::json(&json!({
                "query": "nothing", "results": [], "answers": [], "suggestions": ["something"],
                "unresponsive_engines": [["a", "timeout"]],
            })),
            Some("closed") => {
                Answer::html("<title>403 Forbidden</title><p>Forbidden").with_status(403)
            }
            Some("long") => Answer::json(&json!({"results": [{"content": "x".repeat(5000)}]})),
            Some("broken") => Answer::new("application/json", "{\"results\": ["),
            Some("other") => Answer::json(&json!({"hits": []})),
            _ => {
                let result = |n: u32| {
                    json!({
                        "url": format!("https://{n}.example/"), "title": format!("Title {n}"),
                        "content": "passage ".repeat(100), "engine": "a", "score": 1.0,
                        "publishedDate": (n == 0).then_some("2024-03-26T00:00:00"),
                    })
                };
                let results: Vec<Value> = (0..20).map(result).collect();
                Answer::json(&json!({
                    "query": "q", "results": results,
                    "answers": [{"answer": "42", "engine": "a"}, "also 42"],
                }))
            }
        }
    })
}

fn search(engine: &StandIn, config: SearchConfig, arguments: Value) -> Result<Value, ToolError> {
    let fetcher = engine.fetcher_with(FetchConfig::default().with_max_bytes(100_000));
    let output = web_search(config, fetcher).call(&arguments, &ToolContext::default())?;
    Ok(serde_json::from_str(&output.to_text()).unwrap())
}

#[test]
fn results_are_told_and_the_engine_is_asked_as_it_wants() {
    let engine = engine();
    let config = SearchConfig::new(engine.url("/search")).with_max_passage(20);
    let arguments = json!({
        "query": "低比特 & quantization", "count": 2, "page": 3, "language": "zh-CN", "time_range": "year",
    });
    let told = search(&engine, config, arguments).unwrap();
    assert_eq!(
        told,
        json!({
            "results": [
                {
                    "title": "Title 0", "url": "https://0.example/", "passage": "passage passage pass…",
                    "published": "2024-03-26T00:00:00",
                },
                {"title": "Title 1", "url": "https://1.example/", "passage": "passage passage pass…"},
            ],
            "answers": ["42", "also 42"],
        })
    );
    let asked = &engine.asked()[0];
    assert_eq!((asked.method.as_str(), asked.path()), ("GET", "/search"));
    for (name, want) in [
        ("q", "低比特 & quantization"),
        ("format", "json"),
        ("pageno", "3"),
        ("language", "zh-CN"),
        ("time_range", "year"),
        ("safesearch", "1"),
    ] {
        assert_eq!(asked.query(name).as_deref(), Some(want), "{name}");
    }
}

#[test]
fn no_results_come_with_what_may_help() {
    let engine = engine();
    let config = SearchConfig::new(engine.url("/search"));
    let told = search(&engine, config, json!({"query": "nothing"})).unwrap();
    let want =
        json!({"results": [], "suggestions": ["something"], "engines_without_answer": ["a"]});
    assert_eq!(told, want);
}

#[test]
fn arguments_that_do_not_fit_never_reach_the_engine() {
    let engine = engine();
    for arguments in [
        json!({}),
        json!({"query": "  "}),
        json!({"query": "x".repeat(401)}),
        json!({"query": "x", "page": 0}),
        json!({"query": "x", "count": -1}),
        json!({"query": "x", "time_range": "century"}),
        json!({"query": "x", "pages": 1}),
    ] {
        let config = SearchConfig::new(engine.url("/search"));
        let error = search(&engine, config, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Arguments { .. }),
            "{arguments}: {error}"
        );
    }
    assert!(engine.asked().is_empty());
}

#[test]
fn limits_hold() {
    let engine = engine();
    let config = || SearchConfig::new(engine.url("/search")).with_max_results(4);
    let told = search(&engine, config(), json!({"query": "many", "count": 1000})).unwrap();
    assert_eq!(told["results"].as_array().unwrap().len(), 4);
    let fetcher = engine.fetcher_with(FetchConfig::default().with_max_bytes(1000));
    let tool = web_search(config(), fetcher);
    let error = tool
        .call(&json!({"query": "long"}), &ToolContext::default())
        .unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error}");
}

#[test]
fn an_engine_that_answers_otherwise_is_an_error() {
    let engine = engine();
    let config = || SearchConfig::new(engine.url("/search"));
    let ask = |query: &str| {
        search(&engine, config(), json!({"query": query}))
            .unwrap_err()
            .to_string()
    };
    let address = engine.address;
    assert_eq!(
        ask("closed"),
        format!("`{address}` answered with status 403: Forbidden")
    );
    assert!(ask("broken").contains("is no JSON"), "{}", ask("broken"));
    assert_eq!(ask("other"), "the search engine's answer has no `results`");
}
