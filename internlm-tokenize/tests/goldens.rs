//! InternLM's and InternLM2's tokenizers against the official Python classes.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use internlm_tokenize::{EncodeOptions, Tokenizer};
use serde_json::Value;
use support::{ids, json, shared};

/// Families, and the least number of encodings.
const FAMILIES: [(&str, usize); 2] = [("internlm", 174), ("internlm2", 182)];

fn each_case(file: &str, mut check: impl FnMut(&Tokenizer, &str, &Value)) {
    for (family, cases) in FAMILIES {
        let Some(folder) = shared(&format!("goldens/tokenizers/{family}")) else {
            return;
        };
        let tokenizer = Tokenizer::load(&folder).unwrap();
        let golden = json(&folder.join(file));
        let golden = golden.as_array().unwrap();
        if file == "encodings.json" {
            assert!(golden.len() >= cases, "{family}: {} cases", golden.len());
        }
        for case in golden {
            check(&tokenizer, &format!("{family} {}", case["id"]), case);
        }
    }
}

#[test]
fn ids_and_tokens_are_those_of_the_official_class() {
    each_case("encodings.json", |tokenizer, name, case| {
        let options = EncodeOptions {
            add_bos: case["add_bos"].as_bool().unwrap(),
            special: true,
        };
        let text = case["text"].as_str().unwrap();
        let got = tokenizer.encode(text, options).unwrap();
        assert_eq!(got, ids(&case["ids"]), "{name}: {text:?}");
        let tokens: Vec<_> = got
            .iter()
            .map(|&id| tokenizer.id_to_token(id).unwrap())
            .collect();
        assert_eq!(serde_json::json!(tokens), case["tokens"], "{name}");
    });
}

#[test]
fn texts_without_markers_do_not_depend_on_the_mode() {
    let mut compared = 0;
    each_case("encodings.json", |tokenizer, name, case| {
        let text = case["text"].as_str().unwrap();
        if tokenizer.parse_markers(text).iter().any(is_marker) {
            return;
        }
        let options = EncodeOptions {
            add_bos: case["add_bos"].as_bool().unwrap(),
            special: false,
        };
        assert_eq!(
            tokenizer.encode(text, options).unwrap(),
            ids(&case["ids"]),
            "{name}"
        );
        compared += 1;
    });
    assert!(compared == 0 || compared > 300, "{compared}");
}

fn is_marker(part: &internlm_core::Part) -> bool {
    matches!(part, internlm_core::Part::Marker { .. })
}

#[test]
fn decoding_gives_the_text_back() {
    each_case("encodings.json", |tokenizer, name, case| {
        let ids = ids(&case["ids"]);
        for (skip, field) in [(false, "decoded"), (true, "decoded_skip_special")] {
            let text = tokenizer.decode(&ids, skip).unwrap();
            assert_eq!(text, case[field].as_str().unwrap(), "{name} {field}");
        }
    });
}

#[test]
fn streaming_emits_what_is_certain() {
    each_case("streaming.json", |tokenizer, name, case| {
        let skip = case["skip_special_tokens"].as_bool().unwrap();
        let ids = ids(&case["ids"]);
        let mut detokenizer = tokenizer.detokenizer(skip);
        for (id, want) in ids.iter().zip(case["increments"].as_array().unwrap()) {
            assert_eq!(
                detokenizer.push(*id).unwrap(),
                want.as_str().unwrap(),
                "{name}"
            );
        }
        assert_eq!(
            detokenizer.flush(),
            case["flush"].as_str().unwrap(),
            "{name}"
        );
        assert_eq!(
            tokenizer.decode(&ids, skip).unwrap(),
            case["full_text"].as_str().unwrap(),
            "{name}"
        );
    });
}

#[test]
fn markers_in_plain_text_stay_text() {
    let Some(folder) = shared("goldens/tokenizers/internlm2") else {
        return;
    };
    let tokenizer = Tokenizer::load(folder).unwrap();
    let markers: Vec<_> = tokenizer.special_tokens().collect();
    assert!(markers.contains(&("<|im_end|>", 92542)));
    assert!(markers.contains(&("[UNUSED_TOKEN_145]", 92542)));
    for (marker, id) in markers {
        let text = format!("a {marker}{marker} b");
        let plain = tokenizer.encode(&text, EncodeOptions::default()).unwrap();
        assert!(!plain.contains(&id), "{marker}");
        assert_eq!(tokenizer.decode(&plain, true).unwrap(), text);
    }
    // A user-defined piece that is no markup matches all the same.
    let dash = tokenizer.encode("——", EncodeOptions::default()).unwrap();
    assert_eq!(dash, [92395]);
}

#[test]
fn a_chat_prompt_of_parts_has_the_ids_of_its_template() {
    let Some(file) = shared("goldens/chat/templates.json") else {
        return;
    };
    let golden = json(&file);
    let mut compared = 0;
    for (family, chats) in [
        ("internlm", "internlm_chat_v1"),
        ("internlm2", "internlm2_chat"),
    ] {
        let folder = shared(&format!("goldens/tokenizers/{family}")).unwrap();
        let tokenizer = Tokenizer::load(folder).unwrap();
        for case in golden[chats].as_array().unwrap() {
            let prompt = case["prompt"].as_str().unwrap();
            let parts = tokenizer.parse_markers(prompt);
            assert_eq!(internlm_core::message::join(&parts), prompt);
            let got = tokenizer.encode_parts(&parts, true).unwrap();
            assert_eq!(got, ids(&case["ids"]), "{chats} {}", case["name"]);
            compared += 1;
        }
    }
    assert!(compared >= 23, "{compared}");
}
