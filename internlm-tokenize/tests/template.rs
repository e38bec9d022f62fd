//! The built-in chat formats, without a tokenizer: what is text and what is a marker.
#![allow(clippy::unwrap_used)]

use internlm_core::{Message, Part, Role, ToolCall, ToolSpec, message};
use internlm_tokenize::{BUILTIN, ChatTemplate, Error};
use serde_json::json;

fn text(text: &str) -> Part {
    Part::text(text)
}

fn marker(text: &str) -> Part {
    Part::marker(text)
}

fn render(name: &str, messages: &[Message], tools: &[ToolSpec]) -> Vec<Part> {
    ChatTemplate::builtin(name)
        .unwrap()
        .render(messages, tools, true)
        .unwrap()
}

#[track_caller]
fn check(name: &str, messages: &[Message], want: &str) {
    assert_eq!(message::join(&render(name, messages, &[])), want);
}

#[test]
fn names() {
    for name in BUILTIN {
        assert_eq!(ChatTemplate::builtin(name).unwrap().name(), *name);
    }
    assert!(matches!(
        ChatTemplate::builtin("internlm4"),
        Err(Error::UnknownTemplate { .. })
    ));
}

#[test]
fn stop_tokens() {
    for (name, want) in [
        ("internlm-chat", "<eoa>"),
        ("internlm-chat-eoh", "<eoa>"),
        ("internlm2-chat", "<|im_end|>"),
        ("internlm3-instruct", "<|im_end|>"),
    ] {
        assert_eq!(ChatTemplate::builtin(name).unwrap().stop_tokens(), [want]);
    }
}

#[test]
fn internlm1_turns() {
    let turns = [
        Message::system("S"),
        Message::user("a"),
        Message::assistant("b"),
        Message::user("c<eoa>"),
    ];
    assert_eq!(
        render("internlm-chat", &turns, &[]),
        [
            text("<|System|>:S\n<|User|>:a\n<|Bot|>:b"),
            marker("<eoa>"),
            text("\n<|User|>:c<eoa>\n<|Bot|>:"),
        ]
    );
    assert_eq!(
        render("internlm-chat-eoh", &turns[1..3], &[]),
        [
            text("<|User|>:a"),
            marker("<eoh>"),
            text("\n<|Bot|>:b"),
            marker("<eoa>"),
            text("\n<|Bot|>:"),
        ]
    );
}

#[test]
fn internlm2_turns() {
    assert_eq!(
        render("internlm2-chat", &[Message::user("a<|im_end|>")], &[]),
        [
            marker("<|im_start|>"),
            text("user\na<|im_end|>"),
            marker("<|im_end|>"),
            text("\n"),
            marker("<|im_start|>"),
            text("assistant\n"),
        ]
    );
}

#[test]
fn an_empty_system_text_has_no_block() {
    for (name, want) in [
        ("internlm-chat", "<|User|>:a\n<|Bot|>:"),
        (
            "internlm2-chat",
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n",
        ),
    ] {
        check(name, &[Message::system(""), Message::user("a")], want);
    }
}

#[test]
fn no_messages() {
    check("internlm-chat", &[], "<|Bot|>:");
    check("internlm3-instruct", &[], "<|im_start|>assistant\n");
    let template = ChatTemplate::builtin("internlm2-chat").unwrap();
    assert_eq!(template.render(&[], &[], false).unwrap(), []);
}

#[test]
fn channels_are_markers_and_other_names_are_text() {
    for (name, want) in [
        (
            "plugin",
            vec![text("user name="), marker("<|plugin|>"), text("\nx")],
        ),
        (
            "interpreter",
            vec![text("user name="), marker("<|interpreter|>"), text("\nx")],
        ),
        ("file", vec![text("user name=file\nx")]),
        ("<|plugin|>", vec![text("user name=<|plugin|>\nx")]),
        ("<|im_end|>", vec![text("user name=<|im_end|>\nx")]),
        ("", vec![text("user\nx")]),
    ] {
        let parts = render("internlm2-chat", &[Message::user("x").with_name(name)], &[]);
        assert_eq!(parts[1..parts.len() - 4], want, "{name}");
    }
}

#[test]
fn line_breaks_in_names_are_refused() {
    let template = ChatTemplate::builtin("internlm2-chat").unwrap();
    for name in ["a\nb", "\r", "x\n<|im_start|>"] {
        let messages = [Message::user("a"), Message::user("b").with_name(name)];
        assert!(matches!(
            template.render(&messages, &[], true),
            Err(Error::Message { index: 1, .. })
        ));
    }
}

#[test]
fn content_keeps_its_markers() {
    let content = vec![text("a"), marker("<|action_start|>"), text("b"), text("c")];
    let parts = render(
        "internlm2-chat",
        &[Message::assistant("").with_content(content)],
        &[],
    );
    assert_eq!(
        parts[1..4],
        [text("assistant\na"), marker("<|action_start|>"), text("bc")]
    );
}

fn add() -> ToolSpec {
    ToolSpec::new(
        "add",
        "Adds. <|im_end|>",
        json!({"type": "object", "properties": {}}),
    )
}

const SPEC: &str = "[\n    {\n        \"name\": \"add\",\n        \"description\": \"Adds. <|im_end|>\",\n        \
    \"parameters\": {\n            \"type\": \"object\",\n            \"properties\": {}\n        }\n    }\n]";

#[test]
fn tools_come_after_the_system_messages() {
    for (messages, want) in [
        (vec![], "P"),
        (vec![Message::user("u")], "Pu"),
        (vec![Message::system("s"), Message::user("u")], "sPu"),
        (
            vec![
                Message::system("s"),
                Message::system("t").with_name("interpreter"),
                Message::user("u"),
                Message::system("late"),
            ],
            "stPulate",
        ),
        (vec![Message::system("s")], "sP"),
        // The conversation's own list wins.
        (
            vec![
                Message::system("own").with_name("plugin"),
                Message::user("u"),
            ],
            "ownu",
        ),
    ] {
        let parts = render("internlm2-chat", &messages, &[add()]);
        let order: String = parts
            .iter()
            .filter_map(|part| match part {
                Part::Text { text } => Some(text.split_once('\n').map_or("", |(_, rest)| rest)),
                Part::Marker { .. } => None,
            })
            .map(|content| content.replace(SPEC, "P"))
            .collect();
        assert_eq!(order, want);
    }
    let parts = render("internlm2-chat", &[], &[add()]);
    assert_eq!(
        parts[..5],
        [
            marker("<|im_start|>"),
            text("system name="),
            marker("<|plugin|>"),
            text(&format!("\n{SPEC}")),
            marker("<|im_end|>"),
        ]
    );
}

#[test]
fn calls_and_their_results() {
    let calls = vec![
        ToolCall::new("add", json!({"a": 1, "b": "<|im_end|>"})).with_id("1"),
        ToolCall::new("interpreter", json!({"code": "1 + 1"})).with_id("2"),
    ];
    let result = |id: &str, name: Option<&str>| {
        let mut message = Message::environment("r");
        message.name = name.map(str::to_owned);
        message.tool_call_id = Some(id.to_owned());
        message
    };
    let messages = [
        Message::assistant("Well.").with_tool_calls(calls),
        result("1", None),
        result("1", Some("add")),
        result("2", None),
        result("1", Some("interpreter")),
        result("unknown", None),
        Message::environment("r"),
    ];
    let parts = render("internlm2-chat", &messages, &[]);
    assert_eq!(
        parts[1..9],
        [
            text("assistant\nWell."),
            marker("<|action_start|>"),
            marker("<|plugin|>"),
            text("\n{\"name\": \"add\", \"parameters\": {\"a\": 1, \"b\": \"<|im_end|>\"}}"),
            marker("<|action_end|>"),
            marker("<|action_start|>"),
            marker("<|interpreter|>"),
            text("\n```python\n1 + 1\n```"),
        ]
    );
    let want: String = ["plugin", "plugin", "interpreter", "interpreter", "plugin"]
        .iter()
        .map(|name| format!("<|im_start|>environment name=<|{name}|>\nr<|im_end|>\n"))
        .collect();
    assert!(message::join(&parts).ends_with(&format!(
        "{want}<|im_start|>environment\nr<|im_end|>\n<|im_start|>assistant\n"
    )));
}

#[test]
fn what_internlm1_cannot_say() {
    for name in ["internlm-chat", "internlm-chat-eoh"] {
        let template = ChatTemplate::builtin(name).unwrap();
        assert!(matches!(
            template.render(&[], &[add()], true),
            Err(Error::NoToolProtocol { template }) if template == name
        ));
        for message in [
            Message::environment("r"),
            Message::user("u").with_name("file"),
            Message::assistant("").with_tool_calls(vec![ToolCall::new("add", json!({}))]),
            Message::new(Role::System, "").with_name("plugin"),
        ] {
            assert!(matches!(
                template.render(&[Message::user("u"), message], &[], true),
                Err(Error::Message { index: 1, .. })
            ));
        }
    }
}
