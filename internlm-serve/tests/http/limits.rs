//! What a request may not be: the server says which field, and goes on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Connection, ask};
use crate::fixture::{CONTEXT, Server, VOCAB_SIZE, chat, config, endless, engine_config};

/// 17. A body one byte over the limit.
#[test]
fn a_body_over_the_limit_is_refused() {
    let limit = 5000;
    let server = Server::with(engine_config(CONTEXT), config().with_max_body_bytes(limit));
    let body = |len: usize| {
        let head = json!({"prompt": "a", "max_tokens": 1}).to_string();
        let mut body = head.trim_end_matches('}').to_owned() + ", \"pad\": \"";
        body.push_str(&"x".repeat(len - body.len() - 2));
        body + "\"}"
    };
    for (len, status) in [
        (limit, 200),
        (limit + 1, 413),
        (2 * limit, 413),
        (100 * limit, 413),
    ] {
        let body = body(len);
        assert_eq!(body.len(), len);
        let reply = ask(
            server.address,
            "POST",
            "/v1/completions",
            &[],
            body.as_bytes(),
        );
        assert_eq!(reply.status, status, "{len} bytes");
        // Nobody says beforehand how long it is.
        let mut connection = Connection::open(server.address);
        connection.send(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
        for piece in body.as_bytes().chunks(1000) {
            connection.send(format!("{:x}\r\n", piece.len()).as_bytes());
            connection.send(piece);
            connection.send(b"\r\n");
        }
        connection.send(b"0\r\n\r\n");
        if len <= 2 * limit {
            assert_eq!(connection.reply().unwrap().status, status, "{len} bytes");
        }
    }
    server.get("/health").ok();
}

/// 17. A hundred thousand headers, one that is too long, and one that never ends.
#[test]
fn heads_have_limits() {
    let config = config().with_header_timeout(Duration::from_millis(300));
    let server = Server::with(engine_config(CONTEXT), config);
    let mut many = Connection::open(server.address);
    many.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n");
    let lines: String = (0..100_000).map(|i| format!("x-{i}: 1\r\n")).collect();
    many.send(lines.as_bytes());
    many.send(b"\r\n");
    if let Some(reply) = many.head() {
        assert_eq!(reply.status, 431);
    }
    assert!(many.is_closed());
    let mut few = Connection::open(server.address);
    few.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n");
    let lines: String = (0..101).map(|i| format!("x-{i}: 1\r\n")).collect();
    few.send(lines.as_bytes());
    few.send(b"\r\n");
    assert_eq!(few.head().unwrap().status, 431);
    let mut long = Connection::open(server.address);
    long.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: ");
    long.send(&vec![b'x'; 1 << 20]);
    if let Some(reply) = long.head() {
        assert_eq!(reply.status, 431);
    }
    assert!(long.is_closed());
    let mut slow = Connection::open(server.address);
    slow.send(b"GET /health HTTP/1.1\r\nhost: loc");
    let said = slow.head().map(|reply| reply.status);
    assert!(said.is_none_or(|status| status == 408), "{said:?}");
    assert!(slow.is_closed());
    server.get("/health").ok();
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let config = config().with_body_timeout(Duration::from_millis(200));
    let server = Server::with(engine_config(CONTEXT), config);
    let mut slow = Connection::open(server.address);
    slow.send(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{");
    slow.reply().unwrap().error(408, None);
}

/// 17. Arrays in arrays.
#[test]
fn deep_json_is_refused() {
    let server = Server::start();
    let deep = "[".repeat(3000) + &"]".repeat(3000);
    for body in [
        deep.clone(),
        format!("{{\"messages\": {deep}}}"),
        format!("{{\"x\": {deep}}}"),
        format!("{{\"tools\": [{{\"name\": \"f\", \"parameters\": {deep}}}]}}"),
    ] {
        for path in [
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/rank",
            "/tokenize",
        ] {
            let reply = ask(server.address, "POST", path, &[], body.as_bytes());
            assert_eq!(reply.status, 400, "{path}");
        }
    }
    server.chat(json!({})).ok();
}

#[test]
fn bodies_that_are_no_json() {
    let server = Server::start();
    for body in [
        "",
        "null",
        "[]",
        "{",
        "{\"messages\": NaN}",
        "{} {}",
        "\u{0}",
    ] {
        let path = "/v1/chat/completions";
        let reply = ask(server.address, "POST", path, &[], body.as_bytes());
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.json()["error"]["message"].is_string());
    }
    let reply = ask(
        server.address,
        "POST",
        "/v1/completions",
        &[],
        b"{\"prompt\": \"\xff\"}",
    );
    assert_eq!(reply.status, 400);
}

/// 18. Every number at its limit, past it, negative, not a number and huge.
#[test]
fn numbers_out_of_range_name_their_field() {
    let server = Server::start();
    let huge = u64::MAX / 2 + 1;
    for (field, good, bad) in [
        ("n", vec![json!(1), json!(32)], vec![json!(0), json!(33)]),
        ("temperature", vec![json!(0), json!(2)], vec![json!(2.01)]),
        (
            "top_p",
            vec![json!(0.01), json!(1)],
            vec![json!(0), json!(1.01)],
        ),
        (
            "top_k",
            vec![json!(-1), json!(0), json!(VOCAB_SIZE)],
            vec![json!(-2), json!(1.5)],
        ),
        ("min_p", vec![json!(0), json!(1)], vec![json!(1.01)]),
        (
            "repetition_penalty",
            vec![json!(0.1), json!(2)],
            vec![json!(0), json!(2.01)],
        ),
        (
            "frequency_penalty",
            vec![json!(-2), json!(2)],
            vec![json!(-2.01), json!(2.01)],
        ),
        (
            "presence_penalty",
            vec![json!(-2), json!(2)],
            vec![json!(-2.01), json!(2.01)],
        ),
        (
            "max_tokens",
            vec![json!(1), json!(100)],
            vec![json!(0), json!(1.5)],
        ),
        (
            "max_completion_tokens",
            vec![json!(1)],
            vec![json!(0), json!("3")],
        ),
        (
            "top_logprobs",
            vec![json!(0), json!(20)],
            vec![json!(21), json!(-1)],
        ),
        (
            "logprobs",
            vec![json!(true), json!(false)],
            vec![json!(1), json!("yes")],
        ),
        (
            "seed",
            vec![json!(-1), json!(0), json!(huge)],
            vec![json!(0.5), json!("x")],
        ),
        (
            "stop",
            vec![json!("a"), json!(vec!["a"; 16])],
            vec![json!(vec!["a"; 17]), json!(""), json!([1])],
        ),
        (
            "stop_token_ids",
            vec![json!([1])],
            vec![json!([VOCAB_SIZE]), json!([-1])],
        ),
        (
            "logit_bias",
            vec![json!({"5": 100})],
            vec![json!({"5": 101}), json!({"x": 1}), json!({"9999": 1})],
        ),
        ("stream", vec![json!(false)], vec![json!("no"), json!(1)]),
        ("ignore_eos", vec![json!(false)], vec![json!(1)]),
        ("tools", vec![json!([])], vec![json!("f"), json!({})]),
        (
            "tool_choice",
            vec![json!("auto"), json!("none")],
            vec![json!("some"), json!(1), json!("required")],
        ),
        (
            "response_format",
            vec![json!({"type": "text"})],
            vec![json!({"type": "poem"}), json!("text")],
        ),
    ] {
        let ask = |value: &Value| {
            let mut fields = json!({"max_tokens": 1, "logprobs": true});
            fields[field] = value.clone();
            if field == "max_completion_tokens" {
                fields.as_object_mut().unwrap().remove("max_tokens");
            }
            server.chat(fields)
        };
        for value in good {
            let reply = ask(&value);
            assert_eq!(reply.status, 200, "{field} {value}: {}", reply.body);
        }
        for value in bad {
            let reply = ask(&value);
            assert_eq!(reply.status, 400, "{field} {value}: {}", reply.body);
            let param = reply.json()["error"]["param"]
                .as_str()
                .unwrap_or("")
                .to_owned();
            assert!(param.starts_with(field), "{field} {value}: {}", reply.body);
        }
        for value in [
            json!(huge),
            json!(-9_223_372_036_854_775_808_i64),
            json!("NaN"),
            json!(1e300),
        ] {
            let reply = ask(&value);
            let param = reply.json()["error"]["param"]
                .as_str()
                .unwrap_or("")
                .to_owned();
            let named = reply.status == 400 && param.starts_with(field);
            assert!(
                named || reply.status == 200,
                "{field} {value}: {}",
                reply.body
            );
        }
    }
}

/// 18. NaN is no JSON; the field is named nevertheless.
#[test]
fn not_a_number_is_refused() {
    let server = Server::start();
    for field in ["temperature", "top_p", "n", "max_tokens"] {
        let body = chat(json!({})).to_string();
        let body = body.replacen('{', &format!("{{\"{field}\": NaN, "), 1);
        let path = "/v1/chat/completions";
        let reply = ask(server.address, "POST", path, &[], body.as_bytes());
        reply.error(400, Some(field));
    }
}

/// 18. Messages.
#[test]
fn messages_that_can_not_be() {
    let server = Server::start();
    for messages in [
        json!(null),
        json!([]),
        json!("Hi"),
        json!([{"content": "Hi"}]),
        json!([{"role": "robot", "content": "Hi"}]),
        json!([{"role": "user", "content": 5}]),
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        json!([{"role": "user", "name": "a\nb", "content": "Hi"}]),
        json!(vec![json!({"role": "user", "content": ""}); 8193]),
    ] {
        let reply = server.chat(json!({"messages": messages}));
        assert_eq!(reply.status, 400, "{messages}: {}", reply.body);
        let param = reply.json()["error"]["param"].as_str().unwrap().to_owned();
        assert!(param.starts_with("messages"), "{param}");
    }
    let long = json!([{"role": "user", "content": "x".repeat(CONTEXT)}]);
    let error = server
        .chat(json!({"messages": long}))
        .error(400, Some("messages"));
    assert_eq!(error["code"], "context_length_exceeded");
}

#[test]
fn tools_that_can_not_be() {
    let server = Server::start();
    let tool = |name: &str, parameters: Value| json!([{"type": "function", "function": {"name": name, "parameters": parameters}}]);
    for (tools, field) in [
        (tool("", json!({})), "tools[0].function.name"),
        (tool("a b", json!({})), "tools[0].function.name"),
        (tool(&"x".repeat(65), json!({})), "tools[0].function.name"),
        (tool("f", json!(5)), "tools[0].function.parameters"),
        (json!([{"type": "function"}]), "tools[0]"),
    ] {
        server.chat(json!({"tools": tools})).error(400, Some(field));
    }
    let named = json!({"type": "function", "function": {"name": "g"}});
    let fields = json!({"tools": tool("f", json!({})), "tool_choice": named});
    server.chat(fields).error(400, Some("tool_choice"));
}

/// 21. A full queue.
#[test]
fn a_full_queue_sends_clients_away() {
    let engine = engine_config(4 * CONTEXT)
        .with_max_batch(1)
        .with_max_waiting(1);
    let server = Server::with(engine, config());
    let body = endless().to_string();
    let mut streams: Vec<Connection> = Vec::new();
    let refused = loop {
        let mut connection = Connection::open(server.address);
        connection.request("POST", "/v1/chat/completions", &[], body.as_bytes());
        let head = connection.head().unwrap();
        if head.status != 200 {
            break head;
        }
        streams.push(connection);
        assert!(streams.len() < 5, "nobody was sent away");
    };
    assert_eq!(refused.status, 429);
    assert!(
        refused
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .is_ok()
    );
    let reply = server.chat(json!({}));
    let error = reply.error(429, None);
    assert_eq!(error["code"], "queue_full");
    drop(streams);
    server.wait_until_free();
    server.chat(json!({})).ok();
}

#[test]
fn a_request_has_a_deadline() {
    let config = config().with_request_deadline(Some(Duration::from_millis(700)));
    let server = Server::with(engine_config(4 * CONTEXT), config);
    let mut body = endless();
    let events = server.post("/v1/chat/completions", &body).events();
    assert_eq!(events.last().unwrap()["error"]["code"], "deadline_exceeded");
    body["stream"] = json!(false);
    let reply = server.post("/v1/chat/completions", &body);
    assert_eq!(reply.error(504, None)["code"], "deadline_exceeded");
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    server.wait_until_free();
    server.chat(json!({})).ok();
}

/// Other unknown fields are passed over, but an answer is never free text where a form was asked for.
#[test]
fn forms_in_words_of_other_servers_are_refused_by_name() {
    let server = Server::start();
    for field in [
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "grammar",
        "json_schema",
    ] {
        let mut fields = json!({"prompt": "a", "max_tokens": 1});
        fields[field] = json!({"regex": "a"});
        server.complete(fields.clone()).error(400, Some(field));
        fields["messages"] = json!([{"role": "user", "content": "a"}]);
        server.chat(fields.clone()).error(400, Some(field));
        fields[field] = json!(null);
        server.complete(fields).ok();
    }
}

/// vLLM's word for forms that OpenAI has none for.
#[cfg(feature = "guided")]
#[test]
fn structured_outputs_are_followed() {
    let server = Server::start();
    let ask = |form: serde_json::Value| {
        let reply = server
            .complete(json!({"prompt": "a", "max_tokens": 40, "structured_outputs": form}))
            .ok();
        reply["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask(json!({"regex": "yes[0-9]{2}"}))[..3], *"yes");
    assert_eq!(ask(json!({"grammar": "start: \"ab\" \"c\""})), "abc");
    let choices = ["north \"1\"", "south\\"];
    assert!(choices.contains(&ask(json!({"choice": choices})).as_str()));
    assert_eq!(ask(json!({"json": {"const": 7}})).trim(), "7");
    for form in [
        json!({}),
        json!({"regex": "a", "choice": ["b"]}),
        json!({"choice": []}),
        json!({"choice": ["a", ""]}),
        json!({"structural_tag": "x"}),
        json!({"regex": "("}),
        json!({"grammar": "start: ("}),
    ] {
        let fields = json!({"prompt": "a", "max_tokens": 1, "structured_outputs": form});
        let reply = server.complete(fields);
        assert_eq!(reply.status, 400, "{form}");
    }
    let both = json!({"prompt": "a", "structured_outputs": {"regex": "a"},
        "response_format": {"type": "json_object"}});
    server.complete(both).error(400, Some("structured_outputs"));
}

/// A completion can have a form as well as a chat.
#[cfg(feature = "guided")]
#[test]
fn completions_have_forms_too() {
    let server = Server::start();
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    let reply = server
        .complete(json!({"prompt": "a", "max_tokens": 400, "response_format": format}))
        .ok();
    let choice = &reply["choices"][0];
    if choice["finish_reason"] == "stop" {
        let answer: serde_json::Value =
            serde_json::from_str(choice["text"].as_str().unwrap()).unwrap();
        assert!(answer["ok"].is_boolean(), "{answer}");
    } else {
        // White space may go on for long; what is there is the beginning of the form.
        assert!(
            choice["text"]
                .as_str()
                .unwrap()
                .trim_start()
                .starts_with('{')
        );
    }
}
