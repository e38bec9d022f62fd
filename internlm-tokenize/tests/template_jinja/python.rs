//! The same prompts as Python's.

use internlm_core::{Message, Part, message};
use internlm_tokenize::{ChatTemplate, Error};

use super::{fixture, markers, special, template};

#[test]
fn as_python() {
    let fixture = fixture();
    assert!(fixture.cases.len() > 100);
    let mut wrong = Vec::new();
    for case in &fixture.cases {
        let request = &fixture.requests[&case.case];
        let template = template(&fixture.templates[&case.template]).with_now(fixture.now);
        let got = template.render(
            &request.messages,
            &request.tools,
            request.add_generation_prompt.unwrap_or(true),
        );
        let at = format!("{} / {}", case.template, case.case);
        if at == "qwen3 / thinking" {
            continue; // see `special_tokens_that_a_template_looks_for`
        }
        match (got, &case.prompt, &case.raised) {
            (Ok(parts), Some(want), _) => {
                let got = message::join(&parts);
                if got != *want {
                    wrong.push(format!("{at}\n got {got:?}\nwant {want:?}"));
                }
            }
            (Err(Error::TemplateRefused { message }), _, Some(want)) => assert_eq!(message, *want),
            (got, _, _) => wrong.push(format!("{at}: {got:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Qwen3's template cuts `<think>…</think>` out of former answers. Where these are special tokens
/// it does not see them in untrusted text, which is the price of that text never being markers; in
/// trusted content, or where they are no special tokens, it does.
#[test]
fn special_tokens_that_a_template_looks_for() {
    let fixture = fixture();
    let source = &fixture.templates["qwen3"];
    let case = fixture
        .cases
        .iter()
        .find(|case| case.template == "qwen3" && case.case == "thinking");
    let want = case.unwrap().prompt.clone().unwrap();
    let messages = &fixture.requests["thinking"].messages;

    let got = template(source).render(messages, &[], true).unwrap();
    assert!(message::join(&got).contains("<think>\nadd\n</think>\n\n2<|im_end|>"));
    assert!(!markers(&got).contains(&"<think>"));

    let mut trusted = messages.clone();
    trusted[1].content = vec![
        Part::marker("<think>"),
        Part::text("\nadd\n"),
        Part::marker("</think>"),
        Part::text("\n\n2"),
    ];
    let got = template(source).render(&trusted, &[], true).unwrap();
    assert_eq!(message::join(&got), want);

    let mut no_thinking = special();
    no_thinking.all.retain(|token| !token.contains("think"));
    let template = ChatTemplate::jinja(source, no_thinking).unwrap();
    let got = template.render(messages, &[], true).unwrap();
    assert_eq!(message::join(&got), want);
}

#[test]
fn roles_of_results() {
    let result = Message::environment("r");
    let mut answer = result.clone();
    answer.tool_call_id = Some("call_1".to_owned());
    for (source, of_result, of_answer) in [
        ("{{ messages[0].role }}", "environment", "tool"),
        ("{% if messages[0].role == 'tool' %}T{% endif %}", "T", "T"),
        (
            "{{ messages[0].role }}{{ 'environment' == \"tool\" }}",
            "environmentFalse",
            "environmentFalse",
        ),
    ] {
        for (message, want) in [(&result, of_result), (&answer, of_answer)] {
            let parts = template(source)
                .render(std::slice::from_ref(message), &[], true)
                .unwrap();
            assert_eq!(message::join(&parts), want, "{source}");
        }
    }
}

#[test]
fn stop_tokens_are_found() {
    let fixture = fixture();
    for (name, want) in [
        ("chatml", &["<|im_end|>", "</s>"][..]),
        ("llama2", &["</s>"]),
        ("llama3_1", &["<|eot_id|>", "</s>"]),
        ("phi3", &["<|end|>", "</s>"]),
        ("zephyr", &["</s>"]),
        ("gemma", &["<end_of_turn>", "</s>"]),
        ("internlm1", &["<eoa>", "</s>"]),
        ("generation_tags", &["<|im_end|>", "</s>"]),
        ("python_values", &["</s>"]),
    ] {
        assert_eq!(
            template(&fixture.templates[name]).stop_tokens(),
            want,
            "{name}"
        );
    }
}

#[test]
fn templates_say_whether_they_read_tools() {
    for (source, reads) in [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", false),
        ("{% if tools %}{{ tools | tojson }}{% endif %}", true),
        ("{% set tools = [] %}{{ tools }}", false),
        ("{# tools #}{{ messages[0].tools }}", false),
    ] {
        assert_eq!(template(source).reads_tools(), reads, "{source}");
    }
}
