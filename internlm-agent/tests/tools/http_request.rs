//! `http_request` against a local server.

use internlm_agent::fetch::{FetchConfig, FetchMethod};
use internlm_agent::tool::{MediaSource, OutputPart, Tool, ToolContext, ToolError, ToolOutput};
use internlm_agent::tools::web::{HttpConfig, http_request};
use serde_json::{Value, json};

use crate::stand_in::{Answer, StandIn};

fn service() -> StandIn {
    StandIn::new(|asked| match asked.path() {
        "/echo" => Answer::json(&json!({
            "method": asked.method, "body": asked.text(),
            "type": asked.header("content-type"), "key": asked.header("x-key"),
        })),
        "/text" => Answer::new("text/plain; charset=gbk", [0xca, 0xfd].to_vec()),
        "/image" => Answer::new("image/png", b"\x89PNG".to_vec()),
        "/long" => Answer::new("application/json", format!("[{}1]", "1,".repeat(50_000))),
        "/moved" => Answer::html("")
            .with_status(302)
            .with_header("Location", "http://other.example/"),
        "/made" => Answer::html("")
            .with_status(303)
            .with_header("Location", "/echo"),
        _ => Answer::json(&json!({"error": "no such thing"})).with_status(404),
    })
}

fn config(service: &StandIn) -> HttpConfig {
    HttpConfig::new([service.address.to_string()]).with_header("X-Key", "secret")
}

fn call(service: &StandIn, config: HttpConfig, arguments: Value) -> Result<ToolOutput, ToolError> {
    http_request(config, service.fetcher()).call(&arguments, &ToolContext::default())
}

fn told(service: &StandIn, config: HttpConfig, arguments: Value) -> Value {
    let output = call(service, config, arguments).unwrap();
    serde_json::from_str(&output.to_text()).unwrap()
}

#[test]
fn requests_are_sent_and_answers_told() {
    let service = service();
    let all = || config(&service).with_methods(FetchMethod::ALL);
    let arguments = json!({"url": service.url("/echo?a=1"), "query": {"b": "x y"}});
    let want = json!({"method": "GET", "body": "", "type": null, "key": "secret"});
    let got = told(&service, all(), arguments);
    assert_eq!(
        got,
        json!({"status": 200, "content_type": "application/json", "body": want})
    );
    assert_eq!(service.asked()[0].target, "/echo?a=1&b=x%20y");

    for (method, body, kind, sent) in [
        (
            "POST",
            json!({"a": "数"}),
            "application/json",
            "{\"a\":\"数\"}",
        ),
        ("PUT", json!("text"), "text/plain; charset=utf-8", "text"),
        ("DELETE", json!([1]), "application/json", "[1]"),
    ] {
        let arguments = json!({"url": service.url("/echo"), "method": method, "body": body});
        let got = told(&service, all(), arguments);
        let want = json!({"method": method, "body": sent, "type": kind, "key": "secret"});
        assert_eq!(got["body"], want);
    }
    let arguments = json!({"url": service.url("/echo"), "method": "HEAD"});
    assert_eq!(told(&service, all(), arguments)["body"], Value::Null);
    let arguments = json!({"url": service.url("/text")});
    assert_eq!(told(&service, all(), arguments)["body"], "数");
    let arguments = json!({"url": service.url("/none")});
    let got = told(&service, all(), arguments);
    assert_eq!(
        (&got["status"], &got["body"]["error"]),
        (&json!(404), &json!("no such thing"))
    );
    // What a POST leads to is told, not followed.
    let arguments = json!({"url": service.url("/made"), "method": "POST"});
    let got = told(&service, all(), arguments);
    assert_eq!(
        (&got["status"], &got["location"]),
        (&json!(303), &json!("/echo"))
    );
    let output = call(&service, all(), json!({"url": service.url("/image")})).unwrap();
    let OutputPart::Image { image } = &output.parts[1] else {
        panic!("{output:?}");
    };
    assert_eq!(image.source, MediaSource::Bytes(b"\x89PNG".to_vec()));
}

#[test]
fn only_what_is_allowed_is_sent() {
    let service = service();
    let denied = |config: HttpConfig, arguments: Value| {
        let error = call(&service, config, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Denied { .. }),
            "{arguments}: {error}"
        );
    };
    denied(
        config(&service),
        json!({"url": service.url("/echo"), "method": "POST"}),
    );
    denied(config(&service), json!({"url": "http://a.example/"}));
    denied(config(&service), json!({"url": "http://127.0.0.1:1/"}));
    denied(
        HttpConfig::new(["a.example"]),
        json!({"url": service.url("/echo")}),
    );
    denied(
        HttpConfig::new([""; 0]),
        json!({"url": service.url("/echo")}),
    );
    assert!(service.asked().is_empty());
    // A redirect to a host that is not allowed, with the key.
    denied(config(&service), json!({"url": service.url("/moved")}));
    assert_eq!(service.asked().len(), 1);
    // A person is asked where something may be changed.
    let asks = |config| http_request(config, service.fetcher()).needs_approval();
    assert!(!asks(config(&service)));
    assert!(asks(
        config(&service).with_methods([FetchMethod::Get, FetchMethod::Post])
    ));
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let service = service();
    for arguments in [
        json!({}),
        json!({"url": service.url("/echo"), "method": "BREW"}),
        json!({"url": service.url("/echo"), "headers": {"Host": "a.example"}}),
        json!({"url": service.url("/echo"), "headers": {"Content-Length": "9"}}),
        json!({"url": service.url("/echo"), "headers": {"X-A": "a\r\nX-B: b"}}),
        json!({"url": service.url("/echo"), "headers": {"x-key": "mine"}}),
        json!({"url": service.url("/echo"), "query": {"a": [1]}}),
    ] {
        let error = call(&service, config(&service), arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Arguments { .. }),
            "{arguments}: {error}"
        );
    }
    assert!(service.asked().is_empty());
}

#[test]
fn limits_hold() {
    let service = service();
    let got = told(
        &service,
        config(&service).with_max_chars(5),
        json!({"url": service.url("/long")}),
    );
    assert_eq!(got["body"], "[1,1,…\n[the answer is longer]");
    let fetcher = service.fetcher_with(FetchConfig::default().with_max_bytes(4));
    let tool = http_request(config(&service), fetcher);
    let output = tool
        .call(
            &json!({"url": service.url("/long")}),
            &ToolContext::default(),
        )
        .unwrap();
    let got: Value = serde_json::from_str(&output.to_text()).unwrap();
    assert_eq!(got["body"], "[1,1\n[the answer is longer]");
    let arguments = json!({"url": service.url("/echo"), "method": "POST", "body": "x".repeat(11)});
    let config = config(&service)
        .with_methods([FetchMethod::Post])
        .with_max_body(10);
    let error = call(&service, config, arguments).unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error}");
}
