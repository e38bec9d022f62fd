//! What is made of streamed text.

use std::time::Duration;

use internlm_core::chat_model::{Completion, FinishReason, TokenLogprob, Usage};
use internlm_core::remote::{Dialect, RemoteModel};
use internlm_core::{ChatModel, ChatRequest, Error, Event, Message, Result, SamplingParams};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::server::{Answer, Server, events};

pub(crate) fn hi() -> ChatRequest {
    ChatRequest::messages(vec![Message::user("Hi")])
}

fn text(content: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": null}]})
}

fn end(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn usage(prompt: usize, completion: usize) -> Value {
    json!({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion,
        "total_tokens": prompt + completion}})
}

/// All events of one answer.
pub(crate) fn ask(dialect: Dialect, request: &ChatRequest, answer: Answer) -> Vec<Result<Event>> {
    let server = Server::start([answer]);
    let model = server.model(dialect);
    let events = model.generate(request).unwrap();
    events.collect()
}

fn complete(answer: Answer) -> Completion {
    let mut completion = Completion::default();
    for event in ask(Dialect::OpenAi, &hi(), answer) {
        completion.push(event.unwrap());
    }
    completion
}

fn delta(text: &str) -> Event {
    Event::Delta {
        text: text.to_owned(),
        ids: Vec::new(),
        logprobs: Vec::new(),
    }
}

#[test]
fn an_answer_comes_as_it_is_sent() {
    let role = json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]});
    let stream = events(&[role, text("It is "), text("书é."), end("stop"), usage(5, 4)]);
    let got = ask(Dialect::OpenAi, &hi(), Answer::stream(&stream));
    let got: Vec<Event> = got.into_iter().collect::<Result<_>>().unwrap();
    let usage = Usage {
        prompt_tokens: 5,
        completion_tokens: 4,
    };
    let reason = FinishReason::Stop;
    let want = [
        delta("It is "),
        delta("书é."),
        Event::Finish { reason, usage },
    ];
    assert_eq!(got, want);
}

#[test]
fn a_stream_in_single_bytes_is_the_same() {
    let stream = events(&[text("It is "), text("书é."), end("length"), usage(5, 4)]);
    let odd = format!(": ping\r\n\r\n{}", stream.replace('\n', "\r\n"));
    let want = complete(Answer::stream(&stream));
    assert_eq!(
        (want.text.as_str(), want.finish_reason),
        ("It is 书é.", Some(FinishReason::Length))
    );
    for text in [&stream, &odd] {
        assert_eq!(complete(Answer::stream_in(text.as_bytes().chunks(1))), want);
    }
}

#[test]
fn every_cut_of_a_stream_gives_a_prefix_or_the_whole() {
    let stream = events(&[text("ab"), text("书c"), end("stop"), usage(1, 2)]);
    let whole = complete(Answer::stream(&stream));
    let finish = stream.find("\"stop\"").unwrap();
    for cut in 0..stream.len() {
        for closed in [true, false] {
            let piece = &stream.as_bytes()[..cut];
            let pieces = (cut > 0).then_some(piece);
            let answer = match closed {
                true => Answer::stream_in(pieces),
                false => Answer::unfinished(pieces),
            };
            let mut got = Completion::default();
            let mut failed = None;
            for event in ask(Dialect::OpenAi, &hi(), answer) {
                assert!(failed.is_none(), "an error is the last event");
                match event {
                    Ok(event) => got.push(event),
                    Err(error) => failed = Some(error),
                }
            }
            assert!(whole.text.starts_with(&got.text), "cut at {cut}");
            match failed {
                Some(Error::Protocol { .. } | Error::Connection { .. }) => {
                    // The event that says why it ended is cut, or only lacks its empty line.
                    assert!(cut < finish + "\"stop\"}]}\n\n".len(), "cut at {cut}");
                }
                Some(other) => panic!("cut at {cut}: {other:?}"),
                None => {
                    assert!(cut > finish, "cut at {cut}");
                    assert_eq!(
                        (&got.text, got.finish_reason),
                        (&whole.text, whole.finish_reason)
                    );
                }
            }
        }
    }
}

#[test]
fn a_stream_may_end_without_done() {
    let stream = events(&[text("a"), end("stop"), usage(1, 2)]).replace("data: [DONE]\n\n", "");
    let got = complete(Answer::stream(&stream));
    assert_eq!((got.text.as_str(), got.usage.completion_tokens), ("a", 2));
    // Usage with the last piece, as llama.cpp sends it; nothing after `[DONE]` is read.
    let mut last = end("stop");
    last["usage"] = json!({"prompt_tokens": 3, "completion_tokens": 4});
    let stream = events(&[text("b"), last]) + "data: {\"error\": \"late\"}\n\n";
    let got = complete(Answer::stream(&stream));
    assert_eq!((got.text.as_str(), got.usage.total_tokens()), ("b", 7));
}

#[test]
fn pieces_for_others_are_passed_over() {
    let other = json!({"choices": [{"index": 1, "delta": {"content": "other"}}]});
    let filter = json!({"choices": [], "prompt_filter_results": []});
    let reasoning = json!({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]});
    let stream = events(&[filter, other, reasoning, text("mine"), end("stop")]);
    let got = complete(Answer::stream(&stream));
    assert_eq!((got.text.as_str(), got.usage), ("mine", Usage::default()));
}

#[test]
fn what_is_no_answer_is_an_error() {
    let protocol = |data: &[Value]| {
        let got = ask(Dialect::OpenAi, &hi(), Answer::stream(&events(data)));
        assert!(
            matches!(got.last(), Some(Err(Error::Protocol { .. }))),
            "{got:?}"
        );
        got.len()
    };
    assert_eq!(protocol(&[]), 1);
    assert_eq!(protocol(&[text("a")]), 2);
    assert_eq!(protocol(&[text("a"), end("content_filter")]), 2);
    assert_eq!(protocol(&[text("a"), end("abort"), text("b")]), 2);
    assert_eq!(protocol(&[json!("text")]), 1);
    assert_eq!(protocol(&[json!({"choices": "none"})]), 1);
    assert_eq!(
        protocol(&[json!({"choices": [{"delta": {"content": 1}}]})]),
        1
    );
    for bad in ["data: {\n\ndata: [DONE]\n\n", "data: \u{0}\n\ndata: x\n\n"] {
        let got = ask(Dialect::OpenAi, &hi(), Answer::stream(bad));
        assert!(matches!(&got[..], [Err(Error::Protocol { .. })]), "{got:?}");
    }
    let got = ask(
        Dialect::OpenAi,
        &hi(),
        Answer::stream_in([&b"data: \xFF\n\n"[..]]),
    );
    assert!(matches!(&got[..], [Err(Error::Protocol { .. })]), "{got:?}");
    let deep = format!("data: {}\n\n", "[".repeat(100_000));
    let got = ask(Dialect::OpenAi, &hi(), Answer::stream(&deep));
    assert!(matches!(&got[..], [Err(Error::Protocol { .. })]));
}

#[test]
fn an_error_inside_of_a_stream_is_the_last_event() {
    let open_ai = json!({"error": {"message": "out of memory", "code": 500}});
    let lmdeploy = json!({"object": "error", "message": "out of memory", "code": 500});
    for error in [open_ai, lmdeploy] {
        let stream = events(&[text("a"), error, text("b"), end("stop")]);
        let got = ask(Dialect::OpenAi, &hi(), Answer::stream(&stream));
        assert_eq!(got.len(), 2);
        let Err(Error::Http {
            status: 200,
            message,
            ..
        }) = &got[1]
        else {
            panic!("{got:?}");
        };
        assert_eq!(message, "out of memory");
    }
}

#[test]
fn a_dropped_answer_closes_the_connection() {
    let first = events(&[text("a")]).replace("data: [DONE]\n\n", "");
    let (answer, closed) = Answer::unfinished([first.as_bytes()]).held();
    let server = Server::start([answer]);
    let model = server.model(Dialect::OpenAi);
    let mut events = model.generate(&hi()).unwrap();
    assert_eq!(events.next().unwrap().unwrap(), delta("a"));
    assert!(closed.try_recv().is_err());
    drop(events);
    closed.recv_timeout(Duration::from_secs(50)).unwrap();
}

#[test]
fn an_answer_that_is_too_long_is_an_error() {
    let stream = events(&[text("a"), text(&"b".repeat(5_000)), end("stop")]);
    let limited = |bytes| {
        let server = Server::start([Answer::stream_in(stream.as_bytes().chunks(100))]);
        let config = server.config().with_max_response_bytes(bytes);
        RemoteModel::new(config).unwrap().complete(&hi())
    };
    let whole = limited(stream.len() as u64).unwrap();
    assert_eq!(whole.text.len(), 5_001);
    let error = limited(stream.len() as u64 - 1).unwrap_err();
    assert!(matches!(error, Error::ResponseTooLarge { .. }), "{error:?}");
}

#[test]
fn token_ids_and_logprobs_are_read_where_a_server_gives_them() {
    let token = |id: u32, logprob: f32, top: &[(u32, f32)]| TokenLogprob {
        id,
        logprob,
        top: top.to_vec(),
    };
    let asked = hi().with_sampling(SamplingParams::greedy().with_logprobs(2));
    let get = |dialect, choice: Value| {
        let stream = events(&[json!({"choices": [choice]}), end("stop")]);
        let got = ask(dialect, &asked, Answer::stream(&stream));
        match got.into_iter().next() {
            Some(Ok(Event::Delta { ids, logprobs, .. })) => (ids, logprobs),
            other => panic!("{other:?}"),
        }
    };
    let want = vec![token(7, -0.5, &[(7, -0.5), (9, -1.0)])];
    let vllm = json!({"index": 0, "delta": {"content": "x"}, "token_ids": [7],
        "logprobs": {"content": [{"token": "token_id:7", "logprob": -0.5, "bytes": [120],
            "top_logprobs": [{"token": "token_id:9", "logprob": -1.0},
                {"token": "token_id:7", "logprob": -0.5}, {"token": "token_id:1", "logprob": -9.0}]}]}});
    assert_eq!(get(Dialect::Vllm, vllm), (vec![7], want.clone()));
    let completion = json!({"index": 0, "text": "x", "logprobs": {"tokens": ["token_id:7"],
        "token_logprobs": [-0.5], "text_offset": [0],
        "top_logprobs": [{"token_id:7": -0.5, "token_id:9": -1.0, "token_id:1": -9.0}]}});
    assert_eq!(get(Dialect::Vllm, completion), (vec![7], want.clone()));
    let llama = json!({"index": 0, "delta": {"content": "x"}, "logprobs": {"content": [
        {"id": 7, "token": "x", "logprob": -0.5, "top_logprobs":
            [{"id": 7, "token": "x", "logprob": -0.5}, {"id": 9, "token": "y", "logprob": -1.0}]}]}});
    assert_eq!(get(Dialect::LlamaCpp, llama), (vec![7], want));
    for delta in [
        json!({"index": 0, "delta": {"content": "x", "gen_tokens": [7, 8]}}),
        json!({"index": 0, "text": "x", "gen_tokens": [7, 8]}),
    ] {
        let stream = events(&[json!({"choices": [delta]}), end("stop")]);
        let got = ask(Dialect::LmDeploy, &hi(), Answer::stream(&stream)).remove(0);
        let want = Event::Delta {
            text: "x".into(),
            ids: vec![7, 8],
            logprobs: Vec::new(),
        };
        assert_eq!(got.unwrap(), want);
    }
    // Asked for and not given as promised.
    let stream = events(&[text("x"), end("stop")]);
    let got = ask(Dialect::Vllm, &asked, Answer::stream(&stream));
    assert!(
        matches!(&got[..], [Ok(_), Err(Error::Protocol { .. })]),
        "{got:?}"
    );
    let named = json!({"index": 0, "delta": {"content": "x"},
        "logprobs": {"content": [{"token": "x", "logprob": -0.5, "top_logprobs": []}]}});
    let stream = events(&[json!({"choices": [named]}), end("stop")]);
    let got = ask(Dialect::Vllm, &asked, Answer::stream(&stream));
    assert!(matches!(&got[..], [Err(Error::Protocol { .. })]), "{got:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_texts_join_to_the_answer(
        parts in proptest::collection::vec("[ -~书\n\r\u{1F600}]{0,8}", 0..6),
        size in 1usize..40,
        ending in prop_oneof![Just("\n"), Just("\r"), Just("\r\n")],
    ) {
        let mut data: Vec<Value> = parts.iter().map(|part| text(part)).collect();
        data.push(end("stop"));
        let stream = events(&data).replace('\n', ending);
        let got = complete(Answer::stream_in(stream.as_bytes().chunks(size)));
        prop_assert_eq!(got.text, parts.concat());
    }
}
