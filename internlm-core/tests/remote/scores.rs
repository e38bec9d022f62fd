//! The scorer: facts, tokenizer, templates, and log-likelihoods of echoed prompts.

use internlm_core::remote::{Dialect, RemoteConfig, RemoteModel};
use internlm_core::scorer::{ScoreRequest, TokenScore, Tokens};
use internlm_core::{Error, Message, Part, RewardModel, Scorer, ToolSpec};
use serde_json::{Value, json};

use crate::server::{Answer, Server};

fn tokens(ids: &[u32]) -> Answer {
    Answer::json(&json!({"tokens": ids, "count": ids.len(), "max_model_len": 16}))
}

/// What a server says of these prompts: -0.5 times the token's id for each token, and a most
/// likely token beside each of even id.
fn echo(prompts: &[&[u32]]) -> Answer {
    let choice = |(index, ids): (usize, &&[u32])| {
        // One token is generated.
        let ids: Vec<u32> = ids.iter().copied().chain([99]).collect();
        let names: Vec<String> = ids.iter().map(|id| format!("token_id:{id}")).collect();
        let value = |id: &u32| -0.5 * f64::from(*id);
        let mut values: Vec<Value> = ids.iter().map(|id| json!(value(id))).collect();
        let mut tops: Vec<Value> = ids
            .iter()
            .zip(&names)
            .map(|(id, name)| match id % 2 {
                0 => json!({name: value(id), "token_id:1000": -0.25}),
                _ => json!({name: value(id)}),
            })
            .collect();
        (values[0], tops[0]) = (Value::Null, Value::Null);
        json!({"index": index, "text": "", "logprobs":
            {"tokens": names, "token_logprobs": values, "top_logprobs": tops}})
    };
    let mut choices: Vec<Value> = prompts.iter().enumerate().map(choice).collect();
    choices.reverse();
    Answer::json(&json!({"choices": choices}))
}

fn scores(ids: &[u32]) -> Vec<TokenScore> {
    let score = |&id: &u32| TokenScore {
        id,
        logprob: -0.5 * id as f32,
        is_argmax: id % 2 == 1,
    };
    ids.iter().map(score).collect()
}

fn request(context: impl Into<Tokens>, continuation: impl Into<Tokens>) -> ScoreRequest {
    ScoreRequest {
        context: context.into(),
        continuation: continuation.into(),
    }
}

fn vllm(answers: impl IntoIterator<Item = Answer>) -> (Server, RemoteConfig) {
    let server = Server::start(answers);
    let config = server.config().with_dialect(Dialect::Vllm);
    (server, config)
}

#[test]
fn facts_come_from_the_server() {
    let list = json!({"object": "list", "data": [
        {"id": "other", "owned_by": "vllm", "max_model_len": 1},
        {"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": 4096}]});
    let server = Server::start([Answer::json(&list), tokens(&[1])]);
    let model = RemoteModel::connect(server.config()).unwrap();
    let facts = model.facts();
    assert_eq!((facts.name.as_str(), facts.context_length), ("m", 4096));
    assert_eq!(
        (facts.prefix_token, model.dialect()),
        (Some(1), Dialect::Vllm)
    );
    let got = server.received();
    assert_eq!(
        (got[0].method.as_str(), got[0].path.as_str()),
        ("GET", "/v1/models")
    );
    assert_eq!(got[1].path, "/tokenize");
    let want = json!({"model": "m", "prompt": "", "add_special_tokens": true});
    assert_eq!(got[1].body, want);

    let list = json!({"data": [{"id": "one.gguf", "owned_by": "llamacpp",
        "meta": {"n_vocab": 92544, "n_ctx": 2048, "n_ctx_train": 32768}}]});
    let server = Server::start([Answer::json(&list)]);
    let mut config = server
        .config()
        .with_prefix_token(7)
        .with_context_length(1024);
    config.model.clear();
    let model = RemoteModel::connect(config).unwrap();
    let facts = model.facts();
    assert_eq!((facts.name.as_str(), facts.vocab_size), ("one.gguf", 92544));
    assert_eq!((facts.context_length, facts.prefix_token), (1024, Some(7)));
    assert_eq!(model.dialect(), Dialect::LlamaCpp);

    // A server without a tokenizer, and one of which nothing is known.
    let list = json!({"data": [{"id": "m"}]});
    let missing = Answer::status(404, "", r#"{"detail": "Not Found"}"#);
    let server = Server::start([Answer::json(&list), missing]);
    let model = RemoteModel::connect(server.config()).unwrap();
    assert_eq!(
        (model.facts().prefix_token, model.dialect()),
        (None, Dialect::OpenAi)
    );
}

#[test]
fn a_model_that_is_not_there() {
    let list = json!({"data": [{"id": "a"}, {"id": "b"}]});
    for name in ["m", ""] {
        let server = Server::start([Answer::json(&list)]);
        let mut config = server.config();
        config.model = name.into();
        let error = RemoteModel::connect(config).unwrap_err();
        let Error::Request {
            field: "model",
            what,
        } = error
        else {
            panic!("{error:?}");
        };
        assert!(what.ends_with(": a, b"), "{what}");
    }
    let error = RemoteModel::new(RemoteConfig::new("http://h", "")).unwrap_err();
    assert!(matches!(error, Error::Request { field: "model", .. }));
}

#[test]
fn texts_are_encoded_by_the_server() {
    let encode = |dialect, answer: Value, bos| {
        let server = Server::start([Answer::json(&answer)]);
        let ids = server.model(dialect).encode("a b", bos).unwrap();
        let got = server.received().remove(0);
        (ids, got.path, got.body)
    };
    let want = json!({"model": "m", "prompt": "a b", "add_special_tokens": true});
    let answer = json!({"tokens": [1, 5], "count": 2, "max_model_len": 9});
    let got = encode(Dialect::Vllm, answer, true);
    assert_eq!(got, (vec![1, 5], "/tokenize".into(), want));
    let want = json!({"input": "a b", "do_preprocess": false, "add_bos": false});
    let got = encode(
        Dialect::LmDeploy,
        json!({"input_ids": [5], "length": 1}),
        false,
    );
    assert_eq!(got, (vec![5], "/v1/encode".into(), want));
    let want = json!({"content": "a b", "add_special": true, "parse_special": false});
    let got = encode(Dialect::LlamaCpp, json!({"tokens": [1, 5]}), true);
    assert_eq!(got, (vec![1, 5], "/tokenize".into(), want));
}

#[test]
fn markers_are_recognised_by_the_server_and_texts_can_not_spell_them() {
    let parts = [Part::marker("<|u|>"), Part::text("a <b>")];
    let encode = |dialect, parts: &[Part]| {
        let server = Server::start([Answer::json(&json!({"tokens": [7, 7, 5]}))]);
        let config = server.config().with_dialect(dialect).with_prefix_token(7);
        let model = RemoteModel::new(config).unwrap();
        let ids = model.encode_parts(parts, true);
        (
            ids,
            server.received().into_iter().map(|got| got.body).next(),
        )
    };
    let (ids, body) = encode(Dialect::Vllm, &parts);
    let want = json!({"model": "m", "prompt": "<|u|>a <b>", "add_special_tokens": true,
        "parse_special_tokens": true});
    // One of the two BOS tokens is the template's.
    assert_eq!((ids.unwrap(), body.unwrap()), (vec![7, 5], want));
    let (ids, body) = encode(Dialect::LlamaCpp, &parts);
    let want = json!({"content": "<|u|>a <b>", "add_special": true, "parse_special": true});
    assert_eq!((ids.unwrap(), body.unwrap()), (vec![7, 5], want));
    let (ids, _) = encode(Dialect::Vllm, &[Part::text("a")]);
    assert_eq!(ids.unwrap(), [7, 7, 5]);

    let forged = [Part::marker("<|u|>"), Part::text("a <|u|>")];
    let (ids, body) = encode(Dialect::Vllm, &forged);
    assert!(matches!(
        ids,
        Err(Error::Request {
            field: "prompt",
            ..
        })
    ));
    assert_eq!(body, None);
}

#[test]
fn conversations_are_rendered_by_the_server() {
    let messages = [Message::user("Hi")];
    let json_messages = json!([{"role": "user", "content": "Hi"}]);
    let prompt = Answer::json(&json!({"prompt": "<s><|im_start|>user"}));
    let server = Server::start([tokens(&[1, 2]), prompt]);
    let tools = [ToolSpec::new("f", "", Value::Null)];
    let text = server
        .model(Dialect::Vllm)
        .render_chat(&messages, &tools, true)
        .unwrap();
    let want = [
        Part::marker("<s>"),
        Part::marker("<|im_start|>"),
        Part::text("user"),
    ];
    assert_eq!(text, want);
    let got = server.received();
    assert_eq!(
        (got[0].path.as_str(), got[1].path.as_str()),
        ("/tokenize", "/detokenize")
    );
    let tool = json!({"type": "function", "function": {"name": "f", "description": ""}});
    let want = json!({"model": "m", "messages": json_messages, "add_generation_prompt": true,
        "tools": [tool]});
    assert_eq!(got[0].body, want);
    assert_eq!(got[1].body, json!({"model": "m", "tokens": [1, 2]}));

    let server = Server::start([Answer::json(&json!({"prompt": "x"}))]);
    let text = server
        .model(Dialect::LlamaCpp)
        .render_chat(&messages, &[], false)
        .unwrap();
    assert_eq!(text, [Part::text("x")]);
    let got = server.received().remove(0);
    assert_eq!(got.path, "/apply-template");
    let want = json!({"messages": json_messages, "add_generation_prompt": false});
    assert_eq!(got.body, want);
}

#[test]
fn what_a_server_lacks_is_said() {
    let not_offered = |error: Error| matches!(error, Error::NotOffered { .. });
    for status in [404, 405, 501] {
        let missing = || Answer::status(status, "", "");
        let server = Server::start([missing(), missing()]);
        let model = server.model(Dialect::OpenAi);
        assert!(not_offered(model.encode("x", true).unwrap_err()));
        assert!(not_offered(
            model
                .render_chat(&[Message::user("x")], &[], true)
                .unwrap_err()
        ));
    }
    let server = Server::start([]);
    let model = server.model(Dialect::LmDeploy);
    assert!(not_offered(
        model
            .render_chat(&[Message::user("x")], &[], true)
            .unwrap_err()
    ));
    let ids = [request(vec![1], vec![3, 4])];
    assert!(not_offered(model.score(&ids).unwrap_err()));
    // Servers that do not echo leave log-probabilities out, or have those of the answer only.
    for logprobs in [
        Value::Null,
        json!({"content": [{"token": "x", "logprob": -1.0}]}),
        json!({"tokens": ["x"], "token_logprobs": [-1.0], "top_logprobs": [{"x": -1.0}]}),
    ] {
        let answer = json!({"choices": [{"index": 0, "text": "x", "logprobs": logprobs}]});
        let server = Server::start([Answer::json(&answer)]);
        assert!(not_offered(
            server.model(Dialect::OpenAi).score(&ids).unwrap_err()
        ));
    }
}

#[test]
fn conversations_are_ranked() {
    let scores = |scores: &[(usize, f64)]| {
        let data: Vec<_> = scores
            .iter()
            .map(|(index, score)| json!({"object": "score", "index": index, "score": score}))
            .collect();
        Answer::json(&json!({"object": "list", "data": data}))
    };
    let (server, config) = vllm([
        scores(&[(1, -0.5), (0, 2.0)]),
        scores(&[(0, 1.0)]),
        scores(&[(1, 1.0)]),
        Answer::status(404, "", ""),
    ]);
    let model = RemoteModel::new(config.with_score_batch(2)).unwrap();
    let conversation = |text: &str| vec![Message::user("Hi"), Message::assistant(text)];
    let three = ["a", "b", "c"].map(conversation);
    assert_eq!(model.rewards(&three).unwrap(), [2.0, -0.5, 1.0]);
    let got = server.received();
    assert_eq!(got[0].path, "/v1/rank");
    let user = json!({"role": "user", "content": "Hi"});
    let said = |text: &str| json!([user, {"role": "assistant", "content": text}]);
    assert_eq!(
        got[0].body,
        json!({"model": "m", "input": [said("a"), said("b")]})
    );
    assert_eq!(got[1].body["input"], json!([said("c")]));
    // A score of another conversation, and a server that has no such route.
    assert!(matches!(
        model.rewards(&three[..1]),
        Err(Error::Protocol { .. })
    ));
    assert!(matches!(
        model.rewards(&three[..1]),
        Err(Error::NotOffered { .. })
    ));
}

#[test]
fn ids_are_scored_in_batches() {
    let (server, config) = vllm([echo(&[&[1, 3, 4], &[1, 5]]), echo(&[&[2, 6, 7]])]);
    let model = RemoteModel::new(config.with_score_batch(2)).unwrap();
    let requests = [
        request(vec![1], vec![3, 4]),
        request(vec![1], vec![5]),
        request(vec![2, 6], vec![7]),
    ];
    let got = model.score(&requests).unwrap();
    assert_eq!(got, [scores(&[3, 4]), scores(&[5]), scores(&[7])]);
    let want = json!({"model": "m", "prompt": [[1, 3, 4], [1, 5]], "echo": true, "max_tokens": 1,
        "logprobs": 1, "temperature": 0.0, "return_tokens_as_token_ids": true});
    let bodies = server.bodies();
    assert_eq!(
        (&bodies[0], &bodies[1]["prompt"]),
        (&want, &json!([[2, 6, 7]]))
    );
    assert_eq!(server.received()[0].path, "/v1/completions");
    assert!(model.score(&[]).unwrap().is_empty());
}

#[test]
fn texts_follow_the_border_rule() {
    // "Q: " + "a" and "Q: " + "b": white space goes to the continuation, the context is encoded
    // once.
    let answers = [
        tokens(&[1, 10, 12]),
        tokens(&[1, 10]),
        tokens(&[1, 10, 13, 14]),
        echo(&[&[1, 10, 12], &[1, 10, 13, 14]]),
    ];
    let (server, config) = vllm(answers);
    let model = RemoteModel::new(config).unwrap();
    let got = model
        .score(&[request("Q: ", "a"), request("Q: ", "b")])
        .unwrap();
    assert_eq!(got, [scores(&[12]), scores(&[13, 14])]);
    let prompts: Vec<Value> = server.bodies()[..3]
        .iter()
        .map(|b| b["prompt"].clone())
        .collect();
    assert_eq!(prompts, ["Q: a", "Q:", "Q: b"]);

    // No context: the prefix token stands for it, and is not scored if the text begins with it.
    let (server, config) = vllm([tokens(&[5, 6]), echo(&[&[9, 5, 6], &[9, 7]])]);
    let model = RemoteModel::new(config.with_prefix_token(9)).unwrap();
    let got = model
        .score(&[request("", "x"), request(Vec::<u32>::new(), vec![9, 7])])
        .unwrap();
    assert_eq!(got, [scores(&[5, 6]), scores(&[7])]);
    assert_eq!(server.bodies()[0]["add_special_tokens"], false);
}

#[test]
fn long_prompts_lose_their_beginning() {
    let (server, config) = vllm([echo(&[&[4, 5, 6]])]);
    let model = RemoteModel::new(config.with_context_length(4)).unwrap();
    let got = model
        .score(&[request(vec![1, 2, 3, 4], vec![5, 6])])
        .unwrap();
    assert_eq!(got, [scores(&[5, 6])]);
    assert_eq!(server.bodies()[0]["prompt"], json!([[4, 5, 6]]));
    let error = model.score(&[request(vec![1], vec![2, 3, 4])]).unwrap_err();
    assert!(matches!(
        error,
        Error::PromptTooLong {
            prompt_tokens: 3,
            context_length: 4
        }
    ));
}

#[test]
fn rolling_scores_cover_each_token_once() {
    let windows: [&[u32]; 3] = [&[9, 1, 2, 3], &[3, 4, 5, 6], &[4, 5, 6, 7]];
    let (server, config) = vllm([
        tokens(&[1, 2, 3, 4, 5, 6, 7]),
        echo(&windows),
        echo(&[&[9, 5]]),
    ]);
    let model = RemoteModel::new(config.with_prefix_token(9).with_context_length(5)).unwrap();
    let got = model
        .score_rolling(&["text".into(), vec![5].into(), Vec::<u32>::new().into()])
        .unwrap();
    assert_eq!(
        got,
        [scores(&[1, 2, 3, 4, 5, 6, 7]), scores(&[5]), Vec::new()]
    );
    assert_eq!(server.bodies()[1]["prompt"], json!(windows));
    let config = server.config().with_context_length(2);
    let error = RemoteModel::new(config.clone())
        .unwrap()
        .score_rolling(&["x".into()])
        .unwrap_err();
    assert!(matches!(
        error,
        Error::Request {
            field: "prefix_token",
            ..
        }
    ));
    let model = RemoteModel::new(config.with_prefix_token(9)).unwrap();
    let error = model.score_rolling(&["x".into()]).unwrap_err();
    assert!(matches!(
        error,
        Error::Request {
            field: "context_length",
            ..
        }
    ));
}

#[test]
fn requests_that_cannot_be_scored() {
    let server = Server::start([]);
    let model = server.model(Dialect::Vllm);
    let field = |request| match model.score(&[request]) {
        Err(Error::Request { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(request(vec![1], Vec::<u32>::new())), "continuation");
    assert_eq!(field(request(Vec::<u32>::new(), vec![1])), "prefix_token");
}

#[test]
fn echoes_that_do_not_fit_are_errors() {
    let good = json!({"tokens": ["token_id:1", "token_id:3"], "token_logprobs": [null, -1.5],
        "top_logprobs": [null, {"token_id:3": -1.5}]});
    let ask = |answer: Value| {
        let server = Server::start([Answer::json(&answer)]);
        server
            .model(Dialect::Vllm)
            .score(&[request(vec![1], vec![3])])
    };
    let choice = |logprobs: &Value| json!({"index": 0, "logprobs": logprobs});
    assert_eq!(
        ask(json!({"choices": [choice(&good)]})).unwrap(),
        [scores(&[3])]
    );
    let mut bad = vec![
        json!({"choices": []}),
        json!({"choices": [choice(&good), choice(&good)]}),
        json!({"choices": [{"index": 1, "logprobs": good}]}),
        json!({"choices": 1}),
        json!([]),
    ];
    let changed = |name: &str, value: Value| {
        let mut logprobs = good.clone();
        logprobs[name] = value;
        json!({"choices": [choice(&logprobs)]})
    };
    // Other tokens than were sent, a token without its value, no most likely token.
    bad.push(changed("tokens", json!(["token_id:1", "token_id:4"])));
    bad.push(changed("token_logprobs", json!([null, null])));
    bad.push(changed("top_logprobs", json!([null, null])));
    bad.push(changed("top_logprobs", json!([null, {}])));
    bad.push(changed("top_logprobs", Value::Null));
    bad.push(changed("token_logprobs", json!([null, "x"])));
    for answer in bad {
        let got = ask(answer.clone());
        assert!(
            matches!(got, Err(Error::Protocol { .. })),
            "{answer}: {got:?}"
        );
    }
}
