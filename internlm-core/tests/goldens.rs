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

const MARKERS: [&str; 2] = [tool_call::PLUGIN, tool_call::INTERPRETER];

/// How many blocks begin in a text, and how many of the markers of a kind of block it has.
fn begun(input: &str) -> (usize, usize) {
    let count = |start: &str| {
        let markers = MARKERS.iter();
        let counts = markers.map(|marker| input.matches(&format!("{start}{marker}")).count());
        counts.sum()
    };
    (count(ACTION_START), count(""))
}

/// All blocks of a text are found: exactly as many as begin, if each ends before the next.
#[track_caller]
fn check_all_found(input: &str, parsed: &Parsed) {
    let (blocks, _) = begun(input);
    let parts: Vec<&str> = input.split(ACTION_START).skip(1).collect();
    let ended = parts
        .iter()
        .rev()
        .skip(1)
        .all(|part| part.contains(ACTION_END));
    if ended {
        assert_eq!(parsed.blocks.len(), blocks, "{input}");
    } else {
        assert!((1..=blocks).contains(&parsed.blocks.len()), "{input}");
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok()
}

/// Lagent 0.2.4. Each case is as recorded, or differs for the reason given here.
#[test]
fn lagent_0_2_4() {
    let Some(golden) = golden("agent/internlm2_v024_parse.json") else {
        return;
    };
    let mut differ = 0;
    for case in cases(&golden) {
        let (id, input, want) = (text(&case["id"]), text(&case["input"]), &case["expect"]);
        let parsed = tool_call::parse(input);
        check_splits(input);
        match begun(input) {
            // Lagent raises, or drops what follows the start; here markers out of place are text.
            (0, markers) if markers > 0 || input.contains(ACTION_START) => {
                assert_eq!((parsed.content.as_str(), parsed.blocks.len()), (input, 0));
                differ += 1;
            }
            // Lagent raises, drops the blocks behind the first or takes the first for text; here all are found.
            (_, markers) if markers > 1 => {
                check_all_found(input, &parsed);
                differ += 1;
            }
            _ => {
                let language = text(&want["language"]);
                let block = parsed.blocks.first();
                let action = block.map(|b| b.action.as_str());
                assert_eq!(action, want["name"].as_str(), "{id}");
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
            }
        }
    }
    assert!(differ * 4 <= cases(&golden).len(), "{differ} differ");
}

/// Blocks that follow each other are all found, each with its kind.
#[test]
fn more_than_one_block() {
    let block =
        |marker: &str, payload: &str| format!("{ACTION_START}{marker}\n{payload}{ACTION_END}\n");
    let call = block(
        MARKERS[0],
        r#"{"name": "Bold", "parameters": {"text": "1"}}"#,
    );
    let code = block(MARKERS[1], "print(1)");
    for (blocks, actions) in [
        ([&call, &call], [Action::Plugin, Action::Plugin]),
        ([&code, &code], [Action::Interpreter, Action::Interpreter]),
        ([&code, &call], [Action::Interpreter, Action::Plugin]),
    ] {
        let input = format!("A{}B{}", blocks[0], blocks[1]);
        let parsed = tool_call::parse(&input);
        let found: Vec<Action> = parsed.blocks.iter().map(|b| b.action).collect();
        assert_eq!(found, actions);
        check_splits(&input);
    }
}

/// Lagent 0.5.0rc3, plugin before interpreter. Each case is as recorded, or differs for the reason given here.
#[test]
fn lagent_0_5() {
    let Some(golden) = golden("agent/tool_parser_v05.json") else {
        return;
    };
    let mut differ = 0;
    for case in cases(&golden) {
        let (id, input) = (text(&case["id"]), text(&case["input"]));
        let want = &case["expect"]["mixed"]["parsed"];
        let parsed = tool_call::parse(input);
        check_splits(input);
        let (action, thought) = (&want["action"], text(&want["thought"]));
        let Some(block) = parsed.blocks.first() else {
            assert_eq!((begun(input).0, thought), (0, input), "{id}");
            assert_eq!(parsed.content, input, "{id}");
            continue;
        };
        check_all_found(input, &parsed);
        // Lagent's markers include line breaks; here these are optional.
        if want["status"] == 0 {
            let marker = format!("{}\n", block.action.marker());
            assert!(!input.contains(&marker), "{id}");
            assert_eq!(block.tool_call().is_ok(), is_json(block.payload()), "{id}");
            differ += 1;
            continue;
        }
        // Lagent takes the first block for text.
        if thought.contains(ACTION_START) {
            assert!(parsed.blocks.len() > 1, "{id}");
            differ += 1;
            continue;
        }
        assert_eq!(want["tool_type"], block.action.as_str(), "{id}");
        assert!(parsed.content.starts_with(thought), "{id}");
        match block.action {
            Action::Interpreter => assert_eq!(block.payload(), text(action).trim(), "{id}"),
            Action::Plugin if want["status"] == 1 => match block.tool_call() {
                Ok(call) => {
                    let arguments = action.get("parameters").or(action.get("arguments"));
                    assert_eq!(call.name, action["name"], "{id}");
                    assert_eq!(Some(&call.arguments), arguments, "{id}");
                }
                // Lagent's end is followed by a line break, so that a string goes on over the marker; Python's
                // JSON has NaN and Infinity; objects that are no calls are taken, too.
                Err(error) => {
                    let call = action["name"].is_string() && action["parameters"].is_object();
                    let marked = action.to_string().contains(ACTION_END);
                    let odd = !call || marked || action.to_string().contains("$float");
                    assert!(odd, "{id}: {error}");
                    differ += 1;
                }
            },
            // A fence around the JSON is taken off here.
            Action::Plugin if block.payload().starts_with("```") => {
                let inside = block
                    .payload()
                    .trim_start_matches("```json")
                    .trim_matches('`');
                assert_eq!(block.tool_call().is_ok(), is_json(inside), "{id}");
                differ += 1;
            }
            Action::Plugin => {
                assert!(block.tool_call().is_err(), "{id}");
                let payload = text(action).trim();
                let payload = payload.trim_end_matches(ACTION_END);
                assert_eq!(block.payload(), payload, "{id}");
            }
        }
    }
    assert!(differ * 4 <= cases(&golden).len(), "{differ} differ");
}
