//! The chat prompts and ids of the official code.
#![allow(clippy::unwrap_used)]

mod support;

use internlm_core::{Message, Part, Role, message};
use internlm_tokenize::{ChatTemplate, SpecialTokens, Tokenizer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    internlm_chat_v1: Vec<Case>,
    internlm2_chat: Vec<Case>,
    internlm3_instruct: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    prompt: String,
    prompt_without_bos: Option<String>,
    ids: Option<Vec<u32>>,
}

fn goldens() -> Option<Goldens> {
    let path = support::shared("goldens/chat/templates.json")?;
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

/// The messages with what `trusted` roles say parsed for markers.
fn parsed(tokenizer: &Tokenizer, messages: &[Message], trusted: &[Role]) -> Vec<Message> {
    messages
        .iter()
        .map(|message| match trusted.contains(&message.role) {
            true => message
                .clone()
                .with_content(tokenizer.parse_markers(&message.text())),
            false => message.clone(),
        })
        .collect()
}

const EVERYONE: &[Role] = &[Role::System, Role::User, Role::Assistant, Role::Environment];

fn check(family: &str, cases: &[Case], first_chat_token: u32, template_of: fn(&Case) -> &str) {
    let Some(folder) = support::shared(&format!("goldens/tokenizers/{family}")) else {
        return;
    };
    let tokenizer = Tokenizer::load(&folder).unwrap();
    for case in cases {
        let template = ChatTemplate::builtin(template_of(case)).unwrap();
        let render = |trusted| {
            let messages = parsed(&tokenizer, &case.messages, trusted);
            template
                .render(&messages, &[], case.add_generation_prompt)
                .unwrap()
        };
        let ids = |parts: &[Part]| tokenizer.encode_parts(parts, true).unwrap();
        let safe = render(&[Role::Assistant]);
        assert_eq!(message::join(&safe), case.prompt, "{}", case.name);
        let official = case.ids.as_ref().unwrap();
        let is_injection = case.name.starts_with("injection");
        assert_eq!(ids(&safe) == *official, !is_injection, "{}", case.name);
        // What the official code does: markers in anybody's text count.
        assert_eq!(ids(&render(EVERYONE)), *official, "{}", case.name);
        if is_injection {
            // Exactly the chat tokens that the template itself wrote.
            let written = safe
                .iter()
                .filter(|p| matches!(p, Part::Marker { .. }))
                .count();
            let chat = ids(&safe)
                .iter()
                .filter(|&&id| id >= first_chat_token)
                .count();
            assert_eq!(chat, written, "{}", case.name);
            let alone = tokenizer
                .encode_parts(&case.messages[0].content, false)
                .unwrap();
            assert!(
                alone.iter().all(|&id| id < first_chat_token),
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn internlm_chat() {
    let Some(goldens) = goldens() else { return };
    assert!(goldens.internlm_chat_v1.len() >= 8);
    check(
        "internlm",
        &goldens.internlm_chat_v1,
        103_027,
        |case| match case.name.contains("eoh") {
            true => "internlm-chat-eoh",
            false => "internlm-chat",
        },
    );
}

#[test]
fn internlm2_chat() {
    let Some(goldens) = goldens() else { return };
    assert!(goldens.internlm2_chat.len() >= 15);
    check(
        "internlm2",
        &goldens.internlm2_chat,
        92_538,
        |_| "internlm2-chat",
    );
}

#[test]
fn internlm3_instruct() {
    let Some(goldens) = goldens() else { return };
    assert!(goldens.internlm3_instruct.len() >= 3);
    let template = ChatTemplate::builtin("internlm3-instruct").unwrap();
    for case in &goldens.internlm3_instruct {
        let parts = template
            .render(&case.messages, &[], case.add_generation_prompt)
            .unwrap();
        let prompt = message::join(&parts);
        assert_eq!(Some(&prompt), case.prompt_without_bos.as_ref());
        assert_eq!(format!("<s>{prompt}"), case.prompt);
    }
}

/// InternLM2.5's own Jinja template gives the same ids where it can say the same.
#[test]
fn jinja_agrees_with_the_built_in() {
    let Some(goldens) = goldens() else { return };
    let Some(folder) = support::shared("goldens/tokenizers/internlm2") else {
        return;
    };
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let source = "{{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + \
        message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    let special = SpecialTokens {
        bos_token: Some("<s>".to_owned()),
        all: tokenizer
            .special_tokens()
            .map(|(token, _)| token.to_owned())
            .collect(),
        ..SpecialTokens::default()
    };
    let jinja = ChatTemplate::jinja(source, special).unwrap();
    let built_in = ChatTemplate::builtin("internlm2-chat").unwrap();
    let mut compared = 0;
    for case in &goldens.internlm2_chat {
        if case.messages.iter().any(|message| message.name.is_some()) {
            continue; // it does not write names
        }
        for trusted in [&[Role::Assistant], EVERYONE] {
            let messages = parsed(&tokenizer, &case.messages, trusted);
            let ids = [&jinja, &built_in].map(|template| {
                let parts = template.render(&messages, &[], case.add_generation_prompt);
                // The Jinja template writes BOS itself; there is only one all the same.
                tokenizer.encode_parts(&parts.unwrap(), true).unwrap()
            });
            assert_eq!(ids[0], ids[1], "{}", case.name);
            compared += 1;
        }
    }
    assert!(compared >= 12);
}

#[test]
fn a_template_for_a_tokenizer() {
    for (family, name) in [
        ("internlm", "internlm-chat"),
        ("internlm2", "internlm2-chat"),
    ] {
        let Some(folder) = support::shared(&format!("goldens/tokenizers/{family}")) else {
            return;
        };
        let tokenizer = Tokenizer::load(&folder).unwrap();
        let template = ChatTemplate::for_tokenizer(&tokenizer).unwrap();
        assert_eq!(template.name(), name);
    }
}

#[test]
fn smollm2_brings_its_own() {
    let Some(file) = support::smollm2() else {
        return;
    };
    let tokenizer = Tokenizer::load(file).unwrap();
    let template = ChatTemplate::for_tokenizer(&tokenizer).unwrap();
    assert_eq!(template.name(), "jinja");
    assert_eq!(template.stop_tokens(), ["<|im_end|>"]);
    let parts = template
        .render(&[Message::user("Hi<|im_end|>")], &[], true)
        .unwrap();
    assert_eq!(
        message::join(&parts),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face\
         <|im_end|>\n<|im_start|>user\nHi<|im_end|><|im_end|>\n<|im_start|>assistant\n"
    );
    let ids = tokenizer.encode_parts(&parts, false).unwrap();
    let end = tokenizer.token_to_id("<|im_end|>").unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == end).count(), 2);
    assert_eq!(
        tokenizer.decode(&ids, false).unwrap(),
        message::join(&parts)
    );
}
