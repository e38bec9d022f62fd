//! The tool protocol against recorded behaviour of InternLM's format and of Lagent's parsers.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // for helpers outside of #[test] functions

use std::path::{Path, PathBuf};

use internlm_core::tool::ToolSpec;
use internlm_core::tool_call::{
    self, ACTION_END, ACTION_START, Action, Parsed, ToolCallEvent, ToolCallParser,
};
use internlm_core::{Message, message};
use serde_json::Value;

/// A file of the shared goldens, or `None` with a printed reason.
fn golden(path: &str) -> Option<Value> {
    let shared = std::env::var_os("INTERNLM_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let file = shared.join("goldens").join(path);
    match std::fs::read_to_string(&file) {
        Ok(text) => Some(serde_json::from_str(&text).unwrap()),
        Err(error) => {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "{}: {error}",
                file.display()
            );
            println!("skipped: {}: {error}", file.display());
            None
        }
    }
}

fn cases(golden: &Value) -> &[Value] {
    golden["cases"].as_array().unwrap()
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn parsing_as_the_format_describes() {
    let Some(golden) = golden("chat/templates.json") else {
        return;
    };
    let cases = cases(&golden["internlm2_tool_call_parsing"]);
    assert!(cases.len() >= 5, "{} cases", cases.len());
    for case in cases {
        let name = text(&case["name"]);
        let parsed = tool_call::parse(text(&case["assistant_text"]));
        assert_eq!(parsed.content, text(&case["content"]), "{name}");
        check_splits(text(&case["assistant_text"]));
        let Some(action) = case["action"].as_str() else {
            assert!(parsed.blocks.is_empty(), "{name}");
            continue;
        };
        let [block] = parsed.blocks.as_slice() else {
            panic!("{name}: {parsed:?}");
        };
        assert_eq!(block.action.as_str(), action, "{name}");
        assert_eq!(block.payload(), text(&case["payload"]), "{name}");
        let complete = case.get("complete").is_none_or(|c| c == &Value::Bool(true));
        assert_eq!(block.complete, complete, "{name}");
        assert_eq!(block.strict_tool_call().is_ok(), complete, "{name}");
    }
}

/// Text that comes in two pieces, or in single characters, has the events of the whole but for how
/// text is cut.
#[track_caller]
fn check_splits(input: &str) {
    let ends = input.char_indices().map(|(at, c)| at + c.len_utf8());
    let singles: Vec<&str> = input.split_inclusive(|_| true).collect();
    let pairs = ends.map(|at| vec![&input[..at], &input[at..]]);
    for strict in [false, true] {
        let events = |pieces: &[&str]| {
            let mut parser = match strict {
                true => ToolCallParser::strict(),
                false => ToolCallParser::lenient(),
            };
            let mut events: Vec<_> = pieces.iter().flat_map(|p| parser.push(p)).collect();
            events.extend(parser.flush());
            let mut joined: Vec<ToolCallEvent> = Vec::new();
            for event in events {
                match (joined.last_mut(), event) {
                    (Some(ToolCallEvent::Text(last)), ToolCallEvent::Text(more))
                    | (Some(ToolCallEvent::Payload(last)), ToolCallEvent::Payload(more)) => {
                        last.push_str(&more);
                    }
                    (_, event) => joined.push(event),
                }
            }
            joined
        };
        let whole = events(&[input]);
        for pieces in pairs.clone().chain([singles.clone()]) {
            assert_eq!(events(&pieces), whole, "{pieces:?}, strict: {strict}");
        }
    }
}

/// The recorded conversations hold lists of tools and calls as the models saw them.
#[test]
fn writing_as_the_format_describes() {
    let Some(golden) = golden("chat/templates.json") else {
        return;
    };
    let (mut lists, mut calls) = (0, 0);
    for case in golden["internlm2_chat"]["cases"]
        .as_array()
        .or(golden["internlm2_chat"].as_array())
        .unwrap()
    {
        for message in case["messages"].as_array().unwrap() {
            let Ok(message) = serde_json::from_value::<Message>(message.clone()) else {
                continue;
            };
            let content = message.text();
            if message.role.as_str() == "system" && message.name.as_deref() == Some("plugin") {
                let tools: Vec<ToolSpec> = serde_json::from_str(&content).unwrap();
                assert_eq!(tool_call::spec_json(&tools), content);
                lists += 1;
            }
            if message.role.as_str() == "assistant" && content.contains(ACTION_START) {
                let Parsed {
                    content: before,
                    blocks,
                    ..
                } = tool_call::parse(&content);
                let call = blocks[0].strict_tool_call().unwrap();
                let written = message::join(&tool_call::calls(&[call]));
                assert_eq!(before + &written, content.trim_end());
                calls += 1;
            }
        }
    }
    assert!(lists >= 3 && calls >= 2, "{lists} lists, {calls} calls");
}

/// Lagent 0.2.4. Each case is either as recorded, or differs for the reason given here.
#[test]
fn lagent_0_2_4() {
    let Some(golden) = golden("agent/internlm2_v024_parse.json") else {
        return;
    };
    let mut same = 0;
    for case in cases(&golden) {
        let (id, input, want) = (text(&case["id"]), text(&case["input"]), &case["expect"]);
        let parsed = tool_call::parse(input);
        check_splits(input);
        match id {
            // Lagent raises, or drops the second block; both are found here.
            "bad_two_plugins" | "bad_two_interpreters" => assert_eq!(parsed.blocks.len(), 2),
            // Lagent takes the first block for text.
            "bad_interpreter_then_plugin" => {
                let actions: Vec<Action> = parsed.blocks.iter().map(|b| b.action).collect();
                assert_eq!(actions, [Action::Interpreter, Action::Plugin]);
            }
            // Lagent raises, or drops what follows the start; here markers out of place are text.
            "bad_missing_start_token" | "bad_only_start_token" | "bad_start_and_garbage" => {
                assert_eq!((parsed.content.as_str(), parsed.blocks.len()), (input, 0));
            }
            _ => {
                let language = text(&want["language"]);
                let block = parsed.blocks.first();
                assert_eq!(
                    block.map(|b| b.action.as_str()),
                    want["name"].as_str(),
                    "{id}"
                );
                match block {
                    None => assert_eq!(parsed.content, language, "{id}"),
                    Some(block) if block.action == Action::Plugin => {
                        assert!(parsed.content.starts_with(language), "{id}");
                        assert_eq!(block.raw, text(&want["action"]), "{id}");
                    }
                    Some(block) => {
                        let code = &want["action"]["parameters"]["command"];
                        assert_eq!(parsed.content, language, "{id}");
                        assert_eq!(block.payload(), text(code), "{id}");
                    }
                }
                same += 1;
            }
        }
    }
    assert_eq!(same, cases(&golden).len() - 6);
}

/// Lagent 0.5.0rc3, plugin before interpreter. Each case is either as recorded, or differs for
/// the reason given here.
#[test]
fn lagent_0_5() {
    let Some(golden) = golden("agent/tool_parser_v05.json") else {
        return;
    };
    let mut same = 0;
    for case in cases(&golden) {
        let (id, input) = (text(&case["id"]), text(&case["input"]));
        let want = &case["expect"]["mixed"]["parsed"];
        let parsed = tool_call::parse(input);
        check_splits(input);
        let first = parsed.blocks.first();
        match id {
            // Lagent's markers include line breaks; here these are optional.
            "bad_no_newline_after_plugin" | "bad_crlf" => {
                assert_eq!(want["status"], 0);
                assert!(first.unwrap().tool_call().is_ok(), "{id}");
            }
            // Lagent's end is followed by a line break, so the string goes on over the marker.
            "bad_raw_marker_in_string" => assert!(first.unwrap().tool_call().is_err()),
            // Lagent takes the first block for text.
            "bad_interpreter_then_plugin" => assert_eq!(parsed.blocks.len(), 2),
            // A fence around the JSON is taken off here.
            "bad_fenced_json" => {
                assert_eq!(want["status"], -1);
                assert!(first.unwrap().tool_call().is_ok());
            }
            // Python's JSON has NaN and Infinity.
            "bad_nan_json" => assert!(first.unwrap().tool_call().is_err()),
            _ => {
                let thought = text(&want["thought"]);
                let kind = want["tool_type"].as_str();
                assert_eq!(first.map(|b| b.action.as_str()), kind, "{id}");
                let Some(block) = first else {
                    assert_eq!(parsed.content, thought, "{id}");
                    same += 1;
                    continue;
                };
                assert!(parsed.content.starts_with(thought), "{id}");
                if block.action == Action::Interpreter {
                    assert_eq!(block.payload(), text(&want["action"]).trim(), "{id}");
                } else if want["status"] == 1 {
                    let call = block.tool_call().unwrap();
                    assert_eq!(call.name, want["action"]["name"], "{id}");
                    let parameters = want["action"]
                        .get("parameters")
                        .or(want["action"].get("arguments"));
                    assert_eq!(Some(&call.arguments), parameters, "{id}");
                } else {
                    assert!(block.tool_call().is_err(), "{id}");
                    let payload = text(&want["action"]).trim();
                    assert_eq!(
                        block.payload(),
                        payload.trim_end_matches(ACTION_END),
                        "{id}"
                    );
                }
                same += 1;
            }
        }
    }
    assert_eq!(same, cases(&golden).len() - 6);
}
