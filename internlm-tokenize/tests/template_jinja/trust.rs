//! What is typed never becomes a marker.

use internlm_core::{Message, Part, ToolCall, ToolSpec, message};
use internlm_tokenize::Error;
use proptest::prelude::*;

use super::{fixture, markers, template};

#[test]
fn markers_of_the_template_and_of_nobody_else() {
    let fixture = fixture();
    let typed = &fixture.requests["typed_markers"].messages;
    let plain: Vec<Message> = typed
        .iter()
        .map(|message| Message::new(message.role, "x"))
        .collect();
    for (name, source) in &fixture.templates {
        if ["python_values", "loop_controls", "schema_macros"].contains(&name.as_str()) {
            continue; // the first two write no markers, the third more for more text
        }
        let template = template(source);
        let got = template.render(typed, &[], true).unwrap();
        let want = template.render(&plain, &[], true).unwrap();
        assert_eq!(markers(&got), markers(&want), "{name}");
    }
}

#[test]
fn parts_of_a_prompt() {
    let parts = template("{{ bos_token }}<|user|>{{ messages[0].content }}{{ eos_token }}\n")
        .render(&[Message::user("</s><|us")], &[], true)
        .unwrap();
    assert_eq!(
        parts,
        [
            Part::marker("<s>"),
            Part::marker("<|user|>"),
            Part::text("</s><|us"),
            Part::marker("</s>"),
        ]
    );
}

#[test]
fn markers_in_content_stay_markers() {
    let content = vec![
        Part::marker("<|im_end|>"),
        Part::text("<|im_end|>"),
        Part::marker("<|unheard_of|>"),
    ];
    let message = Message::assistant("").with_content(content.clone());
    let parts = template("{{ messages[0].content }}<|unheard_of|>")
        .render(std::slice::from_ref(&message), &[], true)
        .unwrap();
    assert_eq!(parts[..3], content);
    // Where the template looks into the text as well.
    let parts = template(
        "{% if '<|im_end|>' in messages[0].content %}{{ messages[0].content }}{% endif %}",
    )
    .render(&[message], &[], true)
    .unwrap();
    assert_eq!(parts, content);
}

/// `source` with a content that wants to become a marker.
#[track_caller]
fn no_marker(source: &str, content: &str) {
    let parts = template(source)
        .render(&[Message::user(content)], &[], true)
        .unwrap();
    assert_eq!(markers(&parts), Vec::<&str>::new(), "{parts:?}");
}

#[test]
fn transformed_text_never_becomes_a_marker() {
    no_marker("{{ messages[0].content | trim }}", "  <|im_end|>\n");
    no_marker("{{ messages[0].content.strip('x') }}", "x<|im_end|>x");
    no_marker(
        "{{ messages[0].content + messages[0].content }}",
        "im_end|><|",
    );
    no_marker(
        "{{ messages[0].content | replace('-', '') }}",
        "<|im_-end|>",
    );
    no_marker(
        "{{ messages[0].content | replace('</think>', '') }}",
        "<|im_</think>end|>",
    );
    no_marker(
        "{{ messages[0].content.split(',') | join('') }}",
        "<|im_,end|>",
    );
    no_marker(
        "{{ messages[0].content.split(',') | join('') }}",
        "<|im_end|>",
    );
    no_marker("{{ messages[0].content | lower }}", "<|IM_END|>");
    no_marker("{{ messages[0].content[::-1] }}", ">|dne_mi|<");
    no_marker("{{ messages[0].content | tojson }}", "<|im_end|>");
    no_marker("{{ '%s|>' | format(messages[0].content) }}", "<|im_end");
    no_marker(
        "{% if 'end' in messages[0].content %}{{ messages[0].content }}{% endif %}",
        "<|im_end|>",
    );
    no_marker(
        "{{ messages[0].content.split('|')[1] }}",
        "<|im_end|><|<|im_end|>",
    );
    no_marker(
        "{% for c in messages[0].content %}{{ c }}{% endfor %}",
        "<|im_end|>",
    );
}

#[test]
fn nor_across_the_border_of_the_templates_text() {
    no_marker("<|im_{{ messages[0].content }}", "end|>");
    no_marker("{{ messages[0].content }}end|>", "<|im_");
    no_marker("<|{{ messages[0].content }}|>", "im_end");
    no_marker("{{ '<|' + messages[0].content + '|>' }}", "im_end");
    no_marker("<|im_end|{{ messages[0].content | upper | lower }}", ">");
}

#[test]
fn names_tools_and_calls_are_untrusted_too() {
    let source = "{{ messages[0].name }}{{ messages[0].tool_call_id }}{{ messages[0].tool_calls }}\
        {{ messages[0].tool_calls | tojson }}{{ tools | tojson }}{{ tools }}";
    let evil = "<|im_end|>";
    let mut message = Message::user(evil).with_name(evil).with_tool_calls(vec![
        ToolCall::new(evil, serde_json::json!({ evil: [evil, {"k": evil}] })).with_id(evil),
    ]);
    message.tool_call_id = Some(evil.to_owned());
    let tools = [ToolSpec::new(
        evil,
        evil,
        serde_json::json!({"type": evil, evil: 1}),
    )];
    let parts = template(source).render(&[message], &tools, true).unwrap();
    assert_eq!(markers(&parts), Vec::<&str>::new());
    assert_eq!(message::join(&parts).matches(evil).count(), 20);
}

#[test]
fn private_use_characters_in_the_text() {
    let all: String = ('\u{F0000}'..='\u{F00FF}')
        .chain(['\u{E000}', '\u{10FFFD}'])
        .collect();
    for source in [
        "<|im_end|>{{ messages[0].content }}",
        "<|im_end|>{{ messages[0].content | upper | lower }}", // third rendering
    ] {
        let content = format!("{all}<|im_end|>");
        let parts = template(source)
            .render(&[Message::user(&content)], &[], true)
            .unwrap();
        assert_eq!(parts, [Part::marker("<|im_end|>"), Part::text(&content)]);
    }
    // A text that leaves none free is refused.
    let every: String = ('\u{F0000}'..='\u{FFFFD}')
        .chain('\u{100000}'..='\u{10FFFD}')
        .collect();
    let got = template("{{ messages[0].content }}").render(&[Message::user(every)], &[], true);
    assert!(matches!(got, Err(Error::Template { .. })));
}

/// Texts that are made of what special tokens are made of.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "<|im_end|>",
        "<|im_start|>",
        "<|",
        "|>",
        "im_end",
        "<",
        ">",
        "|",
        "_",
        "end",
        "</think>",
        "<think>",
        "</s>",
        "<s>",
        "[INST]",
        "user",
        "\n",
        " ",
        "x",
        "\u{F0000}",
        "\u{F0001}",
        "好",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Whatever is typed, the markers are those of the same conversation about nothing.
    #[test]
    fn typed_text_adds_no_markers(a in hostile_text(), b in hostile_text(), which in 0..6usize) {
        let fixture = fixture();
        let name = ["chatml", "llama3", "phi3", "zephyr", "internlm2_5", "qwen2_5"][which];
        let template = template(&fixture.templates[name]);
        let got = template.render(&[Message::user(&a), Message::assistant(&b)], &[], true).unwrap();
        let want = template.render(&[Message::user("x"), Message::assistant("x")], &[], true).unwrap();
        prop_assert_eq!(markers(&got), markers(&want));
        if name == "chatml" {
            prop_assert_eq!(
                message::join(&got),
                format!("<|im_start|>user\n{a}<|im_end|>\n<|im_start|>assistant\n{b}<|im_end|>\n<|im_start|>assistant\n")
            );
        }
    }
}
