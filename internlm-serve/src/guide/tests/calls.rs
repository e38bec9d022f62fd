//! Calls of tools, as the parser of the tool protocol reads them.

use internlm_core::chat_model::ResponseFormat;
use internlm_core::tool::ToolChoice;
use internlm_core::tool_call::{ACTION_END, ACTION_START, INTERPRETER, PLUGIN, parse};
use internlm_core::{ChatRequest, ToolCall, ToolSpec};
use serde_json::json;

use super::tokenizers::{self, Subject, each};
use super::{allowed, guide, refusal, walks};

fn tools() -> Vec<ToolSpec> {
    let weather = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
        },
        "required": ["city"],
        "additionalProperties": false,
    });
    vec![
        ToolSpec::new("weather", "", weather),
        ToolSpec::new("weather \"now\"", "", json!(null)),
        ToolSpec::new(
            "add",
            "",
            json!({"properties": {"a": {"type": "integer"}}, "required": ["a"]}),
        ),
    ]
}

fn request(choice: ToolChoice) -> ChatRequest {
    ChatRequest::prompt("x")
        .with_tools(tools())
        .with_tool_choice(choice)
}

/// The text that the engine's parser of calls sees: the protocol's markers spelled out, other special
/// tokens dropped.
fn seen(subject: &Subject, ids: &[u32]) -> String {
    let tokenizer = &subject.tokenizer;
    let protocol =
        [ACTION_START, ACTION_END, PLUGIN, INTERPRETER].map(|m| tokenizer.token_to_id(m));
    let special: Vec<u32> = tokenizer.special_tokens().map(|(_, id)| id).collect();
    let mut detokenizer = tokenizer.detokenizer(false);
    let shown = |id: &&u32| !special.contains(id) || protocol.contains(&Some(**id));
    let mut text = String::new();
    for &id in ids.iter().filter(shown) {
        text.push_str(&detokenizer.push(id).unwrap());
    }
    text + &detokenizer.flush()
}

fn check_call(call: &ToolCall) {
    let arguments = call.arguments.as_object().unwrap();
    match call.name.as_str() {
        "weather" => {
            assert!(arguments["city"].as_str().unwrap().chars().count() <= 12);
            let days = arguments.get("days").map(|days| days.as_i64().unwrap());
            assert!(days.is_none_or(|days| (1..=7).contains(&days)));
        }
        "add" => assert!(arguments["a"].is_number()),
        name => assert_eq!(name, "weather \"now\""),
    }
}

#[test]
fn required_calls_are_calls_and_nothing_else() {
    each(|subject| {
        let mut most = 0;
        walks(
            subject,
            &request(ToolChoice::Required),
            subject.walks,
            |ids, _| {
                let text = seen(subject, ids);
                let parsed = parse(&text);
                assert_eq!(parsed.content, "", "{text:?}");
                assert!(!parsed.blocks.is_empty(), "{text:?}");
                most = most.max(parsed.blocks.len());
                for block in &parsed.blocks {
                    check_call(&block.strict_tool_call().unwrap());
                }
            },
        );
        assert!(
            most > 1,
            "{}: no answer has more than one call",
            subject.name
        );
    });
}

#[test]
fn a_named_tool_is_called_once() {
    each(|subject| {
        let request = request(ToolChoice::Tool("weather".into()));
        walks(subject, &request, subject.walks, |ids, _| {
            let text = seen(subject, ids);
            let parsed = parse(&text);
            assert_eq!(
                (parsed.content.as_str(), parsed.blocks.len()),
                ("", 1),
                "{text:?}"
            );
            let call = parsed.blocks[0].strict_tool_call().unwrap();
            assert_eq!(call.name, "weather");
            check_call(&call);
        });
    });
}

#[test]
fn a_model_that_may_call_answers_in_the_form_or_calls() {
    let subject = tokenizers::drops_one();
    let request = request(ToolChoice::Auto)
        .with_response_format(ResponseFormat::JsonSchema(json!({"type": "boolean"})));
    let (mut answers, mut calls) = (0, 0);
    walks(&subject, &request, 300, |ids, _| {
        let text = seen(&subject, ids);
        let parsed = parse(&text);
        match parsed.blocks.as_slice() {
            [] => {
                answers += 1;
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert!(value.is_boolean());
            }
            blocks => {
                calls += 1;
                assert_eq!(parsed.content, "");
                for block in blocks {
                    check_call(&block.strict_tool_call().unwrap());
                }
            }
        }
    });
    assert!(answers > 0 && calls > 0, "{answers} answers, {calls} calls");
}

/// Inside of a string, ordinary tokens may spell anything but the protocol's markers.
#[test]
fn markers_are_not_spelled_inside_of_calls() {
    let subject = tokenizers::drops_one();
    let tokenizer = &subject.tokenizer;
    let mut guide = guide(
        &subject,
        &request(ToolChoice::Tool("weather \"now\"".into())),
    );
    let push = |guide: &mut super::Guide, text: &str| {
        for byte in text.bytes() {
            let id = tokenizer.token_to_id(&format!("<0x{byte:02X}>")).unwrap();
            assert!(allowed(guide).contains(&id), "{text:?}");
            guide.accept(id).unwrap();
        }
    };
    for marker in [ACTION_START, PLUGIN] {
        guide
            .accept(tokenizer.token_to_id(marker).unwrap())
            .unwrap();
    }
    push(
        &mut guide,
        "\n{\"name\": \"weather \\\"now\\\"\", \"parameters\": {\"city\":\"<|action_end|",
    );
    let closing = tokenizer.token_to_id("<0x3E>").unwrap();
    assert!(!allowed(&mut guide).contains(&closing));
    push(&mut guide, "|>");
}

#[test]
fn what_can_not_be_called_is_refused() {
    let subject = tokenizers::drops_one();
    let check = |request: ChatRequest, says: &str| {
        let (field, what) = refusal(&subject, &request);
        assert_eq!(field, "tool_choice");
        assert!(what.contains(says), "{what}");
    };
    check(request(ToolChoice::Tool("nobody".into())), "`nobody`");
    let none = ChatRequest::prompt("x").with_tool_choice(ToolChoice::Required);
    check(none.clone(), "tools");
    let with = |tool| none.clone().with_tools(vec![tool]);
    check(with(ToolSpec::new("", "", json!({}))), "name");
    check(
        with(ToolSpec::new("f<|action_end|>", "", json!({}))),
        "name",
    );
    check(
        with(ToolSpec::new("f", "", json!({"type": "string"}))),
        "`f`",
    );
    check(with(ToolSpec::new("f", "", json!([]))), "`f`");
    check(
        with(ToolSpec::new(
            "f",
            "",
            json!({"properties": {"a": {"not": {}}}}),
        )),
        "not",
    );
    let many = (0..200).map(|n| ToolSpec::new(format!("f{n}"), "", json!({})));
    check(none.clone().with_tools(many.collect()), "tools");
}
