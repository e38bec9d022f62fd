//! What is sent.

use internlm_core::chat_model::{Input, ResponseFormat};
use internlm_core::remote::Dialect;
use internlm_core::tool::ToolChoice;
use internlm_core::{
    ChatModel, ChatRequest, Error, Message, Part, SamplingParams, ToolCall, ToolSpec,
};
use serde_json::{Value, json};

use crate::server::{Answer, Received, Server, events};

fn end() -> Answer {
    Answer::stream(&events(&[
        json!({"choices": [{"index": 0, "text": "", "delta": {}, "finish_reason": "stop"}]}),
    ]))
}

fn sent(dialect: Dialect, request: &ChatRequest) -> Received {
    let server = Server::start([end()]);
    server.model(dialect).complete(request).unwrap();
    server.received().remove(0)
}

#[track_caller]
fn check(dialect: Dialect, request: &ChatRequest, path: &str, want: Value) {
    let got = sent(dialect, request);
    assert_eq!((got.method.as_str(), got.path.as_str()), ("POST", path));
    assert_eq!(got.body, want);
}

/// No server is there: what is refused is refused before anything is sent.
#[track_caller]
fn refused(dialect: Dialect, request: &ChatRequest, want: &str) {
    let server = Server::start([]);
    match server.model(dialect).generate(request).map(drop) {
        Err(Error::Request { field, .. }) => assert_eq!(field, want),
        other => panic!("{other:?}"),
    }
}

fn hi() -> ChatRequest {
    ChatRequest::messages(vec![Message::user("Hi")])
}

#[test]
fn a_plain_request_has_open_ais_fields_only() {
    check(
        Dialect::OpenAi,
        &hi(),
        "/v1/chat/completions",
        json!({
            "model": "m",
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": true,
            "stream_options": {"include_usage": true},
            "temperature": 0.0,
            "top_p": 1.0,
        }),
    );
}

#[test]
fn headers() {
    let server = Server::start([end()]);
    let config = server
        .config()
        .with_api_key("sk-1")
        .with_header("X-Team", "blue");
    let model = internlm_core::remote::RemoteModel::new(config).unwrap();
    model.complete(&hi()).unwrap();
    let got = &server.received()[0];
    assert_eq!(got.header("authorization"), Some("Bearer sk-1"));
    assert_eq!(got.header("x-team"), Some("blue"));
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!(got.header("accept"), Some("text/event-stream"));
}

fn full() -> ChatRequest {
    let mut p = SamplingParams::greedy()
        .with_temperature(0.7)
        .with_top_p(0.9)
        .with_top_k(40)
        .with_min_p(0.05)
        .with_repetition_penalty(1.1)
        .with_seed(7)
        .with_max_new_tokens(64)
        .with_stop("\n\n")
        .with_ignore_eos(true);
    p.frequency_penalty = 0.25;
    p.presence_penalty = -0.5;
    p.logit_bias = vec![(5, 1.5), (6, f32::NEG_INFINITY)];
    hi().with_sampling(p)
}

fn full_json(more: Value) -> Value {
    let mut want = json!({
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": true,
        "stream_options": {"include_usage": true},
        "max_tokens": 64,
        "temperature": 0.7,
        "top_p": 0.9,
        "frequency_penalty": 0.25,
        "presence_penalty": -0.5,
        "top_k": 40,
        "min_p": 0.05,
        "seed": 7,
        "stop": ["\n\n"],
        "ignore_eos": true,
        "logit_bias": {"5": 1.5, "6": -100.0},
    });
    for (name, value) in more.as_object().unwrap() {
        want[name] = value.clone();
    }
    want
}

#[test]
fn every_sampling_parameter_is_sent() {
    let chat = "/v1/chat/completions";
    let mut request = full();
    let plain = json!({"repetition_penalty": 1.1});
    check(Dialect::OpenAi, &request, chat, full_json(plain.clone()));
    // LMDeploy keeps to all but two.
    let mut lmdeploy = request.clone();
    lmdeploy.sampling.frequency_penalty = 0.0;
    lmdeploy.sampling.presence_penalty = 0.0;
    let want = json!({"repetition_penalty": 1.1, "return_token_ids": true,
        "frequency_penalty": 0.0, "presence_penalty": 0.0});
    check(Dialect::LmDeploy, &lmdeploy, chat, full_json(want));
    request.sampling.logprobs = Some(3);
    let want = json!({"repeat_penalty": 1.1, "repeat_last_n": 131_072, "logprobs": true,
        "top_logprobs": 3});
    check(Dialect::LlamaCpp, &request, chat, full_json(want));
    request.sampling.logprobs = Some(0);
    let got = sent(Dialect::LlamaCpp, &request).body["top_logprobs"].clone();
    assert_eq!(got, 1, "0 would be none");
    request.sampling.logprobs = Some(3);
    request.sampling.stop_token_ids = vec![2, 92542];
    let want = json!({"repetition_penalty": 1.1, "return_token_ids": true, "logprobs": true,
        "top_logprobs": 3, "return_tokens_as_token_ids": true, "stop_token_ids": [2, 92542]});
    check(Dialect::Vllm, &request, chat, full_json(want));
    request.sampling.logprobs = None;
    let mut want = full_json(plain);
    want["stop_token_ids"] = json!([2, 92542]);
    check(Dialect::OpenAi, &request, chat, want);
}

#[test]
fn a_known_server_is_told_what_is_off() {
    let common = |more: Value| {
        let mut want = json!({
            "model": "m", "prompt": [1, 2], "stream": true,
            "stream_options": {"include_usage": true}, "max_tokens": null,
            "temperature": 0.0, "top_p": 1.0, "min_p": 0.0,
            "frequency_penalty": 0.0, "presence_penalty": 0.0,
        });
        for (name, value) in more.as_object().unwrap() {
            want[name] = value.clone();
        }
        want
    };
    let request = ChatRequest::new(Input::Ids(vec![1, 2]));
    let path = "/v1/completions";
    let want = json!({"top_k": -1, "repetition_penalty": 1.0, "return_token_ids": true});
    check(Dialect::Vllm, &request, path, common(want));
    let want = json!({"top_k": 0, "repeat_penalty": 1.0});
    check(Dialect::LlamaCpp, &request, path, common(want));
    let mut request = ChatRequest::prompt("x");
    request.sampling.max_new_tokens = Some(4);
    let want = json!({"prompt": "x", "max_tokens": 4, "top_k": 1, "repetition_penalty": 1.0,
        "return_token_ids": true});
    check(Dialect::LmDeploy, &request, path, common(want));
    request.sampling.temperature = 0.5;
    assert_eq!(sent(Dialect::LmDeploy, &request).body["top_k"], 0);
}

#[test]
fn prompts_and_ids_are_completions() {
    let parts = vec![Part::marker("<s>"), Part::text("2+2=")];
    let request = ChatRequest::new(Input::Prompt(parts))
        .with_sampling(
            SamplingParams::greedy()
                .with_max_new_tokens(3)
                .with_logprobs(2),
        )
        .with_keep_special_tokens(true);
    let got = sent(Dialect::Vllm, &request);
    assert_eq!(got.path, "/v1/completions");
    let body = got.body;
    assert_eq!(
        (&body["prompt"], &body["logprobs"]),
        (&json!("<s>2+2="), &json!(2))
    );
    assert_eq!(body["skip_special_tokens"], false);
    assert_eq!(body["max_tokens"], 3);
    assert!(body.get("top_logprobs").is_none() && body.get("messages").is_none());

    // Without a limit: up to the end of the context, where it is known.
    let server = Server::start([end()]);
    let config = server.config().with_context_length(10);
    let model = internlm_core::remote::RemoteModel::new(config).unwrap();
    model
        .complete(&ChatRequest::new(Input::Ids(vec![1, 2])))
        .unwrap();
    assert_eq!(server.bodies()[0]["max_tokens"], 8);
}

#[test]
fn conversations_have_open_ais_form() {
    let calls = vec![
        ToolCall::new("f", json!({"a": 1})),
        ToolCall::new("g", json!("{\"a\": ")).with_id("given"),
    ];
    let messages = vec![
        Message::system("s").with_name("plugin"),
        Message::user("u"),
        Message::assistant("").with_tool_calls(calls.clone()),
        Message::environment("2").with_tool_call_id("given"),
        Message::environment("1").with_name("f"),
        Message::environment("stray"),
        Message::assistant("t").with_tool_calls(calls[..1].to_vec()),
        Message::environment("3"),
        Message::assistant("done"),
    ];
    let body = sent(Dialect::OpenAi, &ChatRequest::messages(messages)).body;
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let want = json!([
        {"content": "s", "name": "plugin", "role": "system"},
        {"content": "u", "role": "user"},
        {"content": null, "role": "assistant",
            "tool_calls": [call("call_0", "f", "{\"a\":1}"), call("given", "g", "{\"a\": ")]},
        {"content": "2", "role": "tool", "tool_call_id": "given"},
        {"content": "1", "name": "f", "role": "tool", "tool_call_id": "call_0"},
        {"content": "stray", "role": "tool"},
        {"content": "t", "role": "assistant", "tool_calls": [call("call_2", "f", "{\"a\":1}")]},
        {"content": "3", "role": "tool", "tool_call_id": "call_2"},
        {"content": "done", "role": "assistant"},
    ]);
    assert_eq!(body["messages"], want);
}

#[test]
fn tools_and_formats() {
    let schema = json!({"type": "object"});
    let tools = vec![
        ToolSpec::new("f", "Does f.", schema.clone()),
        ToolSpec::new("g", "", Value::Null),
    ];
    let request = hi().with_tools(tools);
    let body = |request: &ChatRequest| sent(Dialect::OpenAi, request).body;
    let tools_json = json!([
        {"type": "function",
            "function": {"name": "f", "description": "Does f.", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g", "description": ""}},
    ]);
    let auto = body(&request);
    assert_eq!(
        (&auto["tools"], auto.get("tool_choice")),
        (&tools_json, None)
    );
    let choice = |choice| body(&request.clone().with_tool_choice(choice));
    assert_eq!(choice(ToolChoice::Required)["tool_choice"], "required");
    let named = choice(ToolChoice::Tool("g".into()));
    let want = json!({"type": "function", "function": {"name": "g"}});
    assert_eq!(named["tool_choice"], want);
    // llama.cpp takes no names.
    let request_g = request
        .clone()
        .with_tool_choice(ToolChoice::Tool("g".into()));
    let named = sent(Dialect::LlamaCpp, &request_g).body;
    assert_eq!(
        (&named["tool_choice"], &named["tools"]),
        (&json!("required"), &json!([tools_json[1]]))
    );
    let none = choice(ToolChoice::None);
    assert!(none.get("tools").is_none() && none.get("tool_choice").is_none());

    let format = |format| body(&hi().with_response_format(format))["response_format"].clone();
    assert_eq!(format(ResponseFormat::Text), Value::Null);
    assert_eq!(
        format(ResponseFormat::JsonObject),
        json!({"type": "json_object"})
    );
    let want = json!({"type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": true}});
    assert_eq!(format(ResponseFormat::JsonSchema(schema)), want);

    // Forms that OpenAI has no word for, in the words of those who have one.
    let regex = hi().with_response_format(ResponseFormat::Regex("a+".into()));
    let grammar = hi().with_response_format(ResponseFormat::Lark("start: \"a\"".into()));
    let vllm = |request| sent(Dialect::Vllm, request).body["structured_outputs"].clone();
    assert_eq!(vllm(&regex), json!({"regex": "a+"}));
    assert_eq!(vllm(&grammar), json!({"grammar": "start: \"a\""}));
    let lmdeploy = &sent(Dialect::LmDeploy, &regex).body["response_format"];
    assert_eq!(
        *lmdeploy,
        json!({"type": "regex_schema", "regex_schema": "a+"})
    );
    refused(Dialect::LmDeploy, &grammar, "response_format");
    for dialect in [Dialect::OpenAi, Dialect::LlamaCpp] {
        refused(dialect, &regex, "response_format");
        refused(dialect, &grammar, "response_format");
    }
}

#[test]
fn what_a_server_cannot_keep_is_refused() {
    let open_ai = |request: &ChatRequest, field| refused(Dialect::OpenAi, request, field);
    let tool = || vec![ToolSpec::new("f", "", Value::Null)];
    open_ai(&ChatRequest::messages(Vec::new()), "messages");
    open_ai(&ChatRequest::new(Input::Ids(Vec::new())), "ids");
    open_ai(&ChatRequest::prompt("x"), "max_new_tokens");
    open_ai(&hi().with_tool_choice(ToolChoice::Required), "tool_choice");
    let other = ToolChoice::Tool("g".into());
    open_ai(
        &hi().with_tools(tool()).with_tool_choice(other),
        "tool_choice",
    );
    let limited = SamplingParams::greedy().with_max_new_tokens(1);
    let prompt = ChatRequest::prompt("x").with_sampling(limited);
    open_ai(&prompt.with_tools(tool()), "tools");
    open_ai(
        &hi().with_tools(tool()).with_keep_special_tokens(true),
        "keep_special_tokens",
    );
    let marked = Message::user("").with_content(vec![Part::marker("<|im_end|>")]);
    open_ai(&ChatRequest::messages(vec![marked]), "messages");
    let bad = SamplingParams::greedy().with_temperature(-1.0);
    open_ai(&hi().with_sampling(bad), "temperature");

    let object = ChatRequest::prompt("x")
        .with_sampling(SamplingParams::greedy().with_max_new_tokens(1))
        .with_response_format(ResponseFormat::JsonObject);
    open_ai(&object, "response_format");
    let logprobs = hi().with_sampling(SamplingParams::greedy().with_logprobs(1));
    open_ai(&logprobs, "logprobs");

    let llama = |request: &ChatRequest, field| refused(Dialect::LlamaCpp, request, field);
    let with = |set: fn(&mut SamplingParams)| {
        let mut request = hi();
        set(&mut request.sampling);
        request
    };
    llama(&with(|p| p.stop_token_ids = vec![2]), "stop_token_ids");
    llama(&with(|p| p.seed = Some(u64::from(u32::MAX))), "seed");
    llama(&hi().with_keep_special_tokens(true), "keep_special_tokens");
    llama(&object, "response_format");

    let lmdeploy = |request: &ChatRequest, field| refused(Dialect::LmDeploy, request, field);
    lmdeploy(&logprobs, "logprobs");
    lmdeploy(&with(|p| p.stop_token_ids = vec![2]), "stop_token_ids");
    lmdeploy(&with(|p| p.frequency_penalty = 1.0), "frequency_penalty");
    lmdeploy(&with(|p| p.presence_penalty = 1.0), "presence_penalty");
    lmdeploy(&with(|p| p.seed = Some(0)), "seed");
    lmdeploy(
        &hi()
            .with_tools(tool())
            .with_tool_choice(ToolChoice::Required),
        "tool_choice",
    );
    lmdeploy(&ChatRequest::prompt("x"), "max_new_tokens");
    lmdeploy(&ChatRequest::new(Input::Ids(vec![1])), "ids");
    lmdeploy(&object, "response_format");
    let mut biased = object.with_response_format(ResponseFormat::Text);
    biased.sampling.logit_bias = vec![(1, 1.0)];
    lmdeploy(&biased, "logit_bias");
}
