//! Calls of tools, which come in pieces.

use internlm_core::chat_model::FinishReason;
use internlm_core::remote::Dialect;
use internlm_core::{Error, Event, Result, ToolCall};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::server::{Answer, events};
use crate::streams::{ask, hi};

fn piece(calls: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": null}]})
}

fn answer(pieces: &[Value], reason: &str) -> Vec<Result<Event>> {
    let mut data: Vec<Value> = pieces.iter().map(|calls| piece(calls.clone())).collect();
    data.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}));
    ask(Dialect::OpenAi, &hi(), Answer::stream(&events(&data)))
}

fn calls(pieces: &[Value], reason: &str) -> (Vec<ToolCall>, FinishReason) {
    let mut calls = Vec::new();
    for event in answer(pieces, reason) {
        match event.unwrap() {
            Event::ToolCall { call } => calls.push(call),
            Event::Finish { reason, .. } => return (calls, reason),
            other => panic!("{other:?}"),
        }
    }
    panic!("no end");
}

fn f() -> ToolCall {
    ToolCall::new("f", json!({"a": 1})).with_id("x")
}

fn g() -> ToolCall {
    ToolCall::new("g", json!({})).with_id("y")
}

#[test]
fn parallel_calls_are_put_together() {
    let pieces = [
        json!([{"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": ""}}]),
        json!([{"index": 0, "function": {"arguments": "{\"a\""}}]),
        json!([{"index": 1, "id": "y", "type": "function", "function": {"name": "g"}},
            {"index": 0, "function": {"arguments": ": 1"}}]),
        json!([{"index": 1, "function": {"arguments": "{}"}}]),
        json!([{"index": 0, "id": null, "function": {"name": null, "arguments": "}"}}]),
    ];
    let want = (vec![f(), g()], FinishReason::ToolCalls);
    assert_eq!(calls(&pieces, "tool_calls"), want);
}

#[test]
fn habits_of_servers() {
    let want = (vec![f(), g()], FinishReason::ToolCalls);
    // All at once, arguments as an object, and the end of a forced call.
    let whole = json!([
        {"index": 0, "id": "x", "function": {"name": "f", "arguments": {"a": 1}}},
        {"index": 1, "id": "y", "function": {"name": "g", "arguments": null}},
    ]);
    assert_eq!(calls(&[whole], "stop"), want);
    // Every call numbered 0.
    let zero = json!([
        {"index": 0, "id": "x", "function": {"name": "f", "arguments": "{\"a\": 1}"}},
        {"index": 0, "id": "y", "function": {"name": "g", "arguments": "{}"}},
    ]);
    assert_eq!(calls(&[zero], "tool_calls"), want);
    // No index; id and name repeated with each piece.
    let repeated = [
        json!([{"id": "x", "function": {"name": "f", "arguments": "{\"a\""}}]),
        json!([{"id": "x", "function": {"name": "f", "arguments": ": 1}"}}]),
        json!([{"id": "y", "function": {"name": "g", "arguments": "{"}}]),
        json!([{"function": {"arguments": "}"}}]),
    ];
    assert_eq!(calls(&repeated, "function_call"), want);
    // Indices that say nothing of how many there are.
    let far = json!([{"index": u64::MAX, "id": "x", "function": {"name": "f", "arguments": "{\"a\":1}"}}]);
    assert_eq!(calls(&[far], "tool_calls").0, [f()]);
}

#[test]
fn arguments_that_are_no_json() {
    let cut = [
        json!([{"index": 0, "id": "x", "function": {"name": "f", "arguments": "{\"a\":1}"}}]),
        json!([{"index": 1, "id": "y", "function": {"name": "g", "arguments": "{\"b\": "}}]),
    ];
    // Cut by the limit: no call. Else it is what the model wrote.
    assert_eq!(calls(&cut, "length"), (vec![f()], FinishReason::Length));
    let text = ToolCall::new("g", json!("{\"b\": ")).with_id("y");
    assert_eq!(calls(&cut, "tool_calls").0, [f(), text]);
}

#[test]
fn a_call_without_a_name_is_an_error() {
    for bad in [
        json!([{"index": 0, "id": "x", "function": {"arguments": "{}"}}]),
        json!([{"index": 0, "id": "x"}]),
        json!([{"index": -1, "function": {"name": "f"}}]),
        json!(["f"]),
    ] {
        let got = answer(&[bad], "tool_calls");
        assert!(matches!(&got[..], [Err(Error::Protocol { .. })]), "{got:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the pieces and however the calls take turns.
    #[test]
    fn pieces_make_no_difference(
        values in proptest::collection::vec("[ -~书\"]{0,10}", 1..4),
        turns in proptest::collection::vec((any::<proptest::sample::Index>(), 1usize..6), 0..30),
    ) {
        let want: Vec<ToolCall> = values
            .iter()
            .enumerate()
            .map(|(i, v)| ToolCall::new("f", json!({"v": v})).with_id(format!("id{i}")))
            .collect();
        let mut rest: Vec<Vec<char>> = want
            .iter()
            .map(|call| call.arguments.to_string().chars().collect())
            .collect();
        let mut pieces = vec![json!(
            want.iter()
                .enumerate()
                .map(|(i, call)| json!({"index": i, "id": call.id, "function": {"name": "f"}}))
                .collect::<Vec<_>>()
        )];
        let mut take = |i: usize, count: usize| {
            let count = count.min(rest[i].len());
            let text: String = rest[i].drain(..count).collect();
            pieces.push(json!([{"index": i, "function": {"arguments": text}}]));
        };
        for (turn, count) in turns {
            take(turn.index(want.len()), count);
        }
        for i in 0..want.len() {
            take(i, usize::MAX);
        }
        prop_assert_eq!(calls(&pieces, "tool_calls").0, want);
    }
}
