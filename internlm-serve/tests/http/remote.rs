//! The client of `internlm-core` against the server: what is heard over HTTP is what the engine says.

use internlm_core::chat_model::Input;
use internlm_core::remote::{RemoteConfig, RemoteModel};
use internlm_core::scorer::{ScoreRequest, Tokens};
use internlm_core::{ChatModel, ChatRequest, Error, Message, SamplingParams, Scorer, ToolSpec};
use serde_json::json;

use crate::fixture::{CONTEXT, Server, TIME, WEATHER, config, engine_config};

fn connect(server: &Server) -> RemoteModel {
    let url = format!("http://{}/v1", server.address);
    let config = RemoteConfig::new(url, "tiny").with_api_key("sesame");
    RemoteModel::connect(config).unwrap()
}

fn server() -> Server {
    Server::with(engine_config(CONTEXT), config().with_api_key("sesame"))
}

fn sampling(seed: u64) -> SamplingParams {
    SamplingParams::default()
        .with_temperature(0.9)
        .with_seed(seed)
        .with_max_new_tokens(20)
        .with_ignore_eos(true)
}

#[test]
fn answers_are_those_of_the_engine() {
    let server = server();
    let remote = connect(&server);
    let chat = ChatRequest::messages(vec![Message::system("Short."), Message::user("Hello 书")]);
    for (seed, request) in [
        chat,
        ChatRequest::prompt("once upon"),
        ChatRequest::new(Input::Ids(vec![5, 6, 7])),
    ]
    .into_iter()
    .enumerate()
    {
        let request = request.with_sampling(sampling(seed as u64));
        let (got, want) = (remote.complete(&request), server.engine.complete(&request));
        let (got, want) = (got.unwrap(), want.unwrap());
        assert_eq!((got.text, got.ids), (want.text, want.ids));
        assert_eq!(got.finish_reason, want.finish_reason);
        assert_eq!(got.usage.total_tokens(), want.usage.total_tokens());
    }
}

#[test]
fn log_probabilities_of_the_answer() {
    let server = server();
    let remote = connect(&server);
    let request = ChatRequest::prompt("once upon").with_sampling(sampling(3).with_logprobs(3));
    let (got, want) = (remote.complete(&request), server.engine.complete(&request));
    let (got, want) = (got.unwrap().logprobs, want.unwrap().logprobs);
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got.id, want.id);
        assert!((got.logprob - want.logprob).abs() < 1e-6);
    }
}

#[test]
fn calls_of_tools() {
    let server = server();
    let remote = connect(&server);
    let tool = |name: &str| ToolSpec::new(name, "", json!({"type": "object", "properties": {}}));
    for (token, name) in [(WEATHER, "weather"), (TIME, "time")] {
        let mut params = SamplingParams::greedy().with_max_new_tokens(1);
        params.logit_bias = vec![(token, 100.0)];
        let request = ChatRequest::messages(vec![Message::user("?")])
            .with_tools(vec![tool("weather"), tool("time")])
            .with_sampling(params);
        let answer = remote.complete(&request).unwrap();
        assert_eq!(answer.tool_calls.len(), 1, "{answer:?}");
        assert_eq!(answer.tool_calls[0].name, name);
    }
}

#[test]
fn scores_are_those_of_the_engine() {
    let server = server();
    // This tokenizer puts nothing before a text that would show it.
    let begin = server.engine.facts().prefix_token.unwrap();
    let url = format!("http://{}/v1", server.address);
    let config = RemoteConfig::new(url, "tiny")
        .with_api_key("sesame")
        .with_prefix_token(begin);
    let remote = RemoteModel::connect(config).unwrap();
    assert_eq!(
        remote.facts().context_length,
        server.engine.context_length()
    );
    // Special tokens of the chat template are the same to both.
    let messages = [Message::user("Hi")];
    let rendered = |scorer: &dyn Scorer| {
        let parts = scorer.render_chat(&messages, &[], true).unwrap();
        Tokens::from(parts)
    };
    let chat = rendered(&remote);
    assert!(matches!(chat, Tokens::Parts(_)), "{chat:?}");
    assert_eq!(chat, rendered(&server.engine));
    let requests: Vec<_> = [
        ("a b ".into(), "c d"),
        ("".into(), "begin"),
        ("书 ".into(), "x"),
        (chat, "x"),
    ]
    .into_iter()
    .map(|(context, continuation): (Tokens, &str)| ScoreRequest {
        context,
        continuation: continuation.into(),
    })
    .collect();
    let (got, want) = (remote.score(&requests), server.engine.score(&requests));
    let (got, want) = (got.unwrap(), want.unwrap());
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
        assert_eq!((got.id, got.is_argmax), (want.id, want.is_argmax));
        assert!(
            (got.logprob - want.logprob).abs() < 1e-5,
            "{got:?} {want:?}"
        );
    }
}

#[test]
fn errors_keep_the_words_of_the_server() {
    let server = server();
    let remote = connect(&server);
    let request = ChatRequest::new(Input::Ids(vec![1; CONTEXT + 1]))
        .with_sampling(SamplingParams::greedy().with_max_new_tokens(1));
    let error = remote.complete(&request).unwrap_err();
    assert!(matches!(error, Error::Http { status: 400, .. }), "{error}");
    let url = format!("http://{}/v1", server.address);
    let error =
        RemoteModel::connect(RemoteConfig::new(url, "tiny").with_api_key("wrong")).unwrap_err();
    assert!(matches!(error, Error::Http { status: 401, .. }), "{error}");
    assert!(!error.to_string().contains("wrong"));
}
