//! `tokenize` and `template` on the goldens of the official tokenizers and chat formats.

use serde_json::{Value, json};

use super::support::{goldens, program, read};

const FAMILIES: [&str; 2] = ["internlm", "internlm2"];

/// Marker text that only the slow class knows under this spelling (`goldens/README.md`).
fn is_slow_only(text: &str) -> bool {
    text.contains("[UNUSED_TOKEN_14")
}

#[test]
fn tokenize_encodes() {
    for family in FAMILIES {
        let Some((dir, program)) =
            goldens(&format!("tokenizers/{family}")).zip(program("tokenize"))
        else {
            return;
        };
        let mut cases: Vec<Value> = read(&dir.join("encodings.json"));
        cases.retain(|case| !is_slow_only(case["text"].as_str().expect("a text")));
        let got = program.model(&dir).arg("--special").objects(&cases);
        assert_eq!(got.len(), cases.len());
        for (got, want) in got.iter().zip(&cases) {
            assert_eq!(got["ids"], want["ids"], "{family}: {}", want["text"]);
            assert_eq!(got["tokens"], want["tokens"], "{family}: {}", want["text"]);
        }
    }
}

#[test]
fn tokenize_keeps_typed_markers_text() {
    let Some((dir, program)) = goldens("tokenizers/internlm2").zip(program("tokenize")) else {
        return;
    };
    let text = "a<|im_end|>\n<s>";
    let got = program.model(&dir).objects(&[
        json!({ "text": text }),
        json!({ "text": "Hi", "add_bos": true }),
    ]);
    let ids: Vec<u32> = serde_json::from_value(got[0]["ids"].clone()).expect("ids");
    assert!(ids.iter().all(|&id| id > 2 && id < 92538), "{ids:?}");
    assert_eq!(
        got[1],
        json!({ "ids": [1, 13195], "tokens": ["<s>", "Hi"] })
    );
}

#[test]
fn tokenize_decodes() {
    for family in FAMILIES {
        let Some((dir, program)) =
            goldens(&format!("tokenizers/{family}")).zip(program("tokenize"))
        else {
            return;
        };
        let cases: Vec<Value> = read(&dir.join("encodings.json"));
        let (mut lines, mut want) = (Vec::new(), Vec::new());
        for case in &cases {
            for (skip, field) in [(false, "decoded"), (true, "decoded_skip_special")] {
                lines.push(json!({ "ids": case["ids"], "skip_special_tokens": skip }));
                want.push(json!({ "text": case[field] }));
            }
        }
        assert_eq!(program.model(&dir).arg("--decode").objects(&lines), want);
    }
}

#[test]
fn tokenize_streams() {
    for family in FAMILIES {
        let Some((dir, program)) =
            goldens(&format!("tokenizers/{family}")).zip(program("tokenize"))
        else {
            return;
        };
        let cases: Vec<Value> = read(&dir.join("streaming.json"));
        let got = program.model(&dir).arg("--stream").objects(&cases);
        assert_eq!(got.len(), cases.len());
        for (got, want) in got.iter().zip(&cases) {
            assert_eq!(
                got["increments"], want["increments"],
                "{family}: {}",
                want["label"]
            );
            assert_eq!(got["flush"], want["flush"], "{family}: {}", want["label"]);
        }
    }
}

#[test]
fn tokenize_shows_one_text() {
    let Some((dir, program)) = goldens("tokenizers/internlm2").zip(program("tokenize")) else {
        return;
    };
    let output = program
        .model(&dir)
        .args(["--text", "Hello world"])
        .output(b"");
    assert!(output.status.success());
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(
        shown,
        "3 tokens: \"<s>\" 1, \"Hello\" 9843, \"▁world\" 2028\n"
    );
}

/// The chat formats of one family, by name of the template.
fn chats(family: &str) -> Option<Vec<Value>> {
    let chats: Value = read(&goldens("chat/templates.json")?);
    Some(chats[family].as_array().expect("a list").clone())
}

#[track_caller]
fn check(family: &str, tokenizer: &str, template: &[&str], cases: &[Value]) {
    let Some((dir, mut program)) =
        goldens(&format!("tokenizers/{tokenizer}")).zip(program("template"))
    else {
        return;
    };
    for arg in template {
        program = program.arg(arg);
    }
    // Some cases hold typed markers, which the official code lets through.
    let got = program.model(&dir).arg("--special").objects(cases);
    assert_eq!(got.len(), cases.len());
    for (got, want) in got.iter().zip(cases) {
        let prompt = want.get("prompt_without_bos").unwrap_or(&want["prompt"]);
        assert_eq!(&got["prompt"], prompt, "{family}: {}", want["name"]);
        if !want["ids"].is_null() {
            assert_eq!(got["ids"], want["ids"], "{family}: {}", want["name"]);
        }
    }
}

#[test]
fn template_renders_internlm() {
    let Some(cases) = chats("internlm_chat_v1") else {
        return;
    };
    let (legacy, plain): (Vec<_>, Vec<_>) = cases
        .into_iter()
        .partition(|case| case["name"] == "legacy_eoh_variant");
    check("internlm_chat_v1", "internlm", &[], &plain);
    check(
        "internlm_chat_v1",
        "internlm",
        &["--template", "internlm-chat-eoh"],
        &legacy,
    );
}

#[test]
fn template_renders_internlm2_and_3() {
    for (family, template) in [
        ("internlm2_chat", &[][..]),
        ("internlm2_chat", &["--template", "internlm2-chat"]),
        ("internlm3_instruct", &["--template", "internlm3-instruct"]),
    ] {
        let Some(cases) = chats(family) else {
            return;
        };
        check(family, "internlm2", template, &cases);
    }
}

#[test]
fn template_keeps_typed_markers_text_but_not_the_models_own() {
    let Some((dir, program)) = goldens("tokenizers/internlm2").zip(program("template")) else {
        return;
    };
    let conversation = json!({
        "messages": [
            { "role": "user", "content": "<|im_end|>" },
            { "role": "assistant", "content": "<|action_start|>" },
        ],
        "add_generation_prompt": false,
    });
    let got = program.model(&dir).objects(&[conversation]);
    let ids: Vec<u32> = serde_json::from_value(got[0]["ids"].clone()).expect("ids");
    let count = |wanted| ids.iter().filter(|&&id| id == wanted).count();
    assert_eq!((count(92542), count(92541)), (2, 1), "{ids:?}");
}

#[test]
fn template_needs_no_tokenizer_for_the_text() {
    let Some(program) = program("template") else {
        return;
    };
    let conversation = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    let got = program
        .args(["--template", "internlm2-chat"])
        .objects(&[conversation]);
    let prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(got, [json!({ "prompt": prompt, "ids": null })]);
}
