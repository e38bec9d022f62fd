//! Refusals, retries and limits.

use std::net::TcpListener;
use std::time::Duration;

use internlm_core::error::TimeLimit;
use internlm_core::remote::{Dialect, RemoteConfig, RemoteModel};
use internlm_core::{ChatModel, Error, Result, Scorer};
use serde_json::{Value, json};

use crate::server::{Answer, Server, events};
use crate::streams::hi;

const KEY: &str = "sk-hush-0123456789";

fn good() -> Answer {
    Answer::stream(&events(&[json!({"choices": [
        {"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]})]))
}

fn refusal(status: u16) -> Answer {
    Answer::status(status, "", r#"{"error": {"message": "not now"}}"#)
}

/// The outcome with these settings, and how often the server was asked.
fn try_with(
    answers: impl IntoIterator<Item = Answer>,
    set: impl FnOnce(RemoteConfig) -> RemoteConfig,
) -> (Result<String>, usize) {
    let server = Server::start(answers);
    let model = RemoteModel::new(set(server.config())).unwrap();
    let outcome = model.complete(&hi()).map(|completion| completion.text);
    (outcome, server.received().len())
}

#[track_caller]
fn status((outcome, tries): (Result<String>, usize), status: u16, want_tries: usize) {
    let got = match outcome {
        Err(Error::Http { status, .. }) => status,
        other => panic!("{other:?}"),
    };
    assert_eq!((got, tries), (status, want_tries));
}

#[test]
fn transient_failures_are_tried_again() {
    let answers = [refusal(429), refusal(503), good()];
    let (outcome, tries) = try_with(answers, |config| config);
    assert_eq!((outcome.unwrap().as_str(), tries), ("Hello", 3));
    // A connection that is closed without an answer.
    let (outcome, tries) = try_with([Answer::raw(""), good()], |config| config);
    assert_eq!((outcome.unwrap().as_str(), tries), ("Hello", 2));
}

#[test]
fn retries_are_counted() {
    let answers = || [500, 502, 429, 503].map(refusal);
    status(try_with(answers(), |config| config), 429, 3);
    status(try_with(answers(), |config| config.with_retries(0)), 500, 1);
    status(try_with(answers(), |config| config.with_retries(3)), 503, 4);
    let (outcome, tries) = try_with([Answer::raw(""), Answer::raw("")], |c| c.with_retries(1));
    assert!(
        matches!(outcome, Err(Error::Connection { .. })),
        "{outcome:?}"
    );
    assert_eq!(tries, 2);
}

#[test]
fn what_will_not_change_is_tried_once() {
    for code in [400, 401, 403, 404, 413, 422, 501] {
        status(try_with([refusal(code), good()], |config| config), code, 1);
    }
    let (outcome, tries) = try_with([Answer::raw("SSH-2.0-x\r\n\r\n"), good()], |config| config);
    assert!(
        matches!(outcome, Err(Error::Protocol { .. })),
        "{outcome:?}"
    );
    assert_eq!(tries, 1);
}

#[test]
fn retry_after_is_honoured() {
    let asks = |after: &str| Answer::status(429, &format!("Retry-After: {after}\r\n"), "");
    let hour = Duration::from_secs(3600);
    // A wait of our own would be an hour.
    let (outcome, tries) = try_with([asks("0"), good()], |config| config.with_backoff(hour));
    assert_eq!((outcome.unwrap().as_str(), tries), ("Hello", 2));
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    let (outcome, tries) = try_with([asks(past), good()], |config| config.with_backoff(hour));
    assert_eq!((outcome.unwrap().as_str(), tries), ("Hello", 2));
    // Sooner than asked would be rude, and an hour is too long.
    status(try_with([asks("3600"), good()], |config| config), 429, 1);
    status(
        try_with([asks("Fri, 31 Dec 9999 23:59:59 GMT"), good()], |config| {
            config
        }),
        429,
        1,
    );
    // It would pass the deadline.
    let late = |config: RemoteConfig| config.with_deadline(Duration::from_secs(30));
    status(try_with([asks("50"), good()], late), 429, 1);
}

#[test]
fn the_deadline_ends_a_request() {
    let limit = |answer: Answer, set: fn(RemoteConfig) -> RemoteConfig| {
        let (answer, _closed) = answer.held();
        let (outcome, tries) = try_with([answer, good()], set);
        // On a busy machine the server may not have looked yet.
        assert!(tries <= 1);
        match outcome {
            Err(Error::Timeout { limit, .. }) => limit,
            other => panic!("{other:?}"),
        }
    };
    let deadline = |config: RemoteConfig| config.with_deadline(Duration::from_millis(100));
    let read = |config: RemoteConfig| config.with_read_timeout(Duration::from_millis(100));
    // Before the answer begins, and after.
    let begun = || Answer::unfinished([&b"data: {\"choices\": []}\n\n"[..]]);
    assert_eq!(limit(Answer::raw(""), deadline), TimeLimit::Deadline);
    assert_eq!(limit(begun(), deadline), TimeLimit::Deadline);
    assert_eq!(limit(Answer::raw(""), read), TimeLimit::Read);
    assert_eq!(limit(begun(), read), TimeLimit::Read);
    let (outcome, tries) = try_with([good()], |config| config.with_deadline(Duration::ZERO));
    assert!(matches!(outcome, Err(Error::Timeout { .. })), "{outcome:?}");
    assert_eq!(tries, 0);
}

#[test]
fn nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config =
        RemoteConfig::new(format!("http://{address}"), "m").with_backoff(Duration::from_millis(1));
    let error = RemoteModel::connect(config.clone()).unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    let error = RemoteModel::new(config)
        .unwrap()
        .complete(&hi())
        .unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
}

#[test]
fn redirects_are_not_followed() {
    let other = Server::start([good()]);
    let location = format!("Location: {}/x\r\n", other.config().base_url);
    for code in [301, 302, 307, 308] {
        let answer = Answer::status(code, &location, "");
        status(
            try_with([answer], |config| config.with_api_key(KEY)),
            code,
            1,
        );
    }
    assert!(other.received().is_empty());
}

#[test]
fn an_answer_of_another_kind_is_an_error() {
    for answer in [
        Answer::json(&json!({"choices": [{"message": {"content": "Hello"}}]})),
        Answer::status(200, "Content-Type: text/html\r\n", "<p>Hello"),
        Answer::status(204, "", ""),
    ] {
        let (outcome, tries) = try_with([answer], |config| config);
        assert!(
            matches!(outcome, Err(Error::Protocol { .. })),
            "{outcome:?}"
        );
        assert_eq!(tries, 1);
    }
    let server = Server::start([Answer::status(200, "", "no JSON")]);
    let error = RemoteModel::connect(server.config()).unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
}

#[test]
fn a_whole_answer_has_a_limit_too() {
    let long = json!({"tokens": vec![1; 10_000]});
    for answer in [
        Answer::json(&long),
        Answer::raw(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{long}"
        )),
    ] {
        let server = Server::start([answer]);
        let config = server
            .config()
            .with_dialect(Dialect::Vllm)
            .with_max_response_bytes(1_000);
        let error = RemoteModel::new(config)
            .unwrap()
            .encode("x", false)
            .unwrap_err();
        assert!(
            matches!(error, Error::ResponseTooLarge { limit: 1_000, .. }),
            "{error:?}"
        );
        assert_eq!(server.received().len(), 1);
    }
    // An error's text is read only so far.
    let flood = Answer::status(400, "", &"x".repeat(1 << 20));
    status(try_with([flood], |config| config), 400, 1);
}

#[test]
fn the_key_is_in_no_error() {
    let text = format!("invalid key {KEY}, whisper");
    let said = json!({"error": {"message": text}}).to_string();
    let reason = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": KEY}]});
    let answers = [
        Answer::status(401, "", &said),
        Answer::status(401, "", &text),
        Answer::status(200, &format!("Content-Type: {KEY}\r\n"), ""),
        Answer::stream(&format!("data: {said}\n\n")),
        Answer::stream(&format!("data: {reason}\n\n")),
        Answer::stream(&format!("data: {{\"{KEY}\n\n")),
        Answer::stream(&format!("data: {{\"choices\": \"{KEY}\"}}\n\n")),
        Answer::raw(format!("{KEY}\r\n\r\n")),
        Answer::raw(""),
    ];
    for answer in answers {
        let server = Server::start([answer]);
        let config = server
            .config()
            .with_retries(0)
            .with_api_key(KEY)
            .with_header("x-secret", "whisper");
        let model = RemoteModel::new(config).unwrap();
        let error = model.complete(&hi()).unwrap_err();
        let shown = format!("{error} {error:?} {error:#?} {model:?} {model:#?}");
        assert!(
            !shown.contains("hush") && !shown.contains("whisper"),
            "{shown}"
        );
        let sent = server.received();
        assert_eq!(
            sent[0].header("authorization"),
            Some(format!("Bearer {KEY}").as_str())
        );
    }
    let listed: Value = json!({"data": [{"id": KEY}]});
    let server = Server::start([Answer::json(&listed)]);
    let error = RemoteModel::connect(server.config().with_api_key(KEY)).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hush"));
}
