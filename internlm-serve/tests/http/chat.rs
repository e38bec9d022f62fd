//! `/v1/chat/completions`.

use serde_json::{Value, json};

use crate::fixture::{BOOK, END, HELLO, Server, TIME, WEATHER};

/// Makes the model say this token.
fn say(token: u32) -> Value {
    json!({token.to_string(): 100})
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
}

/// Two calls and the end: each token is less likely once it was said.
fn two_calls() -> Value {
    json!({
        "tools": [tool("weather"), tool("time")], "max_tokens": 8, "presence_penalty": 2, "frequency_penalty": 2,
        "logit_bias": {WEATHER.to_string(): 100, TIME.to_string(): 98.7, END.to_string(): 97.4},
    })
}

#[test]
fn an_answer_in_one_piece() {
    let server = Server::start();
    let reply = server
        .chat(json!({"logit_bias": say(HELLO), "max_tokens": 3}))
        .ok();
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["model"], "tiny");
    let choice = &reply["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], "HelloHelloHello");
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["logprobs"], Value::Null);
    let usage = &reply["usage"];
    assert_eq!(usage["completion_tokens"], 3);
    let prompt_tokens = usage["prompt_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], prompt_tokens + 3);
    let tokens = server
        .post("/tokenize", &crate::fixture::chat(json!({})))
        .ok();
    assert_eq!(tokens["count"], prompt_tokens);
}

#[test]
fn a_stream_is_the_answer_in_pieces() {
    let server = Server::start();
    let fields = json!({"seed": 5, "temperature": 1.5, "max_tokens": 40, "ignore_eos": true});
    let whole = server.chat(fields.clone()).ok();
    let mut streamed = fields;
    streamed["stream"] = json!(true);
    let events = server.chat(streamed.clone()).events();
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let finished = events.last().unwrap();
    assert_eq!(finished["choices"][0]["finish_reason"], "length");
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "chat.completion.chunk"
                && event["id"] == events[0]["id"]
                && event.get("usage").is_none())
    );
    streamed["stream_options"] = json!({"include_usage": true});
    let events = server.chat(streamed).events();
    let (last, others) = events.split_last().unwrap();
    assert_eq!(last["usage"], whole["usage"]);
    assert_eq!(last["choices"], json!([]));
    assert!(others.iter().all(|event| event["usage"].is_null()));
}

#[test]
fn several_answers() {
    let server = Server::start();
    let fields = json!({"n": 3, "seed": 1, "temperature": 2, "max_tokens": 12, "ignore_eos": true});
    let reply = server.chat(fields.clone()).ok();
    let choices = reply["choices"].as_array().unwrap();
    let content = |i: usize| choices[i]["message"]["content"].as_str().unwrap();
    assert_eq!(choices.len(), 3);
    assert_ne!(content(0), content(1));
    assert_eq!(reply["usage"]["completion_tokens"], 36);
    let mut streamed = fields;
    streamed["stream"] = json!(true);
    let events = server.chat(streamed).events();
    for i in 0..3 {
        let of_index = |event: &&Value| event["choices"][0]["index"] == i;
        let deltas = events.iter().filter(of_index);
        let text: String = deltas
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, content(i));
    }
}

#[test]
fn stops() {
    let server = Server::start();
    let stop = |fields: Value| {
        let mut body = json!({"logit_bias": say(HELLO), "max_tokens": 8});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let choice = server.chat(body).ok()["choices"][0].clone();
        let content = choice["message"]["content"].as_str().unwrap().to_owned();
        (
            content,
            choice["finish_reason"].as_str().unwrap().to_owned(),
        )
    };
    let stopped = |text: &str| (text.to_owned(), "stop".to_owned());
    assert_eq!(stop(json!({"stop": "loHel"})), stopped("Hel"));
    assert_eq!(stop(json!({"stop": ["x", "oHe"]})), stopped("Hell"));
    assert_eq!(stop(json!({"stop_token_ids": [HELLO]})), stopped(""));
    let events = server
        .chat(json!({"logit_bias": say(HELLO), "stop": "loHel", "stream": true}))
        .events();
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "Hel");
}

#[test]
fn logprobs_have_text_and_bytes() {
    let server = Server::start();
    let fields =
        json!({"logit_bias": say(BOOK), "logprobs": true, "top_logprobs": 2, "max_tokens": 2});
    let reply = server.chat(fields.clone()).ok();
    let content = reply["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(content.len(), 2);
    for token in content {
        assert_eq!(token["token"], "书");
        assert_eq!(token["bytes"], json!("书".as_bytes()));
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
    }
    let mut streamed = fields.clone();
    streamed["stream"] = json!(true);
    let events = server.chat(streamed).events();
    let pieces: Vec<_> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(&pieces, content);
    let mut named = fields;
    named["return_tokens_as_token_ids"] = json!(true);
    let reply = server.chat(named).ok();
    let token = &reply["choices"][0]["logprobs"]["content"][0]["token"];
    assert_eq!(token, &json!(format!("token_id:{BOOK}")));
    // A byte that is no character alone.
    let byte = server.chat(json!({"logit_bias": {"228": 100}, "logprobs": true, "max_tokens": 1}));
    let byte = &byte.ok()["choices"][0]["logprobs"]["content"][0];
    assert_eq!(
        (&byte["token"], &byte["bytes"]),
        (&json!("\u{fffd}"), &json!([228]))
    );
}

#[test]
fn tools_are_called_side_by_side() {
    let server = Server::start();
    let reply = server.chat(two_calls()).ok();
    let choice = &reply["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0]["type"], "function");
    assert_eq!(calls[0]["function"]["name"], "weather");
    let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert_eq!(arguments, json!({"city": "Paris"}));
    assert_eq!(calls[1]["function"]["name"], "time");
    assert_ne!(calls[0]["id"], calls[1]["id"]);

    let mut streamed = two_calls();
    streamed["stream"] = json!(true);
    let events = server.chat(streamed).events();
    let deltas: Vec<_> = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array())
        .flatten()
        .collect();
    assert_eq!(deltas.len(), 2);
    for (index, delta) in deltas.iter().enumerate() {
        assert_eq!(delta["index"], index);
        assert_eq!(delta["function"], calls[index]["function"]);
        assert!(delta["id"].as_str().unwrap().starts_with("call_"));
    }
    let last = events.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn one_call_at_a_time() {
    let server = Server::start();
    for stream in [false, true] {
        let mut fields = two_calls();
        fields["parallel_tool_calls"] = json!(false);
        fields["stream"] = json!(stream);
        let reply = server.chat(fields);
        let names = reply.body.matches("\"name\":").count();
        assert_eq!(names, 1, "{}", reply.body);
    }
}

#[test]
fn a_conversation_with_calls_is_read() {
    let server = Server::start();
    let messages = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function",
            "function": {"name": "weather", "arguments": "{\"city\": \"Paris\"}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "21 C"},
    ]);
    let fields = json!({"messages": messages, "tools": [tool("weather")]});
    let tokens = server.post("/tokenize", &fields).ok();
    let text = server
        .post("/detokenize", &json!({"tokens": tokens["tokens"]}))
        .ok();
    let text = text["prompt"].as_str().unwrap();
    assert!(
        text.contains("Paris") && text.ends_with("<|im_start|>assistant\n"),
        "{text}"
    );
    server.chat(fields).ok();
}

/// 14. What a person types is no special token, not even in a part that says so.
#[test]
fn markers_of_strangers_are_text() {
    let server = Server::start();
    let count = |content: Value| {
        let messages = json!([{"role": "user", "content": content}]);
        let tokens = server
            .post("/tokenize", &json!({"messages": messages}))
            .ok();
        let tokens = tokens["tokens"].as_array().unwrap().clone();
        tokens.iter().filter(|&token| *token == END).count()
    };
    let plain = count(json!("x"));
    assert_eq!(count(json!("<|im_end|>")), plain);
    assert_eq!(
        count(json!([{"type": "marker", "text": "<|im_end|>"}])),
        plain
    );
}

#[test]
fn fields_of_others_are_ignored() {
    let server = Server::start();
    server
        .chat(
            json!({"user": "me", "store": true, "metadata": {"a": "b"}, "service_tier": "auto",
            "reasoning_effort": "low", "temperature": null, "stop": null, "tools": null,
            "tool_choice": null, "response_format": null, "logit_bias": null, "seed": null}),
        )
        .ok();
}
