//! `/v1/completions`.

use serde_json::{Value, json};

use crate::fixture::{CONTEXT, HELLO, Server};

#[test]
fn a_prompt_has_four_forms() {
    let server = Server::start();
    let texts = |prompt: Value| -> Vec<Value> {
        let reply = server.complete(json!({"prompt": prompt, "max_tokens": 5, "ignore_eos": true}));
        let reply = reply.ok();
        assert_eq!(reply["object"], "text_completion");
        let choices = reply["choices"].as_array().unwrap();
        choices
            .iter()
            .map(|choice| choice["text"].clone())
            .collect()
    };
    let one = texts(json!("ab"));
    assert_eq!(one.len(), 1);
    assert_eq!(texts(json!([97, 98])), one);
    let two = texts(json!(["ab", "c"]));
    assert_eq!((two.len(), &two[0]), (2, &one[0]));
    assert_eq!(texts(json!([[97, 98], [99]])), two);
}

#[test]
fn several_answers_to_several_prompts() {
    let server = Server::start();
    let fields = json!({"prompt": ["ab", "c"], "n": 2, "seed": 3, "temperature": 2, "max_tokens": 9,
        "ignore_eos": true, "stream": true, "stream_options": {"include_usage": true}});
    let events = server.complete(fields.clone()).events();
    let mut whole = fields;
    whole["stream"] = json!(false);
    let whole = server.complete(whole).ok();
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
    assert_eq!(
        whole["usage"],
        json!({"prompt_tokens": 3, "completion_tokens": 36, "total_tokens": 39,
            "prompt_tokens_details": {"cached_tokens": 0}})
    );
    for (i, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        assert_eq!(choice["index"], i);
        let of_index = |event: &&Value| event["choices"][0]["index"] == i;
        let text: String = events
            .iter()
            .filter(of_index)
            .filter_map(|event| event["choices"][0]["text"].as_str())
            .collect();
        assert_eq!(choice["text"], text);
    }
}

#[test]
fn the_default_is_sixteen_tokens() {
    let server = Server::start();
    let reply = server
        .complete(json!({"prompt": "ab", "ignore_eos": true}))
        .ok();
    assert_eq!(reply["usage"]["completion_tokens"], 16);
}

#[test]
fn logprobs_of_the_answer() {
    let server = Server::start();
    let bias = json!({HELLO.to_string(): 100});
    let fields = json!({"prompt": "ab", "max_tokens": 2, "logprobs": 2, "logit_bias": bias});
    let reply = server.complete(fields.clone()).ok();
    let logprobs = &reply["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["Hello", "Hello"]));
    assert_eq!(logprobs["text_offset"], json!([0, 5]));
    assert_eq!(logprobs["token_logprobs"].as_array().unwrap().len(), 2);
    assert!(logprobs["top_logprobs"][0]["Hello"].is_number());
    let mut echoed = fields;
    echoed["echo"] = json!(true);
    let reply = server.complete(echoed).ok();
    assert_eq!(reply["choices"][0]["text"], "abHelloHello");
    let logprobs = &reply["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["a", "b", "Hello", "Hello"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1, 2, 7]));
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    assert_eq!(logprobs["top_logprobs"][0], Value::Null);
    assert!(logprobs["token_logprobs"][1].is_number());
}

/// What a prompt's tokens are worth is what they would be worth as an answer.
#[test]
fn an_echo_scores_the_prompt() {
    let server = Server::start();
    let prompt: Vec<u32> = (0..150).map(|i| (i * 37 + 5) % 256).collect();
    let scored = |prompt: &[u32], max_tokens: usize| {
        let fields = json!({"prompt": prompt, "max_tokens": max_tokens, "echo": true, "logprobs": 3,
            "return_tokens_as_token_ids": true, "ignore_eos": true});
        server.complete(fields).ok()["choices"][0]["logprobs"].clone()
    };
    let silent = scored(&prompt, 0);
    let tokens = silent["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 150);
    assert_eq!(tokens[1], format!("token_id:{}", prompt[1]));
    let more = scored(&prompt, 6);
    let answer: Vec<u32> = more["tokens"].as_array().unwrap()[150..]
        .iter()
        .map(|token| {
            token
                .as_str()
                .unwrap()
                .strip_prefix("token_id:")
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(answer.len(), 6);
    let all = scored(&[prompt, answer].concat(), 0);
    for i in 1..156 {
        let (a, b) = (&more["token_logprobs"][i], &all["token_logprobs"][i]);
        let difference = a.as_f64().unwrap() - b.as_f64().unwrap();
        assert!(difference.abs() < 1e-4, "{i}: {a} and {b}");
    }
    // Greedy answers are the most likely tokens.
    for i in 150..156 {
        let top = all["top_logprobs"][i].as_object().unwrap();
        let best = top
            .values()
            .filter_map(Value::as_f64)
            .fold(f64::MIN, f64::max);
        assert_eq!(all["token_logprobs"][i], best);
    }
}

#[test]
fn an_echo_without_an_answer() {
    let server = Server::start();
    for stream in [false, true] {
        let fields =
            json!({"prompt": ["ab", "c"], "max_tokens": 0, "echo": true, "stream": stream});
        let reply = server.complete(fields);
        if !stream {
            let choices = reply.ok()["choices"].clone();
            assert_eq!(
                (&choices[0]["text"], &choices[1]["text"]),
                (&json!("ab"), &json!("c"))
            );
            assert_eq!(choices[1]["finish_reason"], "length");
            continue;
        }
        let events = reply.events();
        let finished = events
            .iter()
            .filter(|e| e["choices"][0]["finish_reason"] == "length");
        assert_eq!(finished.count(), 2);
    }
}

#[test]
fn the_best_are_shown() {
    let server = Server::start();
    let fields = |best_of: usize, n: usize| {
        json!({"prompt": "ab", "max_tokens": 6, "seed": 1, "temperature": 2, "ignore_eos": true,
            "n": n, "best_of": best_of, "logprobs": 0})
    };
    let mean = |choice: &Value| {
        let values = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        values.iter().filter_map(Value::as_f64).sum::<f64>() / values.len() as f64
    };
    let all = server.complete(fields(4, 4)).ok();
    let best = server.complete(fields(4, 1)).ok();
    let means = all["choices"].as_array().unwrap().iter().map(mean);
    let highest = means.fold(f64::MIN, f64::max);
    assert_eq!(best["choices"].as_array().unwrap().len(), 1);
    assert!((mean(&best["choices"][0]) - highest).abs() < 1e-6);
    assert_eq!(best["usage"], all["usage"]);
}

#[test]
fn markers_are_parsed_where_the_client_asks() {
    let server = Server::start();
    let tokens = |parse: bool| {
        let fields =
            json!({"prompt": "<|im_start|>", "max_tokens": 1, "parse_special_tokens": parse});
        server.complete(fields).ok()["usage"]["prompt_tokens"].clone()
    };
    assert_eq!((tokens(true), tokens(false)), (json!(1), json!(12)));
}

#[test]
fn prompts_that_can_not_be() {
    let server = Server::start();
    for prompt in [
        json!(null),
        json!(""),
        json!([]),
        json!([[]]),
        json!([""]),
        json!(5),
        json!({"a": 1}),
        json!([1, "a"]),
        json!([-1]),
        json!([9999]),
        json!(vec!["a"; 33]),
    ] {
        let reply = server.complete(json!({"prompt": prompt, "max_tokens": 1}));
        reply.error(400, Some("prompt"));
    }
    let long = server.complete(json!({"prompt": vec![5; CONTEXT + 1], "max_tokens": 1}));
    let error = long.error(400, Some("prompt"));
    assert_eq!(error["code"], "context_length_exceeded");
    for (field, value) in [
        ("suffix", json!("x")),
        ("best_of", json!(0)),
        ("logprobs", json!(21)),
    ] {
        let mut body = json!({"prompt": "a", "max_tokens": 1});
        body[field] = value;
        server.complete(body).error(400, Some(field));
    }
}
