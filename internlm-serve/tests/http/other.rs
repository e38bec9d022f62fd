//! The other routes.

use internlm_core::remote::{RemoteConfig, RemoteModel};
use internlm_core::{Message, RewardModel};
use serde_json::{Value, json};

use crate::client::ask;
use crate::fixture::{CONTEXT, Server, config, engine_config};

#[test]
fn models() {
    let server = Server::start();
    let list = server.get("/v1/models").ok();
    assert_eq!(list["object"], "list");
    let model = &list["data"][0];
    assert_eq!(model["id"], "tiny");
    assert_eq!(model["max_model_len"], CONTEXT);
    assert_eq!(&server.get("/v1/models/tiny").ok(), model);
    server.get("/v1/models/gpt").error(404, Some("model"));
    server.chat(json!({"model": "tiny"})).ok();
    let error = server
        .chat(json!({"model": "gpt"}))
        .error(404, Some("model"));
    assert_eq!(error["code"], "model_not_found");
}

#[test]
fn texts_become_tokens_and_texts_again() {
    let server = Server::start();
    let reply = server
        .post(
            "/tokenize",
            &json!({"prompt": "a书", "return_token_strs": true}),
        )
        .ok();
    assert_eq!(reply["tokens"], json!([97, 265]));
    assert_eq!(
        (&reply["count"], &reply["max_model_len"]),
        (&json!(2), &json!(CONTEXT))
    );
    assert_eq!(reply["token_strs"].as_array().unwrap().len(), 2);
    let text = server
        .post("/detokenize", &json!({"tokens": [97, 265, 259]}))
        .ok();
    assert_eq!(text["prompt"], "a书<|im_end|>");
    let special = json!({"prompt": "<|im_end|>", "parse_special_tokens": true});
    assert_eq!(
        server.post("/tokenize", &special).ok()["tokens"],
        json!([259])
    );
    let chat = |generate: bool| {
        let body = json!({"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": generate});
        let tokens = server.post("/tokenize", &body).ok()["tokens"].clone();
        let text = server.post("/detokenize", &json!({"tokens": tokens})).ok();
        text["prompt"].as_str().unwrap().to_owned()
    };
    let with = chat(true);
    assert_eq!(
        with.strip_prefix(&chat(false)),
        Some("<|im_start|>assistant\n")
    );
    server
        .post("/tokenize", &json!({}))
        .error(400, Some("prompt"));
    server
        .post("/tokenize", &json!({"prompt": "a", "messages": []}))
        .error(400, Some("prompt"));
    server
        .post("/tokenize", &json!({"prompt": 1}))
        .error(400, Some("prompt"));
    server
        .post("/detokenize", &json!({}))
        .error(400, Some("tokens"));
    server
        .post("/detokenize", &json!({"tokens": [9999]}))
        .error(400, Some("tokens"));
}

#[test]
fn reward_models_rank() {
    let server = Server::reward();
    let conversation = |answer: &str| json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]);
    let scores = |input: Value| {
        let reply = server.post("/v1/rank", &json!({"input": input})).ok();
        let data = reply["data"].as_array().unwrap().iter();
        data.map(|score| score["score"].as_f64().unwrap())
            .collect::<Vec<_>>()
    };
    let both = scores(json!([conversation("Hello!"), conversation("No.")]));
    assert_ne!(both[0], both[1]);
    assert_eq!(scores(json!([conversation("No.")])), both[1..]);
    // The client hears the same.
    let url = format!("http://{}/v1", server.address);
    let remote = RemoteModel::new(RemoteConfig::new(url, "tiny")).unwrap();
    let said = ["Hello!", "No."].map(|text| vec![Message::user("Hi"), Message::assistant(text)]);
    let want = server.engine.rewards(&said).unwrap();
    assert_eq!(remote.rewards(&said).unwrap(), want);
    assert_eq!(both, want.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    server
        .post("/v1/rank", &json!({}))
        .error(400, Some("input"));
    server
        .post("/v1/rank", &json!({"input": [[]]}))
        .error(400, Some("input[0]"));
    let error = server.chat(json!({})).error(400, Some("model"));
    assert_eq!(error["code"], "model_not_supported");
    let other = Server::start();
    let refused = other.post("/v1/rank", &json!({"input": [conversation("x")]}));
    assert_eq!(
        refused.error(400, Some("model"))["code"],
        "model_not_supported"
    );
}

#[test]
fn nothing_makes_embeddings() {
    let server = Server::start();
    server
        .post("/v1/embeddings", &json!({"input": "a"}))
        .error(501, Some("model"));
}

#[test]
fn routes_that_are_none() {
    let server = Server::start();
    server.get("/v1/nothing").error(404, None);
    server.get("/v1/completions").error(405, None);
    server.post("/health", &json!({})).error(405, None);
}

#[test]
fn metrics_count() {
    let server = Server::start();
    server
        .complete(json!({"prompt": "abc", "max_tokens": 5, "ignore_eos": true}))
        .ok();
    server
        .complete(json!({"prompt": 1}))
        .error(400, Some("prompt"));
    server.get("/unknown");
    let metrics = server.get("/metrics");
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    for line in [
        "internlm_requests_finished_total 1",
        "internlm_prompt_tokens_total 3",
        "internlm_completion_tokens_total 5",
        "internlm_requests_running 0",
        "internlm_time_to_first_token_seconds_count 1",
        "internlm_time_per_token_seconds_count 4",
        "internlm_http_requests_total{route=\"/v1/completions\",status=\"200\"} 1",
        "internlm_http_requests_total{route=\"/v1/completions\",status=\"400\"} 1",
        "internlm_http_requests_total{route=\"(none)\",status=\"404\"} 1",
    ] {
        let there = metrics.body.lines().any(|l| l == line);
        assert!(there, "{line} is not in {}", metrics.body);
    }
}

#[test]
fn the_page_is_served_with_its_policy() {
    let server = Server::start();
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"));
    assert!(!policy.contains("unsafe"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let without = Server::with(engine_config(CONTEXT), config().with_chat_page(false));
    without.get("/").error(404, None);
}

#[test]
fn others_mount_the_router() {
    let server = Server::start();
    let config = config().with_api_key("sesame").with_max_body_bytes(2000);
    let routes = internlm_serve::http::router(server.engine.clone(), config);
    let own = axum::routing::get(|| async { "own" });
    let app = axum::Router::new().route("/", own).nest("/llm", routes);
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let address = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    });
    assert_eq!(ask(address, "GET", "/", &[], b"").body, "own");
    ask(address, "GET", "/llm/health", &[], b"").ok();
    ask(address, "GET", "/llm/v1/models", &[], b"").error(401, None);
    let key = ("authorization", "Bearer sesame");
    let body = crate::fixture::chat(json!({"stream": true})).to_string();
    let path = "/llm/v1/chat/completions";
    let events = ask(address, "POST", path, &[key], body.as_bytes()).events();
    assert!(events.last().unwrap()["choices"][0]["finish_reason"].is_string());
    let foreign = [key, ("host", "evil.example")];
    ask(address, "POST", path, &foreign, body.as_bytes()).error(403, None);
    ask(address, "POST", path, &[key], &[b' '; 2001]).error(413, None);
    ask(address, "GET", "/llm/nothing", &[key], b"").error(404, None);
    runtime.shutdown_background();
}
