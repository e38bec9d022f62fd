//! Answers of a certain form, by a model that knows nothing: whatever it would say, the form is kept.

use internlm_core::chat_model::{FinishReason, ResponseFormat};
use internlm_core::tool::ToolChoice;
use internlm_core::{ChatModel, SamplingParams, ToolSpec};
use internlm_serve::config::PromptLookup;
use internlm_serve::{EngineConfig, Error, Request};
use serde_json::{Value, json};

use crate::common::{blocks, engine, ids, request, sampled, settle};

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "kind": {"enum": ["书", "b\"c", "d"]}},
        "required": ["ok", "kind"],
        "additionalProperties": false,
    })
}

#[track_caller]
fn fits(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert!(value["ok"].is_boolean(), "{text}");
    assert!(
        ["书", "b\"c", "d"].contains(&value["kind"].as_str().unwrap()),
        "{text}"
    );
    assert_eq!(value.as_object().unwrap().len(), 2);
}

#[test]
fn many_answers_in_one_batch_fit_their_schema() {
    for config in [
        EngineConfig::default(),
        // Sent back and computed anew, and guessed ahead.
        EngineConfig::default().with_cache(blocks(6)),
        EngineConfig::default().with_prompt_lookup(Some(PromptLookup::default().with_ngrams(1, 3))),
    ] {
        let engine = engine(config);
        let form = ResponseFormat::JsonSchema(schema());
        let running: Vec<_> = (0..6u64)
            .map(|i| {
                let chat = request(&ids(30, i), sampled(i, 400)).with_response_format(form.clone());
                engine.submit(Request::new(chat).with_n(2)).unwrap()
            })
            .collect();
        let free = engine.submit(request(&ids(30, 1), sampled(1, 40))).unwrap();
        for response in running {
            for answer in response.complete_all().unwrap() {
                if answer.finish_reason == Some(FinishReason::Stop) {
                    fits(&answer.text);
                } else {
                    // White space without end is JSON too.
                    assert_eq!(answer.finish_reason, Some(FinishReason::Length));
                }
            }
        }
        assert!(free.complete().is_ok());
        settle(&engine);
    }
}

#[test]
fn guesses_do_not_change_a_form() {
    let plain = engine(EngineConfig::default());
    let guessing =
        EngineConfig::default().with_prompt_lookup(Some(PromptLookup::default().with_ngrams(1, 2)));
    let guessing = engine(guessing);
    for seed in 0..5 {
        let chat = request(&ids(20, seed), sampled(seed, 200))
            .with_response_format(ResponseFormat::JsonSchema(schema()));
        let (a, b) = (
            plain.complete(&chat).unwrap(),
            guessing.complete(&chat).unwrap(),
        );
        assert_eq!((a.text, a.ids), (b.text, b.ids));
    }
}

#[test]
fn a_call_that_must_come_comes() {
    let engine = engine(EngineConfig::default());
    let tool = ToolSpec::new(
        "look_up",
        "Looks a word up.",
        json!({
            "type": "object",
            "properties": {"word": {"enum": ["a", "b"]}},
            "required": ["word"],
            "additionalProperties": false,
        }),
    );
    for seed in 0..5 {
        let chat = request(&ids(20, seed), sampled(seed, 300))
            .with_tools(vec![tool.clone()])
            .with_tool_choice(ToolChoice::Tool("look_up".to_owned()));
        let answer = engine.complete(&chat).unwrap();
        if answer.finish_reason == Some(FinishReason::Length) {
            continue;
        }
        assert_eq!(
            answer.finish_reason,
            Some(FinishReason::ToolCalls),
            "{answer:?}"
        );
        assert_eq!(answer.tool_calls[0].name, "look_up");
        let word = answer.tool_calls[0].arguments["word"].as_str().unwrap();
        assert!(["a", "b"].contains(&word));
    }
}

#[test]
fn a_form_that_cannot_be_compiled_is_refused() {
    let engine = engine(EngineConfig::default());
    let bad =
        json!({"type": "object", "properties": {"x": {"$ref": "https://example.org/schema"}}});
    let chat = request(&ids(5, 1), SamplingParams::greedy().with_max_new_tokens(9))
        .with_response_format(ResponseFormat::JsonSchema(bad));
    let refused = engine.submit(chat).expect_err("it is refused");
    assert!(
        matches!(
            refused,
            Error::Request {
                field: "response_format",
                ..
            }
        ),
        "{refused}"
    );
}
