use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::Error;
use crate::message::{Message, Part, Role, join};
use crate::tool::{ToolCall, ToolSpec};

const CALL: &str = "{\"name\": \"f\", \"parameters\": {\"a\": 1}}";

/// Events with neighbouring texts and payloads joined.
fn joined(events: impl IntoIterator<Item = ToolCallEvent>) -> Vec<ToolCallEvent> {
    let mut all: Vec<ToolCallEvent> = Vec::new();
    for event in events {
        match (all.last_mut(), event) {
            (Some(ToolCallEvent::Text(a)), ToolCallEvent::Text(b))
            | (Some(ToolCallEvent::Payload(a)), ToolCallEvent::Payload(b)) => a.push_str(&b),
            (_, event) => all.push(event),
        }
    }
    all
}

fn events(mut parser: ToolCallParser, pieces: &[&str]) -> Vec<ToolCallEvent> {
    let mut all = Vec::new();
    for piece in pieces {
        all.extend(parser.push(piece));
    }
    all.extend(parser.flush());
    joined(all)
}

fn text_of(events: &[ToolCallEvent]) -> String {
    events.iter().map(ToolCallEvent::text).collect()
}

fn calls_of(events: &[ToolCallEvent]) -> Vec<ToolCall> {
    let call = |event: &ToolCallEvent| match event {
        ToolCallEvent::Call(call) => Some(call.clone()),
        _ => None,
    };
    events.iter().filter_map(call).collect()
}

/// The whole text in one, which must be the same at every cut in two and character by character.
#[track_caller]
fn everywhere(parser: &ToolCallParser, text: &str) -> Vec<ToolCallEvent> {
    let whole = events(parser.clone(), &[text]);
    assert_eq!(text_of(&whole), text);
    for (cut, _) in text.char_indices() {
        let (a, b) = text.split_at(cut);
        assert_eq!(events(parser.clone(), &[a, b]), whole, "cut at {cut}");
    }
    let characters: Vec<String> = text.chars().map(String::from).collect();
    let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
    assert_eq!(events(parser.clone(), &characters), whole);
    whole
}

#[track_caller]
fn lenient(text: &str) -> Vec<ToolCallEvent> {
    everywhere(&ToolCallParser::lenient(), text)
}

#[track_caller]
fn faults(text: &str, want: &[Fault]) {
    let found = everywhere(&ToolCallParser::strict(), text);
    let found: Vec<Fault> = found
        .into_iter()
        .filter_map(|event| match event {
            ToolCallEvent::Fault(fault) => Some(fault),
            _ => None,
        })
        .collect();
    assert_eq!(found, want);
}

#[test]
fn the_events_of_a_message() {
    let text = format!("Sure.<|action_start|><|plugin|>\n{CALL}<|action_end|>\nBye");
    let block = ActionBlock {
        action: Action::Plugin,
        raw: format!("\n{CALL}"),
        complete: true,
    };
    assert_eq!(
        lenient(&text),
        [
            ToolCallEvent::Text("Sure.".into()),
            ToolCallEvent::Start {
                action: Action::Plugin,
                markers: "<|action_start|><|plugin|>".into()
            },
            ToolCallEvent::Payload(format!("\n{CALL}")),
            ToolCallEvent::End {
                block,
                marker: ACTION_END
            },
            ToolCallEvent::Call(ToolCall::new("f", json!({"a": 1}))),
            ToolCallEvent::LineBreak("\n"),
            ToolCallEvent::Text("Bye".into()),
        ]
    );
    faults(&text, &[]);
}

#[test]
fn lenient_reading_takes_what_models_write() {
    let f = ToolCall::new("f", json!({"a": 1}));
    for text in [
        format!("<|action_start|><|plugin|>{CALL}<|action_end|>"),
        format!("<|action_start|> \n<|plugin|>\r\n {CALL} \n<|action_end|>\r\n"),
        format!("<|action_start|><|plugin|>\n{CALL}"),
        format!("<|action_start|><|plugin|>\n```json\n{CALL}\n```<|action_end|>"),
        format!("<|action_start|><|plugin|>\n```json\n{CALL}<|action_end|>"),
        format!("<|action_start|><|plugin|>```{CALL}```<|action_end|>"),
        CALL.replace("parameters", "arguments"),
        CALL.replace("{\"a\": 1}", "\"{\\\"a\\\": 1}\""),
        CALL.replace("}}", "}, \"id\": 3}"),
    ] {
        let text = match text.starts_with('<') {
            true => text,
            false => format!("<|action_start|><|plugin|>\n{text}<|action_end|>"),
        };
        let parsed = parse(&text);
        assert_eq!(parsed.content, "", "{text}");
        assert_eq!(parsed.blocks.len(), 1, "{text}");
        assert_eq!(parsed.blocks[0].tool_call().unwrap(), f, "{text}");
        assert_eq!(calls_of(&lenient(&text)), std::slice::from_ref(&f));
        assert!(
            parsed.blocks[0].strict_tool_call().is_err() || text.contains("> \n<"),
            "{text}"
        );
    }
    for arguments in ["null", "\"\"", "{}"] {
        let text =
            format!("<|action_start|><|plugin|>{{\"name\":\"f\",\"parameters\":{arguments}}}");
        let call = parse(&text).blocks[0].tool_call().unwrap();
        assert_eq!(call, ToolCall::new("f", json!({})));
    }
    let without = parse("<|action_start|><|plugin|>{\"name\":\"f\"}");
    assert_eq!(
        without.blocks[0].tool_call().unwrap(),
        ToolCall::new("f", json!({}))
    );
}

#[test]
fn several_blocks() {
    let text = format!(
        "A<|action_start|><|plugin|>\n{CALL}<|action_end|>\nB\
         <|action_start|><|interpreter|>\n```python\nprint(1)\n```<|action_end|>\n\nC"
    );
    let parsed = parse(&text);
    assert_eq!(parsed.content, "AB\nC");
    let kinds: Vec<Action> = parsed.blocks.iter().map(|b| b.action).collect();
    assert_eq!(kinds, [Action::Plugin, Action::Interpreter]);
    assert_eq!(parsed.blocks[1].code(), "print(1)");
    let calls = calls_of(&lenient(&text));
    assert_eq!(
        calls[1],
        ToolCall::new("interpreter", json!({"code": "print(1)"}))
    );
    faults(&text, &[]);

    // The end of the first is missing.
    let text = format!(
        "<|action_start|><|plugin|>\n{CALL}\n<|action_start|><|plugin|>\n{CALL}<|action_end|>"
    );
    let found = lenient(&text);
    assert_eq!(calls_of(&found).len(), 2);
    assert!(matches!(
        &found[2],
        ToolCallEvent::End { block, marker: "" } if !block.complete
    ));
    faults(&text, &[Fault::Unterminated]);
}

#[test]
fn markers_out_of_place_are_text() {
    for (text, fault) in [
        ("a<|action_start|>", Fault::NoKind),
        ("a<|action_start|> \n", Fault::NoKind),
        ("a<|action_start|>foo", Fault::NoKind),
        ("a<|action_start|><|plug", Fault::NoKind),
        ("a<|plugin|>b", Fault::StrayMarker(PLUGIN)),
        ("a<|interpreter|>b", Fault::StrayMarker(INTERPRETER)),
        ("a<|action_end|>b", Fault::StrayMarker(ACTION_END)),
    ] {
        assert_eq!(lenient(text), [ToolCallEvent::Text(text.into())]);
        faults(text, &[fault]);
    }
    let gap = format!("<|action_start|>{}<|plugin|>x", " ".repeat(65));
    assert_eq!(lenient(&gap), [ToolCallEvent::Text(gap.clone())]);
    let gap = format!("<|action_start|>{}<|plugin|>{CALL}", " ".repeat(64));
    assert_eq!(calls_of(&lenient(&gap)).len(), 1);
    // A start that is followed by no kind belongs to the payload.
    let inside = "<|action_start|><|plugin|>\n{\"name\": \"f\", \"parameters\": \
                  {\"a\": \"<|action_start|>\"}}<|action_end|>";
    let want = ToolCall::new("f", json!({"a": "<|action_start|>"}));
    assert_eq!(calls_of(&lenient(inside)), [want]);
    faults(inside, &[Fault::NoKind]);
    // Two starts: the first is text.
    let twice = format!("<|action_start|><|action_start|><|plugin|>\n{CALL}<|action_end|>");
    assert_eq!(parse(&twice).content, ACTION_START);
    assert_eq!(calls_of(&lenient(&twice)).len(), 1);
}

#[test]
fn an_unterminated_block_keeps_its_payload() {
    let found = lenient("Hm<|action_start|><|plugin|>\n{\"name\": \"f\", \"par");
    let ToolCallEvent::End { block, marker: "" } = &found[3] else {
        panic!("{found:?}");
    };
    assert!(!block.complete);
    assert_eq!(block.payload(), "{\"name\": \"f\", \"par");
    assert!(matches!(found[4], ToolCallEvent::Fault(Fault::Json(_))));
    faults("<|action_start|><|plugin|>\n", &[Fault::Unterminated]);
    faults(
        "<|action_start|><|interpreter|>\nx<|action_e",
        &[Fault::Unterminated],
    );
}

#[test]
fn faults_have_types() {
    let fault = |payload: &str| {
        let text = format!("<|action_start|><|plugin|>\n{payload}<|action_end|>");
        let block = parse(&text).blocks.remove(0);
        let error = |result| match result {
            Ok(_) => None,
            Err(Error::ToolCall {
                what,
                payload: kept,
            }) => {
                assert_eq!(kept, payload);
                Some(what)
            }
            Err(other) => panic!("{other}"),
        };
        (error(block.tool_call()), error(block.strict_tool_call()))
    };
    let both = |fault: Fault| (Some(fault.clone()), Some(fault));
    assert!(matches!(
        fault("{'name'"),
        (Some(Fault::Json(_)), Some(Fault::Json(_)))
    ));
    assert!(matches!(
        fault(""),
        (Some(Fault::Json(_)), Some(Fault::Json(_)))
    ));
    let two = format!("{CALL}\n{CALL}");
    assert!(matches!(
        fault(&two),
        (Some(Fault::Json(_)), Some(Fault::Json(_)))
    ));
    let deep = "[".repeat(100_000);
    assert!(matches!(
        fault(&deep),
        (Some(Fault::Json(_)), Some(Fault::Json(_)))
    ));
    assert_eq!(fault("[]"), both(Fault::NotAnObject));
    assert_eq!(fault("{\"parameters\": {}}"), both(Fault::NoName));
    assert_eq!(
        fault("{\"name\": \"\", \"parameters\": {}}"),
        both(Fault::NoName)
    );
    assert_eq!(
        fault("{\"name\": 1, \"parameters\": {}}"),
        both(Fault::NoName)
    );
    let list = "{\"name\": \"f\", \"parameters\": [1]}";
    assert_eq!(fault(list), both(Fault::ParametersNotAnObject));
    assert_eq!(
        fault("{\"name\": \"f\"}"),
        (None, Some(Fault::NoParameters))
    );
    let null = "{\"name\": \"f\", \"parameters\": null}";
    assert_eq!(fault(null), (None, Some(Fault::ParametersNotAnObject)));
    let id = "{\"name\": \"f\", \"parameters\": {}, \"id\": 1}";
    assert_eq!(fault(id), (None, Some(Fault::UnknownKey("id".into()))));
    assert_eq!(fault(CALL), (None, None));

    faults(
        "<|action_start|><|interpreter|>\n```python\n```<|action_end|>",
        &[Fault::NoCode],
    );
    let gap = format!("<|action_start|>\n<|plugin|>\n{CALL}<|action_end|>");
    faults(&gap, &[Fault::WhiteSpace]);
    let none = format!("<|action_start|><|plugin|>{CALL}<|action_end|>");
    faults(&none, &[Fault::WhiteSpace]);
}

#[test]
fn code_is_taken_out_of_its_fence() {
    for (payload, code) in [
        ("print(1)", "print(1)"),
        ("\n```python\nprint(1)\n```", "print(1)"),
        ("\n```python\r\nprint(1)\r\n```\r\n", "print(1)"),
        ("```\nif x:\n    y\n```\n", "if x:\n    y"),
        ("```py\nx = '```'\ny\n```", "x = '```'\ny"),
        ("```python\nprint(1)", "print(1)"),
        ("```print(1)```", "print(1)"),
        ("I run:\n```python\nx\n```\nand then\n```\ny\n```", "x"),
        ("```python\n```", ""),
        ("```", ""),
        ("", ""),
    ] {
        let block = ActionBlock {
            action: Action::Interpreter,
            raw: payload.into(),
            complete: true,
        };
        assert_eq!(block.code(), code, "{payload:?}");
    }
}

#[test]
fn what_is_held_back() {
    let mut parser = ToolCallParser::lenient();
    let mut push = |text: &str| text_of(&parser.push(text));
    assert_eq!(push("a < b <"), "a < b ");
    assert_eq!(push("|action"), "");
    assert_eq!(push("|"), "<|action|");
    assert_eq!(push("<<|action_start|>"), "<");
    assert_eq!(push("\n<|"), "");
    assert_eq!(push("im_end|>"), "<|action_start|>\n<|im_end|>");
    assert_eq!(push("<|plugin"), "<|plugin");
    assert_eq!(
        push("<|action_start|><|plugin|>{<|action"),
        "<|action_start|><|plugin|>{"
    );
    assert_eq!(push("_e"), "");
    assert_eq!(push("nd|>\r"), "<|action_end|>");
    assert_eq!(push("\n"), "\r\n");
    assert_eq!(push("\n"), "\n");
    assert!(parser.flush().is_empty());
}

/// Would not end in useful time if each marker were looked for in the whole rest.
#[test]
fn many_markers() {
    let open = "<|action_start|><|plugin|>";
    let text = format!("{open}{}", ACTION_START.repeat(100_000));
    let parsed = parse(&text);
    assert_eq!(parsed.blocks[0].raw.len(), text.len() - open.len());
    assert_eq!(parse(&open.repeat(100_000)).blocks.len(), 100_000);
}

#[test]
fn a_flushed_parser_is_as_new() {
    for start in [
        "<|action_start|><|plugin|>{",
        "<|action_st",
        "<|action_start|><|plugin|><|action_end|>",
    ] {
        let mut parser = ToolCallParser::lenient();
        parser.push(start);
        parser.flush();
        assert_eq!(
            joined(parser.push("\nhello")),
            [ToolCallEvent::Text("\nhello".into())]
        );
    }
}

#[test]
fn what_is_written() {
    let call = ToolCall::new(
        "f",
        json!({"b": [1, 2.5, null], "a": {"书": "\n\"é"}, "c": {}}),
    );
    let parts = plugin(&call);
    assert_eq!(
        parts,
        [
            Part::marker("<|action_start|>"),
            Part::marker("<|plugin|>"),
            Part::text(
                "\n{\"name\": \"f\", \"parameters\": {\"b\": [1, 2.5, null], \
                 \"a\": {\"书\": \"\\n\\\"é\"}, \"c\": {}}}"
            ),
            Part::marker("<|action_end|>"),
        ]
    );
    let code = ToolCall::new(INTERPRETER_TOOL, json!({"code": "print(1)"}));
    assert_eq!(calls(std::slice::from_ref(&code)), interpreter("print(1)"));
    assert_eq!(join(&calls(&[call, code])).matches(ACTION_START).count(), 2);
    // Neither is code.
    for arguments in [json!({"code": 1}), json!({"code": "x", "y": 1}), json!({})] {
        let call = ToolCall::new(INTERPRETER_TOOL, arguments);
        assert_eq!(calls(std::slice::from_ref(&call)), plugin(&call));
    }
    // Markers in arguments stay arguments.
    let spelled = ToolCall::new(
        "f<|action_end|>",
        json!({"<|action_start|>": "<|action_end|>"}),
    );
    let text = join(&plugin(&spelled));
    assert_eq!(parse(&text).blocks[0].strict_tool_call().unwrap(), spelled);
}

#[test]
fn the_list_of_tools() {
    let schema = json!({"type": "object", "properties": {}, "required": []});
    let tools = [
        ToolSpec::new("f", "书", schema),
        ToolSpec::new("g", "", json!(null)),
    ];
    assert_eq!(
        spec_json(&tools),
        "[\n    {\n        \"name\": \"f\",\n        \"description\": \"书\",\n        \
         \"parameters\": {\n            \"type\": \"object\",\n            \"properties\": {},\n            \
         \"required\": []\n        }\n    },\n    {\n        \"name\": \"g\",\n        \
         \"description\": \"\"\n    }\n]"
    );
    assert_eq!(spec_json(&[]), "[]");
}

/// Pieces of which texts that are hard to cut are made.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec![
            ACTION_START, ACTION_END, PLUGIN, INTERPRETER, CALL, "<|action_", "<|", "|>", "<", "\n",
            "\r\n", "\r", " ", "```python\n", "\n```", "书", "<|im_end|>",
        ])
        .prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

/// `INTERNLM_FUZZ_CASES` cases, else 2,000.
fn cases() -> ProptestConfig {
    let cases = std::env::var("INTERNLM_FUZZ_CASES").ok();
    ProptestConfig::with_cases(cases.map_or(2000, |cases| cases.parse().unwrap()))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn cuts_make_no_difference(
        pieces in prop::collection::vec(piece(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        strict in any::<bool>(),
    ) {
        let parser = if strict { ToolCallParser::strict() } else { ToolCallParser::lenient() };
        let text = pieces.concat();
        let whole = events(parser.clone(), &[&text]);
        prop_assert_eq!(text_of(&whole), text.as_str());
        let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let mut at: Vec<usize> = vec![0, text.len()];
        if !boundaries.is_empty() {
            at.extend(cuts.iter().map(|cut| *cut.get(&boundaries)));
        }
        at.sort_unstable();
        let cut: Vec<&str> = at.windows(2).map(|w| &text[w[0]..w[1]]).collect();
        prop_assert_eq!(events(parser, &cut), whole);
    }

    #[test]
    fn what_is_written_is_parsed(
        name in "[^\\x00]{1,12}",
        keys in prop::collection::vec((any::<String>(), piece()), 0..5),
        before in "[^<]{0,12}",
    ) {
        let arguments = keys.into_iter().map(|(k, v)| (k, json!(v))).collect();
        let call = ToolCall::new(name, serde_json::Value::Object(arguments));
        let text = format!("{before}{}", join(&plugin(&call)));
        let parsed = parse(&text);
        prop_assert_eq!(parsed.content, before);
        prop_assert_eq!(parsed.blocks.len(), 1);
        prop_assert_eq!(parsed.blocks[0].strict_tool_call().unwrap(), call);
    }
}

/// For chat templates that know no tools: everything is in the texts, and nothing of the conversation is lost.
#[test]
fn conversations_in_words() {
    let tools = [ToolSpec::new("f", "Does it.", json!({"type": "object"}))];
    let call = ToolCall::new("f", json!({"a": 1}));
    let messages = [
        Message::system("Be brief."),
        Message::user("x?"),
        Message::assistant("Hm.").with_tool_calls(vec![call.clone()]),
        Message::environment("1"),
    ];
    let told = in_words(&messages, &tools);
    assert_eq!(told.len(), messages.len());
    let system = told[0].text();
    assert!(system.starts_with("Be brief.\n\nYou may call") && system.contains("Does it."));
    assert!(told[2].tool_calls.is_empty());
    let parsed = parse(&told[2].text());
    assert_eq!(parsed.content, "Hm.");
    assert_eq!(parsed.blocks[0].tool_call().unwrap(), call);
    assert_eq!((&told[1], &told[3]), (&messages[1], &messages[3]));

    let told = in_words(&messages[1..2], &tools);
    assert_eq!((told.len(), told[0].role), (2, Role::System));
}
